"""Which record of the stream was the n-th that a watch saw: bounded, coarser the longer it goes on.

A change is dated long after it happened, so places are kept for every `stride`-th record; when there are too many,
every other one is dropped and the stride doubles. What the places are (an index, an offset, a time) is the caller's.
"""

import msgspec

STRIDE = 8
KEPT = 1_024


class Positions(msgspec.Struct):
    """Places by count; at most KEPT of them."""

    count: int = 0
    stride: int = STRIDE
    places: list[int] = []

    def add(self, place: int) -> None:
        """Note where the next record is."""
        if self.count % self.stride == 0:
            if len(self.places) == KEPT:
                self.places = self.places[::2]
                self.stride *= 2
            if self.count % self.stride == 0:
                self.places.append(place)
        self.count += 1

    def extend(self, places: list[int]) -> None:
        """Note where the next records are, in order."""
        first = -self.count % self.stride
        if first >= len(places):
            self.count += len(places)
            return
        self.count += first
        for at in range(first, len(places), STRIDE):
            self.add(places[at])
            self.count += min(STRIDE, len(places) - at) - 1

    def of(self, count: int) -> int:
        """The place of the last noted record at or before the one numbered `count` (from 0); -1 if there is none."""
        at = min(count // self.stride, len(self.places) - 1)
        return self.places[at] if at >= 0 else -1
