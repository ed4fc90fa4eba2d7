"""Looks for drift in the columns of one topic: a detector a kind of topic, beside the counter that fills its windows.

Detectors are given every record once, in log order, by the transactional host, and what they find is emitted with the
batch. So it is told exactly once, and is the same whatever was batched how and whatever crashed. Offsets are the log's.

Every partition is watched by itself, as its shard is a model by itself; false alarms are counted over records, so that
costs the budget nothing. All models are watched, and only what concerns who answered is told: a challenger that takes
over is known already.
"""

from typing import Protocol, TypeVar

import msgspec
import numpy as np

from headrace.contracts.statistics import ContractFacts
from services.monitor.domain.columns import Columns, LogColumns, PredictionColumns, Said
from services.monitor.domain.drift.concept import Task
from services.monitor.domain.drift.data import DataState, DataWatch, prediction_watch
from services.monitor.domain.drift.distribution import Columns as Values
from services.monitor.domain.drift.distribution import DistributionState, DistributionWatch
from services.monitor.domain.finding import (
    Found,
    Roster,
    Source,
    Spot,
    Tolerance,
    Track,
    place_of,
    share,
    task_of,
    told,
)

C_contra = TypeVar("C_contra", bound=Columns, contravariant=True)

NUMBERS = ("integer", "number")
"""Types of features that are watched as numbers. A time always moves."""
TEXTS = ("string", "boolean")


class Detector(Protocol[C_contra]):
    """Looks at columns. Bounds: those of its watches."""

    def detect(self, columns: C_contra) -> list[Found]:
        """Look at the next rows; what was found, in the order in which it was."""
        ...

    def state(self) -> bytes:
        """All of it, as JSON."""
        ...

    def resume(self, state: bytes) -> None:
        """Go on from there. Raises `msgspec.MsgspecError` if it is no state of this."""
        ...


# -- data -------------------------------------------------------------------------------------------------------------


class LogState(msgspec.Struct):
    """All of a log's detector."""

    facts: ContractFacts | None
    track: Track
    watch: DataState | None


class LogDetector:
    """Data drift: every feature by itself, and the numbers in pairs. Another contract is another beginning."""

    def __init__(self, source: Source, tolerance: Tolerance) -> None:
        self._source = source
        self._threshold = share(tolerance.budget, "data", {"": 1.0})[""]
        self._begin(None)

    def detect(self, columns: LogColumns) -> list[Found]:
        """Look at observations; see the protocol."""
        if columns.facts is not None and columns.facts != self._facts:
            self._begin(columns.facts)
        rows = columns.observed.tolist()
        if self._watch is None or not rows:
            return []
        spots = [Spot(columns.offsets[row], columns.at[row] or 0) for row in rows]
        first = self._track.count
        self._track.extend(spots)
        return [
            told(self._source, alarm, "", spots[alarm.index - first], self._track.spot(alarm.since))
            for alarm in self._watch.update({**columns.numbers, **columns.texts}, len(rows))
        ]

    def state(self) -> bytes:
        """See the protocol."""
        watch = None if self._watch is None else self._watch.state()
        return msgspec.json.encode(LogState(self._facts, self._track, watch))

    def resume(self, state: bytes) -> None:
        """See the protocol."""
        read = msgspec.json.decode(state, type=LogState)
        self._begin(read.facts)
        self._track = read.track
        if self._watch is not None and read.watch is not None:
            self._watch.resume(read.watch)

    def _begin(self, facts: ContractFacts | None) -> None:
        self._facts, self._track = facts, Track()
        features = [] if facts is None else [(name, facts.types[name]) for name in facts.fields]
        numeric = [name for name, kind in features if kind in NUMBERS]
        categorical = [name for name, kind in features if kind in TEXTS]
        self._watch: DataWatch | None = None
        if numeric or categorical:
            self._watch = DataWatch(numeric, categorical, self._threshold)


# -- predictions ------------------------------------------------------------------------------------------------------


class AnswersState(msgspec.Struct):
    """All that is known of one model's answers."""

    task: Task | None
    track: Track
    watch: DistributionState | None


class Answers:
    """What one model version answers, from its first answer on."""

    def __init__(self, name: str, source: Source, tolerance: Tolerance) -> None:
        self._name, self._source = name, source
        self._threshold = share(tolerance.budget, "prediction", {"": 1.0})[""]
        self._track = Track()
        self._task: Task | None = None
        self._watch: DistributionWatch | None = None

    def update(self, columns: PredictionColumns, said: Said, span: slice) -> list[Found]:
        """Look at the next of what it said."""
        spoken = list(range(span.start, span.stop))
        if self._task is None:
            spoken = spoken[
                next((at for at, one in enumerate(spoken) if said.answers[one] is not None), len(spoken)) :
            ]
            if not spoken:
                return []
            self._begin(task_of(said.answers[spoken[0]]))
        assert self._watch is not None
        records = [columns.records[row] for row in said.rows[spoken].tolist()]
        spots = [Spot(one.offset, one.at) for one in records if one is not None]
        first = self._track.count
        self._track.extend(spots)
        return [
            told(self._source, alarm, self._name, spots[alarm.index - first], self._track.spot(alarm.since))
            for alarm in self._watch.update(self._values(said, spoken), len(spoken))
            if said.places[spoken[alarm.index - first]] == 0
        ]

    def state(self) -> AnswersState:
        """All of it."""
        return AnswersState(self._task, self._track, None if self._watch is None else self._watch.state())

    def resume(self, state: AnswersState) -> None:
        """Go on from there."""
        self._track = state.track
        if state.task is not None and state.watch is not None:
            self._begin(state.task).resume(state.watch)

    def _begin(self, task: Task) -> DistributionWatch:
        self._task, self._watch = task, prediction_watch(task, self._threshold, model=self._name)
        return self._watch

    def _values(self, said: Said, spoken: list[int]) -> Values:
        answers = [said.answers[place] for place in spoken]
        if self._task == "regression":
            return {
                "answer": np.array(
                    [one if isinstance(one, int | float) else None for one in answers], np.float64
                )
            }
        return {
            "score": said.scores[spoken],
            "answer": [None if one is None else str(one).lower() for one in answers],
        }


class PredictionState(msgspec.Struct):
    """All of a detector of predictions."""

    rows: int
    last: dict[str, int]
    models: dict[str, AnswersState]


class PredictionDetector:
    """Prediction drift: what each model version answers."""

    def __init__(self, source: Source, tolerance: Tolerance) -> None:
        self._roster: Roster[Answers] = Roster(lambda name: Answers(name, source, tolerance))

    def detect(self, columns: PredictionColumns) -> list[Found]:
        """Look at predictions; see the protocol."""
        models = columns.models
        spoken = {name: said.rows for name, said in models.items()}
        found: list[Found] = []
        for name, watch, span in self._roster.runs(spoken, len(columns.records)):
            found += watch.update(columns, models[name], span)
        return sorted(found, key=place_of)

    def state(self) -> bytes:
        """See the protocol."""
        roster = self._roster
        models = {name: watch.state() for name, watch in roster.watches.items()}
        return msgspec.json.encode(PredictionState(roster.rows, roster.last, models))

    def resume(self, state: bytes) -> None:
        """See the protocol."""
        read = msgspec.json.decode(state, type=PredictionState)
        for name, watch in self._roster.resume(read.rows, read.last):
            watch.resume(read.models[name])
