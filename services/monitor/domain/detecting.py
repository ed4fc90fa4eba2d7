"""Looks for drift in the columns of one topic: a detector a kind of topic, beside the counter that fills its windows.

Detectors are given every record once, in log order, by the transactional host, and what they find is emitted with the
batch. So it is told exactly once, and is the same whatever was batched how and whatever crashed. Offsets are the log's.

Every partition is watched by itself, as its shard is a model by itself; false alarms are counted over records, so that
costs the budget nothing. All models are watched, and only what concerns who answered is told: a challenger that takes
over is known already.
"""

from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from headrace.contracts.statistics import ContractFacts
from services.monitor.domain.allowance import Allowance
from services.monitor.domain.columns import Columns, LogColumns, PredictionColumns, Said
from services.monitor.domain.drift.budget import Budget
from services.monitor.domain.drift.concept import Task
from services.monitor.domain.drift.data import DataState, DataWatch, evenly, prediction_watch
from services.monitor.domain.drift.distribution import Columns as Values
from services.monitor.domain.drift.distribution import DistributionState, DistributionWatch
from services.monitor.domain.drift.pace import Pace, Times
from services.monitor.domain.drift.river_signals import RiverState
from services.monitor.domain.drift.volume import SUBJECT, VolumeState, VolumeWatch
from services.monitor.domain.finding import (
    Found,
    Roster,
    Source,
    Spot,
    Track,
    Watched,
    place_of,
    share,
    task_of,
    told,
)
from services.monitor.domain.signals import Signals
from services.monitor.domain.tolerance import Tolerance

C_contra = TypeVar("C_contra", bound=Columns, contravariant=True)

NUMBERS = ("integer", "number")
"""Types of features that are watched as numbers. A time always moves."""
TEXTS = ("string", "boolean")


class Detector(Protocol[C_contra]):
    """Looks at columns. Bounds: those of its watches."""

    def detect(self, columns: C_contra) -> list[Found]:
        """Look at the next rows; what was found, in the order in which it was."""
        ...

    def watched(self) -> list[Watched]:
        """What is watched now."""
        ...

    def state(self) -> bytes:
        """All of it, as JSON."""
        ...

    def resume(self, state: bytes) -> None:
        """Go on from there. Raises `msgspec.MsgspecError` if it is no state of this."""
        ...


# -- data -------------------------------------------------------------------------------------------------------------


def features(facts: ContractFacts, tolerance: Tolerance) -> tuple[list[str], list[str]]:
    """The features that are watched as numbers, and those as texts."""
    named = [(name, facts.types[name]) for name in facts.fields if name not in tolerance.leave_out]
    return [name for name, kind in named if kind in NUMBERS], [name for name, kind in named if kind in TEXTS]


class LogState(msgspec.Struct):
    """All of a log's detector. begun: number of the observation with which the contract's watch began."""

    facts: ContractFacts | None
    pace: Pace
    track: Track
    begun: int
    watch: DataState | None
    volume: VolumeState | None
    signals: list[RiverState]


class LogDetector:
    """Data drift: every feature by itself, and the numbers in pairs; another contract is another beginning. Volume."""

    def __init__(self, source: Source, tolerance: Tolerance) -> None:
        self._source, self._tolerance = source, tolerance
        self._allowance = Allowance(tolerance)
        self._budget = self._allowance.budget
        self._track = Track()
        self._signals = Signals(source, [one.watch() for one in tolerance.signals if one.field])
        self._volume: VolumeWatch | None = None
        if tolerance.watches("volume"):
            self._volume = VolumeWatch(self._share("volume"))
        self._begin(None)

    def detect(self, columns: LogColumns) -> list[Found]:
        """Look at observations; see the protocol."""
        if columns.facts is not None and columns.facts != self._facts:
            self._begin(columns.facts)
        if self._facts is None:
            return []
        rows = columns.observed.tolist()
        values: dict[str, Any] = {**columns.numbers, **columns.texts}
        spots = [Spot(columns.offsets[row], columns.at[row] or 0) for row in rows]
        since = self._tolerance.reference.since
        if since is not None and any(spot.at < since for spot in spots):
            kept = [place for place, spot in enumerate(spots) if spot.at >= since]
            spots = [spots[place] for place in kept]
            values = {
                name: column[kept] if name in columns.numbers else [column[place] for place in kept]
                for name, column in values.items()
            }
        times = np.array([spot.at for spot in spots], np.int64)
        pieces = self._allowance.pieces(times)
        if len(pieces) == 1:
            self._allow(pieces[0][1])
            return sorted(self._look(values, spots, times), key=place_of)
        found: list[Found] = []
        for span, budget in pieces:
            self._allow(budget)
            piece = {name: column[span] for name, column in values.items()}
            found += self._look(piece, spots[span], times[span])
        return sorted(found, key=place_of)

    def watched(self) -> list[Watched]:
        """See the protocol."""
        found = []
        if self._watch is not None:
            fields = self._watch.fields
            found += [
                Watched("data", name, ready, float(threshold))
                for (name, ready), threshold in zip(fields.ready.items(), fields.thresholds, strict=True)
            ]
            if (pairs := self._watch.pairs) is not None:
                found.append(Watched("data", "pairs", pairs.ready, pairs.threshold / len(pairs.pairs)))
        if self._volume is not None:
            found.append(Watched("volume", SUBJECT, self._volume.ready, self._volume.threshold))
        return found + self._signals.watched()

    def state(self) -> bytes:
        """See the protocol."""
        return msgspec.json.encode(
            LogState(
                self._facts,
                self._allowance.pace,
                self._track,
                self._begun,
                None if self._watch is None else self._watch.state(),
                None if self._volume is None else self._volume.state(),
                self._signals.state(),
            )
        )

    def resume(self, state: bytes) -> None:
        """See the protocol."""
        read = msgspec.json.decode(state, type=LogState)
        self._allowance.pace = read.pace
        self._begin(read.facts)
        self._track, self._begun = read.track, read.begun
        if self._watch is not None and read.watch is not None:
            self._watch.resume(read.watch)
        if self._volume is not None and read.volume is not None:
            self._volume.resume(read.volume)
        self._signals.resume(read.signals)

    def _look(self, values: dict[str, Any], spots: list[Spot], times: Times) -> list[Found]:
        if not spots:
            return []
        first = self._track.count
        self._track.extend(spots)
        found: list[Found] = []
        if self._watch is not None:
            for alarm in self._watch.update(values, len(spots)):
                spot = spots[alarm.index + self._begun - first]
                found.append(told(self._source, alarm, "", spot, self._track.spot(alarm.since + self._begun)))
        if self._volume is not None:
            for alarm in self._volume.update(times):
                spot = spots[alarm.index - first]
                found.append(told(self._source, alarm, "", spot, self._track.spot(alarm.since)))
        if self._signals:
            numbers = {name: column for name, column in values.items() if isinstance(column, np.ndarray)}
            found += self._signals.update(numbers, spots, spots)
        return found

    def _share(self, kind: Any) -> float:
        return share(self._budget, kind, {"": 1.0})[""]

    def _allow(self, budget: Budget) -> None:
        if budget == self._budget:
            return
        self._budget = budget
        if self._watch is not None:
            self._watch.allow(self._share("data"))
        if self._volume is not None:
            self._volume.threshold = self._share("volume")

    def _begin(self, facts: ContractFacts | None) -> None:
        self._facts, self._begun = facts, self._track.count
        numeric, categorical = ([], []) if facts is None else features(facts, self._tolerance)
        self._watch: DataWatch | None = None
        if (numeric or categorical) and self._tolerance.watches("data"):
            reference = self._tolerance.reference.records
            self._watch = DataWatch(numeric, categorical, self._share("data"), reference=reference)


# -- predictions ------------------------------------------------------------------------------------------------------


class AnswersState(msgspec.Struct):
    """All that is known of one model's answers."""

    task: Task | None
    track: Track
    watch: DistributionState | None
    signals: list[RiverState]


class Answers:
    """What one model version answers, from its first answer on."""

    def __init__(self, name: str, source: Source, tolerance: Tolerance, budget: Budget) -> None:
        self._name, self._source, self._tolerance, self._budget = name, source, tolerance, budget
        self._track = Track()
        self._task: Task | None = None
        self._watch: DistributionWatch | None = None
        self._signals = Signals(
            source, [one.watch(name) for one in tolerance.signals if one.of == "score"], name
        )

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
        records = [columns.records[row] for row in said.rows[spoken].tolist()]
        spots = [Spot(one.offset, one.at) for one in records if one is not None]
        values = self._values(said, spoken)
        first = self._track.count
        self._track.extend(spots)
        found: list[Found] = []
        if self._watch is not None:
            for alarm in self._watch.update(values, len(spoken)):
                place = alarm.index - first
                if said.places[spoken[place]] == 0:
                    since = self._track.spot(alarm.since)
                    found.append(told(self._source, alarm, self._name, spots[place], since))
        if self._signals and self._task != "multiclass":
            score = np.asarray(values["answer" if self._task == "regression" else "score"], np.float64)
            on_top = np.array([said.places[place] == 0 for place in spoken])
            found += self._signals.update({"score": np.where(on_top, score, np.nan)}, spots, spots)
        return found

    def allow(self, budget: Budget) -> None:
        """Another budget for what comes next."""
        self._budget = budget
        if self._watch is not None:
            self._watch.allow(evenly(self._watch.fields, self._share()))

    def watched(self) -> list[Watched]:
        """What is watched."""
        found = self._signals.watched()
        if self._watch is not None:
            found += [
                Watched("prediction", subject, ready, float(threshold), self._name)
                for (subject, ready), threshold in zip(
                    self._watch.ready.items(), self._watch.thresholds, strict=True
                )
            ]
        return found

    def state(self) -> AnswersState:
        """All of it."""
        watch = None if self._watch is None else self._watch.state()
        return AnswersState(self._task, self._track, watch, self._signals.state())

    def resume(self, state: AnswersState) -> None:
        """Go on from there."""
        self._track = state.track
        if state.task is not None:
            self._begin(state.task)
        if self._watch is not None and state.watch is not None:
            self._watch.resume(state.watch)
        self._signals.resume(state.signals)

    def _share(self) -> float:
        return share(self._budget, "prediction", {"": 1.0})[""]

    def _begin(self, task: Task) -> None:
        self._task = task
        if self._tolerance.watches("prediction"):
            reference = self._tolerance.reference.records
            self._watch = prediction_watch(task, self._share(), model=self._name, reference=reference)

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

    pace: Pace
    rows: int
    last: dict[str, int]
    models: dict[str, AnswersState]


class PredictionDetector:
    """Prediction drift: what each model version answers."""

    def __init__(self, source: Source, tolerance: Tolerance) -> None:
        self._since = tolerance.reference.since
        self._allowance = Allowance(tolerance)
        self._budget = self._allowance.budget
        self._roster: Roster[Answers] = Roster(lambda name: Answers(name, source, tolerance, self._budget))

    def detect(self, columns: PredictionColumns) -> list[Found]:
        """Look at predictions; see the protocol."""
        if self._since is not None:
            columns = columns.since(self._since)
        found: list[Found] = []
        for span, budget in self._allowance.rows(columns.at):
            self._allow(budget)
            piece = columns.piece(span)
            models = piece.models
            spoken = {name: said.rows for name, said in models.items()}
            for name, watch, of in self._roster.runs(spoken, len(piece.records)):
                found += watch.update(piece, models[name], of)
        return sorted(found, key=place_of)

    def watched(self) -> list[Watched]:
        """See the protocol."""
        return [one for watch in self._roster.watches.values() for one in watch.watched()]

    def state(self) -> bytes:
        """See the protocol."""
        roster = self._roster
        models = {name: watch.state() for name, watch in roster.watches.items()}
        return msgspec.json.encode(PredictionState(self._allowance.pace, roster.rows, roster.last, models))

    def resume(self, state: bytes) -> None:
        """See the protocol."""
        read = msgspec.json.decode(state, type=PredictionState)
        self._allowance.pace = read.pace
        for name, watch in self._roster.resume(read.rows, read.last):
            watch.resume(read.models[name])

    def _allow(self, budget: Budget) -> None:
        if budget != self._budget:
            self._budget = budget
            for watch in self._roster.watches.values():
                watch.allow(budget)
