"""Which record of the stream was the n-th that a watch saw: bounded, exact for the newest, coarser for what is older.

A change is dated after it happened: most by a few thousand records at most, so every `STRIDE`-th of the newest is kept;
of those before, fewer and fewer: when there are too many, every other one is dropped and the stride doubles. What the
places are (an index, an offset, a time) is the caller's.
"""

import msgspec

STRIDE = 8
NEWEST = 1_024
AGED = 384
"""Of the newest that grow old at a time: at least 5,120 records lie among those that do not."""
KEPT = 512


class Positions(msgspec.Struct):
    """Places by count; at most NEWEST of the newest and KEPT of those before. aged: how many left the newest so far."""

    count: int = 0
    newest: list[int] = []
    aged: int = 0
    stride: int = STRIDE
    places: list[int] = []

    def add(self, place: int) -> None:
        """Note where the next record is."""
        if self.count % STRIDE == 0:
            if len(self.newest) == NEWEST:
                self._age()
            self.newest.append(place)
        self.count += 1

    def extend(self, places: list[int]) -> None:
        """Note where the next records are, in order."""
        end = self.count + len(places)
        for at in range(-self.count % STRIDE, len(places), STRIDE):
            self.count += -self.count % STRIDE
            self.add(places[at])
        self.count = end

    def of(self, count: int) -> int:
        """The place of the last noted record at or before the one numbered `count` (from 0); -1 if there is none."""
        at = count // STRIDE - self.aged
        if at >= 0 or not self.places:
            return self.newest[min(max(at, 0), len(self.newest) - 1)] if self.newest else -1
        return self.places[min(count // self.stride, len(self.places) - 1)]

    def _age(self) -> None:
        for place in self.newest[:AGED]:
            if self.aged * STRIDE % self.stride == 0:
                if len(self.places) == KEPT:
                    self.places = self.places[::2]
                    self.stride *= 2
                if self.aged * STRIDE % self.stride == 0:
                    self.places.append(place)
            self.aged += 1
        del self.newest[:AGED]
