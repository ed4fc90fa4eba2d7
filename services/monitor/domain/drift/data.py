"""What is watched of a stream's features, and of a model's predictions: which fields go to which watch, for what
share.
"""

from collections.abc import Mapping, Sequence

import msgspec

from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.arrays import Floats
from services.monitor.domain.drift.concept import Task
from services.monitor.domain.drift.distribution import Columns, DistributionState, DistributionWatch
from services.monitor.domain.drift.pairs import PairState, PairWatch

PAIRS = 0.25
"""Share of the budget for all correlations together; the fields have the rest, evenly."""


class DataState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    fields: DistributionState
    pairs: PairState | None


class DataWatch:
    """The features of a stream: each field by itself, and numeric ones in pairs.

    threshold: records for one false alarm of everything here. reference: observations learnt before anything is judged.
    """

    def __init__(
        self,
        numeric: Sequence[str],
        categorical: Sequence[str],
        threshold: float,
        *,
        reference: int = 2_048,
    ) -> None:
        paired = len(numeric) >= 2
        thresholds = evenly((*numeric, *categorical), threshold, paired=paired)
        self.fields = DistributionWatch("data", numeric, categorical, thresholds, reference=reference)
        self.pairs = PairWatch(numeric, threshold / PAIRS, reference=reference) if paired else None

    def allow(self, threshold: float) -> None:
        """Another threshold from the next block on; nothing is forgotten."""
        self.fields.allow(evenly(self.fields.fields, threshold, paired=self.pairs is not None))
        if self.pairs is not None:
            self.pairs.allow(threshold / PAIRS)

    def update(self, columns: Columns, count: int) -> list[Alarm]:
        """Judge the next `count` observations; alarms in order of the records that decided them.

        columns: by field, `count` values each; numbers as float64, NaN if missing; categories as text, None if missing.
        """
        found = self.fields.update(columns, count)
        if self.pairs is not None:
            numbers: Mapping[str, Floats] = columns  # type: ignore[assignment]  # only numeric fields are looked up
            found += self.pairs.update(numbers, count)
        return sorted(found, key=lambda alarm: alarm.index)

    def restart(self) -> None:
        """Forget all references: what comes next is a new one."""
        self.fields.restart()
        if self.pairs is not None:
            self.pairs.restart()

    def state(self) -> DataState:
        """All of it, to go on from elsewhere."""
        return DataState(self.fields.state(), self.pairs.state() if self.pairs is not None else None)

    def resume(self, state: DataState) -> None:
        """Go on from there; the watch was made with the same arguments."""
        self.fields.resume(state.fields)
        if self.pairs is not None and state.pairs is not None:
            self.pairs.resume(state.pairs)


def prediction_watch(
    task: Task, threshold: float, *, model: str = "", reference: int = 2_048
) -> DistributionWatch:
    """A model's predictions, by the columns `score` (binary: P(positive)) and `answer` (class as text, or a number).

    threshold: records for one false alarm of both together.
    """
    numeric = {"binary": ["score"], "multiclass": [], "regression": ["answer"]}[task]
    categorical = [] if task == "regression" else ["answer"]
    thresholds = evenly((*numeric, *categorical), threshold)
    return DistributionWatch("prediction", numeric, categorical, thresholds, reference=reference, model=model)


def evenly(fields: Sequence[str], threshold: float, *, paired: bool = False) -> dict[str, float]:
    """Records for one false alarm, for each field, if all of them (and their pairs) have `threshold`."""
    return dict.fromkeys(fields, threshold * len(fields) / (1.0 - PAIRS if paired else 1.0))
