"""Which record of the stream was the n-th that a watch saw: bounded, fine for the newest, coarser the longer ago.

A change is dated after it happened: most by a few thousand records at most, those of volume by weeks. So places are
kept at several strides, of each the newest. What the places are (an index, an offset, a time) is the caller's.
"""

import msgspec

STRIDES = (8, 128, 2_048, 32_768, 524_288)
KEPT = (640, 128, 128, 128, 128)
"""Places at each stride: the newest 5,120 records are known to 8, the newest 16,384 to 128, and so on."""


class Positions(msgspec.Struct):
    """Places by count. levels: by stride, the newest of those at its multiples."""

    count: int = 0
    levels: list[list[int]] = msgspec.field(default_factory=lambda: [[] for _ in STRIDES])

    def add(self, place: int) -> None:
        """Note where the next record is."""
        for stride, kept, places in zip(STRIDES, KEPT, self.levels, strict=True):
            if self.count % stride:
                break
            if len(places) == kept:
                del places[0]
            places.append(place)
        self.count += 1

    def extend(self, places: list[int]) -> None:
        """Note where the next records are, in order."""
        end = self.count + len(places)
        for at in range(-self.count % STRIDES[0], len(places), STRIDES[0]):
            self.count += -self.count % STRIDES[0]
            self.add(places[at])
        self.count = end

    def of(self, count: int) -> int:
        """The place of the last noted record at or before the one numbered `count` (from 0); -1 if there is none.

        Of one that is too long ago: the first that is known.
        """
        count = min(count, self.count - 1)
        for stride, places in zip(STRIDES, self.levels, strict=True):
            first = (self.count - 1) // stride - len(places) + 1
            if places and count // stride >= first:
                return places[count // stride - first]
        return self.levels[-1][0] if self.count else -1
