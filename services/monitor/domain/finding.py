"""What detectors have in common: who watches which model, where its records lie in the log, and how finds are told."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

import msgspec
import numpy as np

from headrace.contracts.events import DriftDetected, DriftKind, RetrainProposed, Scalar
from headrace.contracts.statistics import Kind
from services.monitor.domain.columns import Places
from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.budget import Budget
from services.monitor.domain.drift.concept import Task
from services.monitor.domain.drift.positions import Positions
from services.monitor.domain.identity import identity

W = TypeVar("W")

MODELS_KEPT = 40
"""Versions of models that are watched; more than can stand on a stream at a time."""

WATCHED: tuple[DriftKind, ...] = ("concept", "data", "bias", "prediction", "delay", "volume")
"""Kinds that have a share of the budget, if they have a weight, whether or not there is anything to watch."""


Found = DriftDetected | RetrainProposed


class Source(NamedTuple):
    """What is watched: a partition of a kind of topic of a stream."""

    stream: str
    kind: Kind
    partition: int


class Watched(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that is watched, for people to see.

    ready: its reference is whole. threshold: its share of the budget, in records of this partition; None: River's
    detectors have none.
    """

    kind: DriftKind
    subject: str
    ready: bool
    threshold: float | None = None
    model: str = ""
    group: str = ""
    method: str = ""


class Spot(NamedTuple):
    """A record: its offset in the log, and its event time in ms."""

    offset: int
    at: int


class Track(msgspec.Struct):
    """Where the records lie that a watch was given, by their number. Bounded: the older, the coarser."""

    offsets: Positions = msgspec.field(default_factory=Positions)
    times: Positions = msgspec.field(default_factory=Positions)

    @property
    def count(self) -> int:
        """Records so far."""
        return self.offsets.count

    def extend(self, spots: list[Spot]) -> None:
        """Note where the next records are, in order."""
        self.offsets.extend([spot.offset for spot in spots])
        self.times.extend([spot.at for spot in spots])

    def spot(self, number: int) -> Spot:
        """Where a record is, or one not long before it."""
        return Spot(self.offsets.of(number), self.times.of(number))


class Roster(Generic[W]):
    """Watches by `model@version`. At `MODELS_KEPT` that of the model which spoke longest ago gives way.

    rows: seen so far. last: the row at which each model spoke last.
    """

    def __init__(self, make: Callable[[str], W]) -> None:
        self._make = make
        self.watches: dict[str, W] = {}
        self.last: dict[str, int] = {}
        self.rows = 0

    def runs(self, spoken: Mapping[str, Places], size: int) -> Iterator[tuple[str, W, slice]]:
        """Go through `size` rows; spoken: those (rising) at which each model spoke.

        Gives a model, its watch, and which of its rows are next. It is cut where a model comes that is not watched, so
        that who gives way does not depend on batches.
        """
        begun = dict.fromkeys(sorted(spoken), 0)
        at = 0
        while at < size:
            strange = {
                name: int(spoken[name][begin])
                for name, begin in begun.items()
                if name not in self.watches and begin < len(spoken[name])
            }
            end = min(strange.values(), default=size)
            if end == at:
                for name in [name for name, row in strange.items() if row == at]:
                    self._admit(name, self.rows + at)
                continue
            for name, begin in begun.items():
                stop = int(np.searchsorted(spoken[name], end))
                if name in self.watches and stop > begin:
                    yield name, self.watches[name], slice(begin, stop)
                    self.last[name] = self.rows + int(spoken[name][stop - 1])
                    begun[name] = stop
            at = end
        self.rows += size

    def resume(self, rows: int, last: dict[str, int]) -> Iterator[tuple[str, W]]:
        """Go on from there; gives the watches, each made anew, to be resumed too."""
        self.rows, self.last = rows, dict(last)
        self.watches = {name: self._make(name) for name in last}
        yield from self.watches.items()

    def _admit(self, name: str, row: int) -> None:
        if len(self.watches) >= MODELS_KEPT:
            oldest = min(self.last, key=lambda one: (self.last[one], one))
            del self.watches[oldest], self.last[oldest]
        self.watches[name] = self._make(name)
        self.last[name] = row


def share(budget: Budget, kind: DriftKind, watches: Mapping[str, float]) -> dict[str, float]:
    """Records for one false alarm, for each of a kind's watches by their weights. The kind has a weight."""
    every: dict[DriftKind, Mapping[str, float]] = {
        one: {"": 1.0} for one in WATCHED if budget.weights.get(one, 0.0) > 0
    }
    return budget.spread({**every, kind: watches})[kind]


def task_of(y: Scalar | None) -> Task:
    """What task an answer or a label is one of."""
    if isinstance(y, bool):
        return "binary"
    return "multiclass" if isinstance(y, str) else "regression"


def place_of(found: Found) -> tuple[int, str, str]:
    """By which what was found in a batch is put in order."""
    if isinstance(found, RetrainProposed):
        return found.offset, "", found.id
    return found.offset, found.kind, found.id


def told(source: Source, alarm: Alarm, name: str, decided: Spot, since: Spot) -> DriftDetected:
    """An alarm as an event. name: `model@version`, or "" if it is of none."""
    model, _, version = name.rpartition("@")
    return DriftDetected(
        id=identity(*source, alarm.kind, alarm.subject, alarm.method, alarm.group, name, decided.offset),
        stream=source.stream,
        kind=alarm.kind,
        subject=alarm.subject,
        method=alarm.method,
        partition=source.partition,
        offset=decided.offset,
        at=decided.at,
        since_offset=since.offset,
        since_at=since.at,
        before=alarm.before,
        after=alarm.after,
        evidence=alarm.evidence,
        threshold=alarm.threshold,
        model=model,
        version=int(version or 0),
        group=alarm.group,
    )
