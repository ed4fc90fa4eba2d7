"""Holds what producers send to a stream's contract: bytes in, a typed record or a named refusal out.

The hot path of ingest. A contract is compiled once into a msgspec struct, so that a good record is parsed, typed and
range checked in one step; a record that this step refuses gets a second look (`careful`) that names the rule and the
field. Nothing unchecked gets past this point: one NaN or 1e308 in the log would ruin a scaler for ever. Pure: the clock
and the maker of ids are arguments. Every rule is in docs/bad-input.md.

`x` has the contract's features in the contract's order, whatever order the producer wrote: River's results depend on
the order of keys, and a log must not depend on a producer's JSON library.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from math import ceil, floor
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from headrace.contracts import envelope, groups
from headrace.contracts.careful import RECORD_BYTES, Careful, parse
from headrace.contracts.coherence import effective_bounds
from headrace.contracts.events import Features, Label, Observation, Scalar
from headrace.contracts.stream import Field, StreamContract, check
from headrace.contracts.times import to_ms
from headrace.errors import Poison

ID_LENGTH = 128
"""Longest id of an observation, in characters."""

_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_INT64 = 2**63 - 1
_DOUBT: Any = object()


class Cleanser:
    """A contract, compiled. Stateless between calls, so one may serve many threads.

    record_bytes: larger records are refused as `too_large`. In all methods now_ms is the wall clock, in milliseconds
    since 1970 UTC: the event time of a record that brings none, and what `future` is measured from. new_id makes the
    id of an observation that brings none.
    """

    def __init__(self, contract: StreamContract, *, record_bytes: int = RECORD_BYTES) -> None:
        self.contract = contract = check(contract)
        self._careful = Careful(contract)
        self._record_bytes = record_bytes
        self._future_ms = contract.limits.future_seconds * 1000
        self._has_event_time = bool(contract.event_time)
        self._has_entity = bool(contract.entity)
        self._compile_observation()
        self._compile_label()

    # -- what producers send ----------------------------------------------------------------------------------------

    def observation(self, raw: bytes | None, *, now_ms: int, new_id: Callable[[], str]) -> Observation:
        """One JSON object of the contract's fields to an observation. Raises `Poison` (rule, field, reason)."""
        return self._observe(self._sized(raw), now_ms, new_id, None, "")

    def observations(
        self, lines: Sequence[bytes], *, now_ms: int, new_id: Callable[[], str]
    ) -> list[Observation | Poison]:
        """`observation` for each line, in order; refusals are returned, not raised."""
        results: list[Observation | Poison] = []
        for raw in lines:
            try:
                results.append(self._observe(self._sized(raw), now_ms, new_id, None, ""))
            except Poison as poison:
                results.append(poison)
        return results

    def label(self, raw: bytes | None, *, now_ms: int) -> Label:
        """One JSON object {id, label, at?, entity?} to a label. Raises `Poison`."""
        return self._label(self._sized(raw), now_ms, None, "")

    def event(self, raw: bytes | None, *, now_ms: int, new_id: Callable[[], str]) -> Observation | Label:
        """A record of unknown kind: a CloudEvent, or a plain object.

        A plain object is what its `type` says; without one it is a label if it has a label's value and only keys that
        a label may have, else an observation. Raises `Poison`.
        """
        raw = self._sized(raw)
        if envelope.MARK in raw:
            opened = envelope.open_envelope(raw)
            if opened is not None:
                return self._opened(opened, now_ms)
        kind = self._kind(raw)
        if kind == "label":
            return self._label(raw, now_ms, None, "")
        return self._observe(raw, now_ms, new_id, None, "")

    def _sized(self, raw: bytes | None) -> bytes:
        if raw is None:
            raise Poison("a record without a value (a tombstone) says nothing here", rule="tombstone")
        if not raw:
            raise Poison("empty: there are no bytes", rule="empty")
        if len(raw) > self._record_bytes:
            raise Poison(
                f"one record may take {self._record_bytes} bytes, this one takes {len(raw)}", rule="too_large"
            )
        return raw

    def _kind(self, raw: bytes) -> str:
        """Which kind a plain record is; parses only if its bytes leave a doubt."""
        for token in self._label_tokens:
            if token in raw:
                break
        else:
            if b'"type"' not in raw:
                return "observation"
            if not self._careful.ambiguous and self._decodes_as_observation(raw):
                return "observation"
            return self._careful.kind(parse(raw))
        if not self._careful.ambiguous and self._told(raw) is not None:
            return "label"
        return self._careful.kind(parse(raw))

    def _decodes_as_observation(self, raw: bytes) -> bool:
        try:
            self._decode(raw)
        except _REFUSED:
            return False
        return True

    def _opened(self, opened: envelope.Opened, now_ms: int) -> Observation | Label:
        data = opened.data
        if opened.kind == "label":
            return self._label(data, now_ms, opened.at, opened.source)
        return self._observe(data, now_ms, lambda: opened.id, opened.at, opened.source)

    # -- observations -----------------------------------------------------------------------------------------------

    def _compile_observation(self) -> None:
        contract = self.contract
        # Features lead, in the contract's order, so that zip() with their names builds x and stops before the rest.
        ordered = sorted(contract.fields, key=lambda field: not field.feature)
        self._features = tuple(field.name for field in ordered if field.feature)
        members: list[tuple[str, Any, Any]] = []
        rename: dict[str, str] = {}
        place: dict[str, int] = {}
        for field in ordered:
            needed = field.name in (contract.event_time, contract.entity) or (
                field.required and field.name != contract.id
            )
            _member(members, rename, field.name, _wire_type(field), needed)
            place[field.name] = len(members) - 1
        extra: list[tuple[str, Any]] = [("id", str | int)]
        if not contract.event_time:
            extra.append(("at", int | datetime))
        if "type" not in place:
            extra.append(("type", Literal["observation"]))
        for key, kind in extra:
            if key not in place:
                _member(members, rename, key, kind, False)
                place[key] = len(members) - 1
        wire = msgspec.defstruct(
            "Wire", members, rename=rename, kw_only=True, forbid_unknown_fields=True, gc=False
        )
        self._decode = msgspec.json.Decoder(wire).decode
        self._times = tuple(
            (
                place[field.name],
                field.name if field.feature else "",
                *effective_bounds(field.minimum, field.maximum),
            )
            for field in ordered
            if field.type == "time"
            and (field.name != contract.event_time or field.minimum is not None or field.maximum is not None)
        )
        self._aside = tuple((name, place[name]) for name in groups.aside(contract))
        self._id_at = place[contract.id or "id"]
        self._id_key_at = place["id"]
        self._id_required = bool(contract.id) and contract.fields[_index(contract, contract.id)].required
        self._id_doubtful = self._id_required or self._id_key_at != self._id_at
        self._time_at = place[contract.event_time or "at"]
        self._entity_at = place[contract.entity] if contract.entity else -1

    def _observe(
        self,
        raw: bytes | dict[str, Any],
        now_ms: int,
        new_id: Callable[[], str],
        fallback_at: int | None,
        source: str,
    ) -> Observation:
        try:
            values = astuple(self._decode(raw))  # type: ignore[arg-type]  # a parsed document is refused: second look
        except (*_REFUSED, TypeError):
            return self._observe_carefully(raw, now_ms, new_id, fallback_at, source)
        x = dict(zip(self._features, values, strict=False))
        if None in x.values():
            x = {name: value for name, value in x.items() if value is not None}
        for place, feature, low, high in self._times:
            moment = values[place]
            if moment is None:
                continue
            if moment.__class__ is datetime:
                moment = to_ms(moment)
            if not low <= moment <= high:
                return self._observe_carefully(raw, now_ms, new_id, fallback_at, source)
            if feature:
                x[feature] = moment
        aside = self._beside(values) if self._aside else None
        identity = values[self._id_at]
        if self._id_doubtful:
            identity = self._identity(identity, values[self._id_key_at])
            if identity is _DOUBT:
                return self._observe_carefully(raw, now_ms, new_id, fallback_at, source)
        moment = values[self._time_at]
        if moment.__class__ is datetime:
            moment = to_ms(moment)
        entity = values[self._entity_at] if self._has_entity else None
        return self._observed(x, aside, identity, entity, moment, now_ms, new_id, fallback_at, source)

    def _beside(self, values: tuple[Any, ...]) -> Features | None:
        """The fields that make groups and are no features, typed as features are."""
        given = ((name, values[place]) for name, place in self._aside)
        return {
            name: to_ms(value) if value.__class__ is datetime else value
            for name, value in given
            if value is not None
        } or None

    def _identity(self, own: str | int | None, general: str | int | None) -> Any:
        """The id from the contract's id field and from `id`, None if there is none; `_DOUBT` if that may be wrong."""
        if own is None:
            return _DOUBT if general is None and self._id_required else general
        return own if general is None or general == own else _DOUBT

    def _observe_carefully(
        self,
        raw: bytes | dict[str, Any],
        now_ms: int,
        new_id: Callable[[], str],
        fallback_at: int | None,
        source: str,
    ) -> Observation:
        document = raw if isinstance(raw, dict) else parse(raw)
        x, aside, identity, entity, moment = self._careful.observation(document)
        return self._observed(x, aside, identity, entity, moment, now_ms, new_id, fallback_at, source)

    def _observed(
        self,
        x: Features,
        aside: Features | None,
        identity: str | int | None,
        entity: Scalar | None,
        at: int | None,
        now_ms: int,
        new_id: Callable[[], str],
        fallback_at: int | None,
        source: str,
    ) -> Observation:
        """The rules that concern id, time and entity, and the record."""
        if identity is None:
            identity = new_id()
        elif identity.__class__ is int:
            identity = str(identity)
        # isprintable() is one fast call that holds for nearly every id; the exact rule is asked only if it does not.
        if not identity or len(identity) > ID_LENGTH or not identity.isprintable():  # type: ignore[arg-type,union-attr]
            _check_id(identity, self.contract.id or "id")  # type: ignore[arg-type]  # a string since the lines above
        at = self._event_time(at, now_ms, fallback_at, self.contract.event_time or "at")
        if not self._has_entity:
            return Observation(identity, identity, at, x, source, aside)  # type: ignore[arg-type]  # a string
        key = _entity_text(entity, self.contract.entity)
        return Observation(identity, key, at, x, source, aside)  # type: ignore[arg-type]  # as above

    def _event_time(self, at: int | None, now_ms: int, fallback_at: int | None, field: str) -> int:
        if at is None:
            at = fallback_at
            if at is None:
                return now_ms
        if at < 0:
            raise Poison("lies before 1970", rule="past", field=field)
        if at > now_ms + self._future_ms:
            late = self.contract.limits.future_seconds
            raise Poison(f"lies more than {late} s in the future", rule="future", field=field)
        return at

    # -- labels -----------------------------------------------------------------------------------------------------

    def _compile_label(self) -> None:
        contract, careful = self.contract, self._careful
        spec = contract.label
        value = _wire_type(Field(spec.name, spec.type, minimum=spec.minimum, maximum=spec.maximum))
        keys: list[tuple[str, Any]] = [
            ("id", str | int),
            ("at", int | datetime),
            ("entity", str | int | bool),
        ]
        keys.extend((key, value) for key in careful.label_keys)
        if careful.id_alias:
            keys.append((careful.id_alias, str | int))
        if careful.entity_alias and careful.entity_alias != careful.id_alias:
            keys.append((careful.entity_alias, str | int | bool))
        keys.append(("type", Literal["label"]))
        members: list[tuple[str, Any, Any]] = []
        rename: dict[str, str] = {}
        for key, kind in keys:
            _member(members, rename, key, kind, False)
        wire = msgspec.defstruct(
            "WireLabel", members, rename=rename, kw_only=True, forbid_unknown_fields=True, gc=False
        )
        self._decode_label = msgspec.json.Decoder(wire).decode
        # Values at 0-3: id, at, entity, label; then the other names they may have.
        self._label_alias_at = 4 if len(careful.label_keys) > 1 else -1
        self._aliases = slice(3 + len(careful.label_keys), len(keys) - 1)
        # An escape may hide a key, so it leaves a doubt too.
        self._label_tokens = (*(msgspec.json.encode(key) for key in careful.label_keys), b"\\u")
        self._classes = None if spec.classes is None else frozenset(spec.classes)
        self._positive: Scalar = True if spec.positive is None else spec.positive

    def _label(self, raw: bytes | dict[str, Any], now_ms: int, fallback_at: int | None, source: str) -> Label:
        told = self._told(raw)
        if told is None:
            told = self._careful.label(raw if isinstance(raw, dict) else parse(raw))
        identity, value, entity, at = told
        name = identity if isinstance(identity, str) else str(identity)
        if not name or len(name) > ID_LENGTH or not name.isprintable():
            _check_id(name, "id")
        at = self._event_time(at, now_ms, fallback_at, "at")
        key = _entity_text(entity, "entity") if self._has_entity else name
        return Label(name, key, at, self._answer(value), source)

    def _told(
        self, raw: bytes | dict[str, Any]
    ) -> tuple[str | int, Scalar, Scalar | None, int | None] | None:
        """What a label says: id, raw value, entity, time. None: it is not a plain good one and needs a second look."""
        try:
            values = astuple(self._decode_label(raw))  # type: ignore[arg-type]  # as in _observe
        except (*_REFUSED, TypeError):
            return None
        identity, at, entity, value = values[:4]
        if self._label_alias_at >= 0:
            other = values[self._label_alias_at]
            if other is not None:
                if value is not None:
                    return None
                value = other
        if identity is None or value is None or (self._has_entity and entity is None):
            return None
        if any(other is not None for other in values[self._aliases]):
            return None
        return identity, value, entity, to_ms(at) if at.__class__ is datetime else at

    def _answer(self, value: Scalar) -> Scalar:
        """The raw value as the fold wants it: bool (binary), class (multiclass), float (regression)."""
        if self._classes is not None and value not in self._classes:
            raise Poison("is not among the declared classes", rule="class", field=self.contract.label.name)
        task = self.contract.task
        if task == "binary":
            return value == self._positive
        if task == "regression":
            return float(value)
        return value


def _index(contract: StreamContract, name: str) -> int:
    return next(index for index, field in enumerate(contract.fields) if field.name == name)


def _member(
    members: list[tuple[str, Any, Any]], rename: dict[str, str], key: str, kind: Any, needed: bool
) -> None:
    """Add a struct member for a key; keys need not be Python names, so members are numbered."""
    name = f"m{len(members)}"
    rename[name] = key
    members.append((name, kind, msgspec.NODEFAULT) if needed else (name, kind | None, None))


def _wire_type(field: Field) -> Any:
    """The type that the decoder checks for a field; what it cannot express is checked after it."""
    if field.type == "boolean":
        return bool
    if field.type == "string":
        if field.categories is not None:
            return Literal[tuple(field.categories)]
        return Annotated[str, Meta(max_length=field.max_length)]
    low, high = effective_bounds(field.minimum, field.maximum)
    if field.type == "number":
        return Annotated[float, Meta(ge=low, le=high)]
    if field.type == "time":
        return int | datetime
    return Annotated[int, Meta(ge=max(ceil(low), -_INT64), le=min(floor(high), _INT64))]


def _check_id(id: str, field: str) -> None:
    if not id:
        raise Poison("an id cannot be empty", rule="id", field=field)
    if len(id) > ID_LENGTH:
        raise Poison(f"an id has at most {ID_LENGTH} characters", rule="id", field=field)
    if any(ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 for letter in id):
        raise Poison("an id has no control characters", rule="id", field=field)


def _entity_text(entity: Scalar | None, field: str) -> str:
    if isinstance(entity, str):
        if not entity:
            raise Poison("the entity cannot be empty", rule="entity", field=field)
        return entity
    if isinstance(entity, bool):
        return "true" if entity else "false"
    return str(entity)
