"""Concept drift and bias in outcomes, drift of the label delay; and the proposal to retrain that follows.

A retraining is proposed once for a change of the concept, when `retrain_labels` labels have come since the change most
likely began, as a new model learns from there on. If another model answers by then, what was to be mended is mended.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.contracts.events import DriftDetected, RetrainProposed
from services.monitor.domain.allowance import Allowance
from services.monitor.domain.columns import OutcomeColumns, Said
from services.monitor.domain.drift import concept
from services.monitor.domain.drift.bias import REPRESENTATION, BiasState, BiasWatch
from services.monitor.domain.drift.budget import Budget
from services.monitor.domain.drift.distribution import DistributionState, DistributionWatch
from services.monitor.domain.drift.pace import Pace
from services.monitor.domain.drift.river_signals import RiverState
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
from services.monitor.domain.identity import identity
from services.monitor.domain.signals import Signals
from services.monitor.domain.tolerance import MIXED, Tolerance

GROUP_FIELDS = MIXED
"""Fields whose groups are watched: those with a stated mix, and the first that come; each has so much less of the
budget for bias.
"""

DELAY = "label_delay"


class Seen(NamedTuple):
    """What one model said, where it said something that can be judged.

    rows: of the columns. on_top: whether it answered. spots: where outcomes are decided. begun: their observations.
    """

    rows: list[int]
    on_top: list[bool]
    spots: list[Spot]
    begun: list[Spot]


class OutcomesState(msgspec.Struct):
    """All that is known of one model's outcomes.

    bias, begun: by field, the watch, and the number of the outcome with which it began. cause: of a retraining that is
    to be proposed with the outcome numbered `due`.
    """

    task: concept.Task | None
    track: Track
    watch: concept.ConceptState | None
    bias: dict[str, BiasState]
    begun: dict[str, int]
    cause: DriftDetected | None
    due: int
    signals: list[RiverState]


class Outcomes:
    """One model version's outcomes, from its first answer on."""

    def __init__(self, name: str, source: Source, tolerance: Tolerance, budget: Budget) -> None:
        self._name, self._source, self._tolerance, self._budget = name, source, tolerance, budget
        self._track = Track()
        self._task: concept.Task | None = None
        self._watch: concept.ConceptWatch | None = None
        self._bias: dict[str, BiasWatch] = {}
        self._begun: dict[str, int] = {}
        self._cause: DriftDetected | None = None
        self._due = 0
        self._signals = Signals(
            source, [one.watch(name) for one in tolerance.signals if one.of in ("error", "loss")], name
        )

    def update(self, columns: OutcomeColumns, said: Said, span: slice) -> list[Found]:
        """Look at the next of what it said."""
        spoken = [place for place in range(span.start, span.stop) if said.answers[place] is not None]
        if self._task is None and spoken:
            self._begin(task_of(said.labels[spoken[0]]))
        spoken = [place for place in spoken if task_of(said.labels[place]) == self._task]
        if not spoken:
            return []
        seen = _seen(columns, said, spoken)
        first = self._track.count
        self._track.extend(seen.begun)
        judged = _judged(self._task, columns, said, spoken)
        found = self._moved(judged, seen, first)
        if self._signals:
            found += self._signals.update(_signals(judged, seen), seen.spots, seen.begun)
        if self._task == "binary" and self._tolerance.watches("bias"):
            found += self._unfair(columns, said, spoken, seen, first)
        return found

    def _moved(self, judged: concept.Judged, seen: Seen, first: int) -> list[Found]:
        """Concept drift, and what follows from it."""
        if self._watch is None:
            return []
        found: list[Found] = []
        for alarm in self._watch.update(judged):
            found += self._propose(seen, first, alarm.index)
            place = alarm.index - first
            if not seen.on_top[place]:
                continue
            drift = told(self._source, alarm, self._name, seen.spots[place], self._track.spot(alarm.since))
            found.append(drift)
            if self._cause is None:
                due = alarm.since + self._tolerance.retrain_labels - 1
                self._cause, self._due = drift, max(due, alarm.index)
        return found + self._propose(seen, first, self._track.count - 1)

    def allow(self, budget: Budget) -> None:
        """Another budget for what comes next."""
        self._budget = budget
        if self._watch is not None:
            self._watch.allow(self._shares(self._watch.task))
        for field, watch in self._bias.items():
            watch.allow(self._share_of(field))

    def watched(self) -> list[Watched]:
        """What is watched."""
        found = self._signals.watched()
        if self._watch is not None:
            shares = self._shares(self._watch.task)
            found += [
                Watched("concept", subject, ready, shares[subject], self._name)
                for subject, ready in self._watch.ready.items()
            ]
        for field, watch in self._bias.items():
            found.append(Watched("bias", REPRESENTATION, watch.represented, watch.share, self._name, field))
            found += [
                Watched("bias", one.metric, one.judged, watch.share, self._name, one.group)
                for one in watch.standing()
            ]
        return found

    def _propose(self, seen: Seen, first: int, upto: int) -> list[Found]:
        """Propose the retraining that is due with an outcome up to this number."""
        cause, place = self._cause, self._due - first
        if cause is None or self._due > upto:
            return []
        self._cause = None
        if not seen.on_top[place]:
            return []  # another answers by now
        spot = seen.spots[place]
        moved = "" if cause.before is None else f" from {cause.before:.4g} to {cause.after:.4g}"
        return [
            RetrainProposed(
                id=identity("retrain", cause.id),
                stream=cause.stream,
                at=spot.at,
                cause=f"{cause.subject} of {self._name} has moved{moved}, since offset {cause.since_offset}"
                f" of partition {cause.partition}",
                since={cause.partition: cause.since_offset},
                offset=spot.offset,
                drift=cause.id,
                model=cause.model,
                version=cause.version,
                subject=cause.subject,
                before=cause.before,
                after=cause.after,
            )
        ]

    def _unfair(
        self, columns: OutcomeColumns, said: Said, spoken: list[int], seen: Seen, first: int
    ) -> list[Found]:
        """Bias among groups."""
        labels = bytes(said.labels[place] is True for place in spoken)
        answers = bytes(said.answers[place] is True for place in spoken)
        found: list[Found] = []
        for begin, field, codes, names in self._grouped(columns, seen.rows):
            if field not in self._bias:
                mixed = self._tolerance.mix.keys() - self._bias.keys()
                if field not in mixed and len(self._bias) + len(mixed) >= GROUP_FIELDS:
                    continue
                self._admit(field, first + begin)
            watch = self._bias[field]
            skipped = max(0, self._begun[field] - first)
            groups = [names[code] if code >= 0 else None for code in codes[skipped:]]
            for alarm in watch.update(groups, labels[skipped:], answers[skipped:]):
                place = alarm.index + self._begun[field] - first
                if seen.on_top[place]:
                    since = self._track.spot(alarm.since + self._begun[field])
                    found.append(told(self._source, alarm, self._name, seen.spots[place], since))
        return found

    def _grouped(
        self, columns: OutcomeColumns, rows: list[int]
    ) -> list[tuple[int, str, list[int], list[str]]]:
        """(where it is first known, field, codes, names) in the order in which fields come; known ones always."""
        fields = []
        for field in {**columns.groups, **self._bias}:
            grouped = columns.groups.get(field)
            codes = [-1] * len(rows) if grouped is None else grouped.codes[rows].tolist()
            begin = next((place for place, code in enumerate(codes) if code >= 0), None)
            if field in self._bias or begin is not None:
                fields.append((begin or 0, field, codes, [] if grouped is None else grouped.names))
        return sorted(fields, key=lambda one: one[:2])

    def _admit(self, field: str, number: int) -> None:
        self._bias[field] = BiasWatch(
            field,
            self._share_of(field),
            model=self._name,
            stated=self._tolerance.mix.get(field),
            reference=self._tolerance.reference.labels,
        )
        self._begun[field] = number

    def _share_of(self, field: str) -> float:
        return share(self._budget, "bias", {field: 1.0})[field] * GROUP_FIELDS

    def _shares(self, task: concept.Task) -> dict[str, float]:
        return share(self._budget, "concept", concept.WEIGHTS[task])

    def _begin(self, task: concept.Task) -> None:
        self._task = task
        if self._tolerance.watches("concept"):
            labels = self._tolerance.reference.labels
            self._watch = concept.ConceptWatch(task, self._shares(task), model=self._name, reference=labels)

    def state(self) -> OutcomesState:
        """All of it."""
        return OutcomesState(
            self._task,
            self._track,
            None if self._watch is None else self._watch.state(),
            {field: watch.state() for field, watch in self._bias.items()},
            self._begun,
            self._cause,
            self._due,
            self._signals.state(),
        )

    def resume(self, state: OutcomesState) -> None:
        """Go on from there."""
        self._track, self._cause, self._due = state.track, state.cause, state.due
        if state.task is not None:
            self._begin(state.task)
        if self._watch is not None and state.watch is not None:
            self._watch.resume(state.watch)
        self._signals.resume(state.signals)
        for field, held in state.bias.items():
            self._admit(field, state.begun[field])
            self._bias[field].resume(held)


class OutcomeState(msgspec.Struct):
    """All of a detector of outcomes."""

    pace: Pace
    rows: int
    last: dict[str, int]
    models: dict[str, OutcomesState]
    delay: DistributionState | None
    track: Track


class OutcomeDetector:
    """Concept drift, bias, and the label delay."""

    def __init__(self, source: Source, tolerance: Tolerance) -> None:
        self._source = source
        self._since = tolerance.reference.since
        self._allowance = Allowance(tolerance)
        self._budget = self._allowance.budget
        self._roster: Roster[Outcomes] = Roster(lambda name: Outcomes(name, source, tolerance, self._budget))
        self._delay: DistributionWatch | None = None
        if tolerance.watches("delay"):
            records = tolerance.reference.records
            self._delay = DistributionWatch("delay", [DELAY], [], self._of_delay(), reference=records)
        self._track = Track()

    def detect(self, columns: OutcomeColumns) -> list[Found]:
        """Look at outcomes; see the protocol."""
        if self._since is not None:
            columns = columns.since(self._since)
        found: list[Found] = []
        for span, budget in self._allowance.rows(columns.at):
            self._allow(budget)
            piece = columns.piece(span)
            found += self._delayed(piece)
            models = piece.models
            spoken = {name: said.rows for name, said in models.items()}
            for name, watch, of in self._roster.runs(spoken, len(piece.records)):
                found += watch.update(piece, models[name], of)
        return sorted(found, key=place_of)

    def watched(self) -> list[Watched]:
        """See the protocol."""
        found = [one for watch in self._roster.watches.values() for one in watch.watched()]
        if self._delay is not None:
            threshold = float(self._delay.thresholds[0])
            found.append(Watched("delay", DELAY, self._delay.ready[DELAY], threshold))
        return found

    def _of_delay(self) -> dict[str, float]:
        return share(self._budget, "delay", {DELAY: 1.0})

    def _allow(self, budget: Budget) -> None:
        if budget == self._budget:
            return
        self._budget = budget
        if self._delay is not None:
            self._delay.allow(self._of_delay())
        for watch in self._roster.watches.values():
            watch.allow(budget)

    def _delayed(self, columns: OutcomeColumns) -> list[Found]:
        if self._delay is None:
            return []
        rows = [one for one in columns.records if one is not None and one.status == "labelled"]
        if not rows:
            return []
        first = self._delay.index
        self._track.extend([Spot(one.prediction_offset, one.observed_at) for one in rows])
        seconds = np.array([(one.at - one.observed_at) / 1000 for one in rows])
        return [
            told(
                self._source, alarm, "", Spot(rows[alarm.index - first].offset, rows[alarm.index - first].at),
                self._track.spot(alarm.since),
            )
            for alarm in self._delay.update({DELAY: seconds}, len(rows))
        ]  # fmt: skip

    def state(self) -> bytes:
        """See the protocol."""
        roster = self._roster
        models = {name: watch.state() for name, watch in roster.watches.items()}
        return msgspec.json.encode(
            OutcomeState(
                self._allowance.pace,
                roster.rows,
                roster.last,
                models,
                None if self._delay is None else self._delay.state(),
                self._track,
            )
        )

    def resume(self, state: bytes) -> None:
        """See the protocol."""
        read = msgspec.json.decode(state, type=OutcomeState)
        self._allowance.pace = read.pace
        for name, watch in self._roster.resume(read.rows, read.last):
            watch.resume(read.models[name])
        if self._delay is not None and read.delay is not None:
            self._delay.resume(read.delay)
        self._track = read.track


def _seen(columns: OutcomeColumns, said: Said, spoken: list[int]) -> Seen:
    rows = said.rows[spoken].tolist()
    records = [columns.records[row] for row in rows]
    return Seen(
        rows,
        [said.places[place] == 0 for place in spoken],
        [Spot(one.offset, one.at) for one in records if one is not None],
        [Spot(one.prediction_offset, one.observed_at) for one in records if one is not None],
    )


def _signals(judged: concept.Judged, seen: Seen) -> dict[str, NDArray[np.float64]]:
    """Errors and losses of whoever answers; NaN where another did."""
    on_top = np.array(seen.on_top)
    found = {"loss": np.where(on_top, judged.losses, np.nan)}
    if judged.wrong:
        found["error"] = np.where(on_top, np.frombuffer(judged.wrong, np.uint8), np.nan)
    return found


def _judged(
    task: concept.Task | None, columns: OutcomeColumns, said: Said, spoken: list[int]
) -> concept.Judged:
    labels = [said.labels[place] for place in spoken]
    answers = [said.answers[place] for place in spoken]
    if task == "binary":
        return concept.binary(
            bytes(y is True for y in labels), bytes(one is True for one in answers), said.scores[spoken]
        )
    if task == "regression":
        return concept.regression(np.array(labels, np.float64), np.array(answers, np.float64))
    chances = [_chance(columns, said, place) for place in spoken]
    wrong = bytes(one != y for one, y in zip(answers, labels, strict=True))
    return concept.multiclass(wrong, np.array(chances, np.float64))


def _chance(columns: OutcomeColumns, said: Said, place: int) -> float | None:
    """The probability that was given to what was then true."""
    record = columns.records[int(said.rows[place])]
    assert record is not None
    one = record if said.places[place] == 0 else record.challengers[said.places[place] - 1]
    return None if one.probabilities is None else one.probabilities.get(str(said.labels[place]), 0.0)
