"""Concept drift and bias in outcomes, drift of the label delay; and the proposal to retrain that follows.

A retraining is proposed once for a change of the concept, when `retrain_labels` labels have come since the change most
likely began, as a new model learns from there on. If another model answers by then, what was to be mended is mended.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from headrace.contracts.events import DriftDetected, RetrainProposed
from services.monitor.domain.columns import OutcomeColumns, Said
from services.monitor.domain.drift import concept
from services.monitor.domain.drift.bias import BiasState, BiasWatch
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
from services.monitor.domain.identity import identity

GROUP_FIELDS = 4
"""Fields whose groups are watched, the first that come; each has so much less of the budget for bias."""

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


class Outcomes:
    """One model version's outcomes, from its first answer on."""

    def __init__(self, name: str, source: Source, tolerance: Tolerance) -> None:
        self._name, self._source, self._tolerance = name, source, tolerance
        self._track = Track()
        self._task: concept.Task | None = None
        self._watch: concept.ConceptWatch | None = None
        self._bias: dict[str, BiasWatch] = {}
        self._begun: dict[str, int] = {}
        self._cause: DriftDetected | None = None
        self._due = 0

    def update(self, columns: OutcomeColumns, said: Said, span: slice) -> list[Found]:
        """Look at the next of what it said."""
        spoken = [place for place in range(span.start, span.stop) if said.answers[place] is not None]
        if self._watch is None and spoken:
            self._begin(task_of(said.labels[spoken[0]]))
        spoken = [place for place in spoken if task_of(said.labels[place]) == self._task]
        if self._watch is None or not spoken:
            return []
        seen = _seen(columns, said, spoken)
        first = self._track.count
        self._track.extend(seen.begun)
        found: list[Found] = []
        for alarm in self._watch.update(_judged(self._task, columns, said, spoken)):
            found += self._propose(seen, first, alarm.index)
            place = alarm.index - first
            if not seen.on_top[place]:
                continue
            drift = told(self._source, alarm, self._name, seen.spots[place], self._track.spot(alarm.since))
            found.append(drift)
            if self._cause is None:
                due = alarm.since + self._tolerance.retrain_labels - 1
                self._cause, self._due = drift, max(due, alarm.index)
        found += self._propose(seen, first, self._track.count - 1)
        if self._task == "binary":
            found += self._unfair(columns, said, spoken, seen, first)
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
                if len(self._bias) >= GROUP_FIELDS:
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
        share_of = share(self._tolerance.budget, "bias", {field: 1.0})[field] * GROUP_FIELDS
        self._bias[field] = BiasWatch(field, share_of, model=self._name)
        self._begun[field] = number

    def _begin(self, task: concept.Task) -> None:
        shares = share(self._tolerance.budget, "concept", concept.WEIGHTS[task])
        self._task, self._watch = task, concept.ConceptWatch(task, shares, model=self._name)

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
        )

    def resume(self, state: OutcomesState) -> None:
        """Go on from there."""
        self._track, self._cause, self._due = state.track, state.cause, state.due
        if state.task is not None and state.watch is not None:
            self._begin(state.task)
            assert self._watch is not None
            self._watch.resume(state.watch)
        for field, held in state.bias.items():
            self._admit(field, state.begun[field])
            self._bias[field].resume(held)


class OutcomeState(msgspec.Struct):
    """All of a detector of outcomes."""

    rows: int
    last: dict[str, int]
    models: dict[str, OutcomesState]
    delay: DistributionState
    track: Track


class OutcomeDetector:
    """Concept drift, bias, and the label delay."""

    def __init__(self, source: Source, tolerance: Tolerance) -> None:
        self._source = source
        self._roster: Roster[Outcomes] = Roster(lambda name: Outcomes(name, source, tolerance))
        self._delay = DistributionWatch("delay", [DELAY], [], share(tolerance.budget, "delay", {DELAY: 1.0}))
        self._track = Track()

    def detect(self, columns: OutcomeColumns) -> list[Found]:
        """Look at outcomes; see the protocol."""
        found = self._delayed(columns)
        models = columns.models
        spoken = {name: said.rows for name, said in models.items()}
        for name, watch, span in self._roster.runs(spoken, len(columns.records)):
            found += watch.update(columns, models[name], span)
        return sorted(found, key=place_of)

    def _delayed(self, columns: OutcomeColumns) -> list[Found]:
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
            OutcomeState(roster.rows, roster.last, models, self._delay.state(), self._track)
        )

    def resume(self, state: bytes) -> None:
        """See the protocol."""
        read = msgspec.json.decode(state, type=OutcomeState)
        for name, watch in self._roster.resume(read.rows, read.last):
            watch.resume(read.models[name])
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
