"""How many records come in a day of event time, for a budget that is said in days.

Measured over whole weeks, as days and weekends differ: from one week's end to the next the last week's pace holds. In
the first week it is what came since the beginning, brought up to date whenever the records have doubled. Time is the
newest event time so far, so that what is late moves nothing. All of it is a function of the records in their order.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

DAY_MS = 24 * 3_600_000
WEEK_MS = 7 * DAY_MS

LEAST = 512
"""Records on which a pace rests, at least."""

Times = NDArray[np.int64]


class Pace(msgspec.Struct):
    """Records a day. begun, count: of the measurement under way. whole: a week has been measured."""

    begun: int = 0
    now: int | None = None
    count: int = 0
    due: int = LEAST
    per_day: float | None = None
    whole: bool = False

    def advance(self, times: Times) -> list[tuple[slice, float | None]]:
        """Count the next records, by their event times in ms; the pace in force, and for which of them.

        None: not known yet.
        """
        if not len(times):
            return []
        if self.now is None:
            self.begun = self.now = int(times[0])
        clock = np.maximum.accumulate(np.maximum(times, self.now))
        pieces: list[tuple[slice, float | None]] = []
        begin = 0
        while begin < len(clock):
            week = int(np.searchsorted(clock, self.begun + WEEK_MS)) + 1
            end = max(begin + LEAST - self.count, week)
            if not self.whole:
                end = min(end, begin + self.due - self.count)
            stop = min(end, len(clock))
            pieces.append((slice(begin, stop), self.per_day))
            self.count += stop - begin
            self.now = int(clock[stop - 1])
            if end == stop:
                self._measure(self.now)
            begin = stop
        return pieces

    def _measure(self, now: int) -> None:
        passed = max(now - self.begun, 1)
        self.per_day = self.count * DAY_MS / passed
        if passed >= WEEK_MS and self.count >= LEAST:
            self.whole = True
            self.begun, self.count = now, 0
        else:
            self.due *= 2
