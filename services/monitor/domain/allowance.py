"""What false alarms a partition may have, as records come: a budget in days follows the partition's pace."""

from collections.abc import Sequence

import numpy as np

from services.monitor.domain.drift.budget import Budget
from services.monitor.domain.drift.pace import Pace, Times
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

    def pieces(self, times: Times) -> list[tuple[slice, Budget]]:
        """Count the next records, by event time in ms; spans of them, and the budget for each."""
        paced = self.pace.advance(times)
        if self._tolerance.false_alarm_days is None:
            return [(slice(0, len(times)), self.budget)]
        return [(span, self._tolerance.budget(per_day)) for span, per_day in paced]

    def rows(self, at: Sequence[int | None]) -> list[tuple[slice, Budget]]:
        """As `pieces`, of rows among which some are no events (None)."""
        known = [row for row, one in enumerate(at) if one is not None]
        pieces = self.pieces(np.array(at if len(known) == len(at) else [at[row] for row in known], np.int64))
        if len(pieces) <= 1:
            return [(slice(0, len(at)), self.budget if not pieces else pieces[0][1])]
        begins = [0, *(known[span.start] for span, _ in pieces[1:]), len(at)]
        return [
            (slice(begin, end), budget)
            for begin, end, (_, budget) in zip(begins, begins[1:], pieces, strict=False)
        ]
