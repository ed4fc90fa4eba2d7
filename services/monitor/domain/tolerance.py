"""What a person says about drift in a stream: how many false alarms, of which kinds, against what reference.

Entries are by stream; what a stream's own leaves out is as in that for `*`, and what this leaves out as in the
settings. Everything here is read once, at start, and never changes.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal

import msgspec

from headrace.contracts.events import DriftKind
from headrace.contracts.times import parse_ms
from headrace.contracts.topics import STREAM_NAME
from headrace.errors import Unusable
from services.monitor.domain.drift.budget import RECORDS, WEIGHTS, Budget
from services.monitor.domain.drift.river_signals import RiverWatch
from services.monitor.domain.listing import read_list

ANY_STREAM = "*"
STREAMS_KEPT = 1_000
SIGNALS = 8
"""River's detectors on a stream. Each keeps what it has seen."""

LEFT_OUT = 1_000
MIXED = 4
"""Fields with a stated mix; more fields with groups are not watched."""

RECORDS_OF_REFERENCE = (512, 65_536)
LABELS_OF_REFERENCE = (256, 65_536)
"""Fewer say nothing about dependence; more are held in memory for every field, until the reference is whole."""


class FalseAlarms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most one in so many events of the stream, or days of its event time."""

    events: float | None = None
    days: float | None = None


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is normal: the first records, from a time on.

    records: of features, predictions, delays. labels: of errors and of each group; losses and calibration take four
    times as many. since (`from`): event time in ms; what was observed before is not looked at.
    """

    records: int = 2_048
    labels: int = 512
    since: int | None = msgspec.field(default=None, name="from")


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A detector of River's, by name, on a signal: either of whoever answers (`of`), or a numeric field."""

    detector: str
    of: Literal["", "error", "loss", "score"] = ""
    field: str = ""
    parameters: dict[str, float | str] = {}

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.of or self.field

    def watch(self, model: str = "") -> RiverWatch:
        """It, with nothing seen. Raises `Unusable` if River has no such detector, or it no such parameter."""
        kind: DriftKind = "data" if self.field else "prediction" if self.of == "score" else "concept"
        return RiverWatch(self.detector, kind, self.subject, model=model, parameters=self.parameters)


class Tolerance(msgspec.Struct, frozen=True):
    """What holds for a stream.

    false_alarm_records: at most one false alarm in so many events; false_alarm_days: of event time, instead.
    partitions: of the stream; each is watched by itself. weights: by kind, 0 is not watched. retrain_labels: since a
    change of the concept, until a retraining is proposed; fewer teach a new model nothing. leave_out: features that
    are not watched. mix: by field, the shares that groups should have.
    """

    false_alarm_records: float = RECORDS
    retrain_labels: int = 500
    false_alarm_days: float | None = None
    partitions: int = 1
    weights: dict[DriftKind, float] = msgspec.field(default_factory=lambda: dict(WEIGHTS))
    leave_out: tuple[str, ...] = ()
    reference: Reference = Reference()
    mix: dict[str, dict[str, float]] = {}
    signals: tuple[Signal, ...] = ()

    def budget(self, per_day: float | None = None) -> Budget:
        """Of a partition. per_day: its records a day of event time; None: unknown yet."""
        if self.false_alarm_days is None or per_day is None:
            return Budget(self.false_alarm_records, self.weights)
        return Budget(max(1.0, self.false_alarm_days * self.partitions * per_day), self.weights)

    @property
    def false_alarms(self) -> dict[str, float]:
        """As a person says it: at most one in so many `events` of the stream, or `days`."""
        days = self.false_alarm_days
        return {"events": self.false_alarm_records} if days is None else {"days": days}

    def watches(self, kind: DriftKind) -> bool:
        """Whether a kind has a share of the budget."""
        return self.weights.get(kind, 0.0) > 0

    @property
    def watched(self) -> str:
        """All that a detector's state depends on, as text: with another one it is of no use. Thresholds are none."""
        kinds = sorted(kind for kind in self.weights if self.watches(kind))
        watched = (kinds, sorted(self.leave_out), self.reference, self.mix, self.signals)
        return msgspec.json.encode(watched, order="deterministic").decode()


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of the file."""

    stream: str
    false_alarms: FalseAlarms | None = None
    weights: dict[DriftKind, float] = {}
    retrain_labels: int | None = None
    leave_out: list[str] | None = None
    reference: Reference | None = None
    mix: dict[str, dict[str, float]] | None = None
    signals: list[Signal] | None = None

    @property
    def name(self) -> str:
        """Its own in the list."""
        return self.stream

    def onto(self, other: Tolerance) -> Tolerance:
        """What holds if this is said, and otherwise the other."""
        found = other
        if self.false_alarms is not None:
            events, days = self.false_alarms.events, self.false_alarms.days
            found = msgspec.structs.replace(
                found, false_alarm_records=events or found.false_alarm_records, false_alarm_days=days
            )
        said = {
            "weights": {**other.weights, **self.weights},
            "retrain_labels": self.retrain_labels,
            "leave_out": None if self.leave_out is None else tuple(self.leave_out),
            "reference": self.reference,
            "mix": self.mix,
            "signals": None if self.signals is None else tuple(self.signals),
        }
        return msgspec.structs.replace(
            found, **{name: value for name, value in said.items() if value is not None}
        )


class Tolerances:
    """What holds for each stream. default: of the settings."""

    def __init__(self, wishes: Sequence[Wish] = (), default: Tolerance | None = None) -> None:
        self._wishes: Mapping[str, Wish] = {wish.stream: wish for wish in wishes}
        self._default = Tolerance() if default is None else default

    def of(self, stream: str, partitions: int = 1) -> Tolerance:
        """What holds for one."""
        found = self._default
        for name in (ANY_STREAM, stream):
            if name in self._wishes:
                found = self._wishes[name].onto(found)
        return msgspec.structs.replace(found, partitions=partitions)


def read_wishes(document: object) -> list[Wish]:
    """Entries from the plain form: a list, or an object with the list under `streams`.

    Raises `Unusable` saying which entry and what is wrong with it.
    """
    return read_list(document, "streams", STREAMS_KEPT, _read_wish)


def _read_wish(entry: object, where: str) -> Wish:
    try:
        wish = msgspec.convert(_plain(entry, where), Wish)
    except msgspec.ValidationError as error:
        raise Unusable(str(error), where=where) from None
    if wish.stream != ANY_STREAM and not STREAM_NAME.fullmatch(wish.stream):
        raise Unusable(f"{wish.stream!r} is no stream name, nor {ANY_STREAM!r}", where=f"{where}.stream")
    _check_budget(wish, where)
    if wish.reference is not None:
        for name, (least, most) in (("records", RECORDS_OF_REFERENCE), ("labels", LABELS_OF_REFERENCE)):
            if not least <= getattr(wish.reference, name) <= most:
                raise Unusable(f"{least} to {most}", where=f"{where}.reference.{name}")
    if wish.leave_out is not None and len(wish.leave_out) > LEFT_OUT:
        raise Unusable(f"at most {LEFT_OUT} fields", where=f"{where}.leave_out")
    _check_mix(wish.mix or {}, where)
    _check_signals(wish.signals or [], where)
    return wish


def _plain(entry: object, where: str) -> object:
    """With short forms written out: a time as ms, a list of groups as equal shares."""
    if not isinstance(entry, dict):
        return entry
    found = dict(entry)
    reference = found.get("reference")
    if isinstance(reference, dict) and reference.get("from") is not None:
        found["reference"] = {**reference, "from": _time(reference["from"], f"{where}.reference.from")}
    if isinstance(found.get("mix"), dict):
        found["mix"] = {field: _shares(shares) for field, shares in found["mix"].items()}
    return found


def _time(given: Any, where: str) -> int:
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    try:  # YAML knows times, too
        return parse_ms(given.isoformat() if isinstance(given, date) else given)
    except (ValueError, TypeError):
        raise Unusable(
            "a time is RFC 3339 (2026-01-01T00:00:00Z) or milliseconds since 1970", where=where
        ) from None


def _shares(shares: Any) -> Any:
    if not isinstance(shares, list):
        return shares
    return {group if isinstance(group, str) else str(group): 1.0 / len(shares) for group in shares}


def _check_budget(wish: Wish, where: str) -> None:
    said = wish.false_alarms
    if said is not None:
        given = [number for number in (said.events, said.days) if number is not None]
        if (
            len(given) != 1
            or not 0 < given[0] < float("inf")
            or (said.events is not None and said.events < 1)
        ):
            raise Unusable("say either events (1 or more) or days", where=f"{where}.false_alarms")
    for kind, weight in wish.weights.items():
        if kind == "quality" and weight:
            raise Unusable(
                "quality is for rules on windows: it has no share", where=f"{where}.weights.quality"
            )
        if not 0 <= weight < float("inf"):
            raise Unusable("0 (not watched) or more", where=f"{where}.weights.{kind}")
    if wish.retrain_labels is not None and wish.retrain_labels < 1:
        raise Unusable("at least 1", where=f"{where}.retrain_labels")


def _check_mix(mix: Mapping[str, Mapping[str, float]], where: str) -> None:
    if len(mix) > MIXED:
        raise Unusable(f"at most {MIXED} fields", where=f"{where}.mix")
    for field, shares in mix.items():
        place = f"{where}.mix.{field}"
        if len(shares) < 2 or not all(share > 0 for share in shares.values()):
            raise Unusable(
                "two groups at least, each with a share above 0 (or their list: equal shares)", where=place
            )
        if abs(sum(shares.values()) - 1.0) > 1e-6:
            raise Unusable("shares add up to 1", where=place)


def _check_signals(signals: Sequence[Signal], where: str) -> None:
    if len(signals) > SIGNALS:
        raise Unusable(f"at most {SIGNALS} signals", where=f"{where}.signals")
    for index, signal in enumerate(signals):
        place = f"{where}.signals[{index}]"
        if bool(signal.of) == bool(signal.field):
            raise Unusable("say either of (error, loss, score) or field", where=place)
        if any((signal.subject, signal.detector) == (one.subject, one.detector) for one in signals[:index]):
            raise Unusable(f"{signal.detector} of {signal.subject} is there already", where=place)
        try:
            signal.watch().try_out()
        except Unusable as error:
            raise Unusable(error.reason, where=place) from None
        if signal.of != "error" and signal.watch().zero_one:
            raise Unusable(f"{signal.detector} takes 0 and 1 only: of error", where=place)
