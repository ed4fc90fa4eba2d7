"""What false alarms a partition may have, as records come: a budget in days follows the partition's pace."""

from collections.abc import Sequence

import numpy as np

from services.monitor.domain.drift.budget import Budget
from services.monitor.domain.drift.pace import Pace
from services.monitor.domain.tolerance import Tolerance


class Allowance:
    """The budget in force. The pace is always measured, so that a budget in days can be said at any time."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self.pace = Pace()

    @property
    def budget(self) -> Budget:
        """For what comes next."""
        return self._tolerance.budget(self.pace.per_day)

    def pieces(self, at: Sequence[int | None]) -> list[tuple[slice, Budget]]:
        """Count the next records, by event time in ms (None: no event); spans of them, and the budget for each."""
        known = [place for place, one in enumerate(at) if one is not None]
        paced = self.pace.advance(np.array([at[place] for place in known], np.int64))
        if self._tolerance.false_alarm_days is None or not paced:
            return [(slice(0, len(at)), self.budget)]
        begins = [0, *(known[span.start] for span, _ in paced[1:]), len(at)]
        return [
            (slice(begin, end), self._tolerance.budget(per_day))
            for begin, end, (_, per_day) in zip(begins, begins[1:], paced, strict=False)
        ]
