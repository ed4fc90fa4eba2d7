"""The second look: what the compiled decoder refused, read again slowly to say exactly what is wrong.

`cleanse` decodes good records in one step and learns nothing from a failure but that there was one. This module then
decides: it names the rule and the field, and it accepts the few harmless spellings the fast decoder does not know
(3.0 for an integer, a date without a time, a byte order mark). The two must never disagree on what both accept;
`tests/unit/contracts/test_cleanse_laws.py` holds them to that. Rules are documented in docs/bad-input.md.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from headrace.contracts import groups
from headrace.contracts.coherence import NUMERIC, effective_bounds
from headrace.contracts.events import Features, Scalar
from headrace.contracts.stream import Field, StreamContract
from headrace.contracts.times import parse_ms
from headrace.errors import Poison

RECORD_BYTES = 64 * 1024
"""Largest record, in bytes."""

DEPTH = 32
"""Deepest nesting that is looked at."""

_SHOWN = 40
_INTEGER_DIGITS = 300
"""Longer integers are read as doubles, which is at most infinity: what the fast decoder keeps, this keeps."""
_JSON_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
}

Spoken = tuple[Features, Features | None, str | int | None, Scalar | None, int | None]
"""What an observation says: x, what stands aside, id, entity, event time in ms; None where it says nothing."""


def parse(raw: bytes) -> dict[str, Any]:
    """Bytes to the one JSON object they are. Raises `Poison`: empty, encoding, json, depth, not_object."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Poison(f"not UTF-8: byte {error.start} cannot be read", rule="encoding") from None
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise Poison("empty: there is nothing but blanks", rule="empty")
    if "\x00" in text:
        raise Poison("has NUL bytes: this is no UTF-8 text (UTF-16, perhaps)", rule="encoding")
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=float)
    except RecursionError:
        raise Poison(f"nested deeper than {DEPTH} levels", rule="depth") from None
    except ValueError as error:
        at = f" at character {error.pos}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
        raise Poison(f"not JSON{at}", rule="json") from None
    if not isinstance(value, dict):
        raise Poison(f"must be one JSON object, not {_name(value)}", rule="not_object")
    _check_depth(value)
    check_text(value)
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _INTEGER_DIGITS else float(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise Poison(f"nested deeper than {DEPTH} levels", rule="depth")


def check_text(document: Mapping[str, Any]) -> None:
    """Refuse half of a surrogate pair (escaped, such as D800): it is no character and cannot be written as UTF-8."""
    for key, value in document.items():
        try:
            key.encode()
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError:
            raise Poison(
                "has half of a surrogate pair, which is no character", rule="encoding", field=_cut(key)
            ) from None


def _cut(text: str) -> str:
    """A producer's key, short and writable."""
    return text[:_SHOWN].encode("utf-8", "backslashreplace").decode()


def _name(value: Any) -> str:
    return _JSON_NAMES.get(type(value), "null")


def _shown(field: Field, value: Any) -> str:
    """The value for an error text; a personal one stays out of it."""
    if field.personal:
        return "the value"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class Careful:
    """One contract's rules, applied to parsed documents one field at a time."""

    def __init__(self, contract: StreamContract) -> None:
        self._contract = contract
        self._fields = {field.name: field for field in contract.fields}
        self._aside = groups.aside(contract)
        self.has_kind = "type" not in self._fields
        self._label = Field(
            contract.label.name,
            contract.label.type,
            required=True,
            minimum=contract.label.minimum,
            maximum=contract.label.maximum,
        )
        self.label_keys = tuple(dict.fromkeys((contract.label.name, "label")))
        """What the label's value may be called in a label."""
        self.telling_keys = tuple(key for key in self.label_keys if key not in self._fields)
        """Those of them that no field is called: such a key alone tells that a record is a label."""
        self.ambiguous = not self.has_kind or len(self.telling_keys) < len(self.label_keys)
        """Whether a field is called `type` or `label`, so that those keys do not tell the kind of a record."""
        own = ("id", "at", "entity", "type", *self.label_keys)
        self.id_alias = contract.id if contract.id not in own else ""
        self.entity_alias = contract.entity if contract.entity not in own else ""
        self._known_in_label = {
            "id",
            "at",
            "entity",
            "type",
            *self.label_keys,
            *filter(None, (self.id_alias, self.entity_alias)),
        }
        self._known = set(self._fields) | {"id"}
        if not contract.event_time:
            self._known.add("at")
        if self.has_kind:
            self._known.add("type")

    def kind(self, document: Mapping[str, Any]) -> str:
        """Label or `observation`: what `type` says, else a label if it has a label's value and no other keys."""
        if self.has_kind and document.get("type") is not None:
            kind = document["type"]
            if kind not in ("observation", "label"):
                raise Poison(
                    f"type is `observation` or `label`, not {kind!r:.{_SHOWN}}", rule="kind", field="type"
                )
            return str(kind)
        told = any(key in document for key in self.telling_keys)
        return "label" if told and self._known_in_label.issuperset(document) else "observation"

    def observation(self, document: Mapping[str, Any]) -> Spoken:
        """What the observation says, typed and in range. Raises `Poison` naming the first broken rule."""
        if self.has_kind and document.get("type") is not None and self.kind(document) == "label":
            raise Poison("says it is a label; only observations are taken here", rule="kind", field="type")
        for key in document:
            if key not in self._known:
                raise self._unknown(key)
        contract = self._contract
        values = {name: self.value(field, document.get(name)) for name, field in self._fields.items()}
        x = {
            name: value
            for name, value in values.items()
            if value is not None and self._fields[name].feature and name != contract.event_time
        }
        identity = self._identity(document, "id")
        if contract.id and contract.id != "id":
            identity = _either(values[contract.id], identity, contract.id)
        self._require(values, identity)
        entity = values[contract.entity] if contract.entity else None
        moment = values[contract.event_time] if contract.event_time else _time("at", document.get("at"))
        aside = {name: value for name in self._aside if (value := values[name]) is not None}
        return x, aside or None, identity, entity, moment  # type: ignore[return-value]  # the roles' types are checked by `check`

    def label(self, document: Mapping[str, Any]) -> tuple[str | int, Scalar, Scalar | None, int | None]:
        """What the label says: id, raw value, entity, time in ms. Raises `Poison`."""
        if document.get("type") not in (None, "label"):
            raise Poison("says it is no label; only labels are taken here", rule="kind", field="type")
        for key in document:
            if key not in self._known_in_label:
                raise Poison(
                    f"a label has {', '.join(sorted(self._known_in_label))}; not this",
                    rule="unknown_field",
                    field=_cut(key),
                )
        identity = self._identity(document, "id")
        if self.id_alias:
            identity = _either(self._identity(document, self.id_alias), identity, self.id_alias)
        if identity is None:
            raise Poison("a label names its observation by `id`", rule="missing", field="id")
        raw: Scalar | None = None
        for key in self.label_keys:
            raw = _either(self._label_value(document.get(key)), raw, key)
        if raw is None:
            raise Poison("the label's value is missing", rule="missing", field=self._contract.label.name)
        entity = _entity("entity", document.get("entity"))
        if self.entity_alias:
            entity = _either(
                _entity(self.entity_alias, document.get(self.entity_alias)), entity, self.entity_alias
            )
        if entity is None and self._contract.entity:
            raise Poison(
                f"a label on this stream needs `entity`, the {self._contract.entity} of its observation: "
                "it decides the partition",
                rule="missing",
                field="entity",
            )
        return identity, raw, entity, _time("at", document.get("at"))

    def value(self, field: Field, value: Any) -> Scalar | None:
        """The typed value of a field, None if it is absent or null. Raises `Poison`."""
        if value is None:
            return None
        if field.type == "time":
            moment = _time(field.name, value)
            bounded = field.minimum is not None or field.maximum is not None
            if moment is None or (field.name == self._contract.event_time and not bounded):
                return moment
            return int(_in_range(field, moment))
        if field.type in NUMERIC:
            return _number(field, value)
        if field.type == "boolean":
            if not isinstance(value, bool):
                raise _wrong_type(field, value, "a boolean (true or false)")
            return value
        if not isinstance(value, str):
            raise _wrong_type(field, value, "a string")
        if len(value) > field.max_length:
            raise Poison(
                f"has {len(value)} characters, {field.max_length} are allowed",
                rule="too_long",
                field=field.name,
            )
        if field.categories is not None and value not in field.categories:
            raise Poison(
                f"{_shown(field, value)} is not among the declared categories",
                rule="category",
                field=field.name,
            )
        return value

    def _label_value(self, value: Any) -> Scalar | None:
        return self.value(self._label, value)

    def _identity(self, document: Mapping[str, Any], key: str) -> str | int | None:
        value = document.get(key)
        if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            return value
        raise Poison(f"an id is a string or an integer, not {_name(value)}", rule="type", field=key)

    def _require(self, values: Mapping[str, Scalar | None], identity: str | int | None) -> None:
        contract = self._contract
        for name, value in values.items():
            if value is not None or (name == contract.id and identity is not None):
                continue
            if self._fields[name].required or name in (contract.entity, contract.event_time):
                role = {contract.entity: " (the entity)", contract.event_time: " (the event time)"}.get(
                    name, ""
                )
                raise Poison(f"is required{role}, but missing or null", rule="missing", field=name)

    def _unknown(self, key: str) -> Poison:
        if key in self.label_keys:
            reason = "the label is sent apart, when it is known, as a record with the observation's id"
        else:
            near = next((name for name in self._fields if name.casefold() == key.casefold()), None)
            reason = f"the contract calls it {near!r}" if near else "the contract has no such field"
        return Poison(reason, rule="unknown_field", field=_cut(key))


def _either(first: Any, second: Any, key: str) -> Any:
    if first is not None and second is not None and first != second and str(first) != str(second):
        raise Poison("is given twice, under two names, with different values", rule="conflict", field=key)
    return second if first is None else first


def _entity(key: str, value: Any) -> Scalar | None:
    if value is None or isinstance(value, str | int):
        return value
    raise Poison(
        f"an entity is a string, an integer or a boolean, not {_name(value)}", rule="type", field=key
    )


def _time(key: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Poison(
            f"a time is an RFC 3339 string or integer milliseconds since 1970 UTC, not {_name(value)}",
            rule="type",
            field=key,
        )
    if isinstance(value, int):
        return value
    try:
        return parse_ms(value)
    except ValueError:
        raise Poison("is no RFC 3339 time, such as 2013-01-01T05:15:00Z", rule="time", field=key) from None


def _wrong_type(field: Field, value: Any, wanted: str) -> Poison:
    hint = "; numbers and booleans are written without quotes" if isinstance(value, str) else ""
    return Poison(f"must be {wanted}, not {_name(value)}{hint}", rule="type", field=field.name)


def _number(field: Field, value: Any) -> int | float:
    wanted = "an integer" if field.type == "integer" else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(field, value, wanted)
    if not math.isfinite(value):
        raise Poison(
            "must be finite: no NaN, no infinity, nothing a double cannot hold",
            rule="not_finite",
            field=field.name,
        )
    if field.type == "number":
        return _in_range(field, float(value))
    if isinstance(value, float) and not value.is_integer():
        raise Poison(
            f"must be an integer, {_shown(field, value)} has a fraction", rule="type", field=field.name
        )
    return _in_range(field, int(value))


def _in_range(field: Field, value: int | float) -> int | float:
    low, high = effective_bounds(field.minimum, field.maximum)
    if low <= value <= high:
        return value
    bound, declared = (low, field.minimum) if value < low else (high, field.maximum)
    side = "below the minimum" if value < low else "above the maximum"
    if declared is None:
        reason = f"{_shown(field, value)} is beyond {bound:g}; declare a range if such values are real"
        raise Poison(reason, rule="magnitude", field=field.name)
    raise Poison(f"{_shown(field, value)} is {side} {bound:g}", rule="range", field=field.name)
