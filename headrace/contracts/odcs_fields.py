"""One field of a contract as a property of an ODCS document, and back; and the custom properties that are ours.

The standard's own words come first: logical types and their options, `required`, `primaryKey`, `classification`, and
for a closed set of values the quality rule `invalidValues` (or ODCS 3.2's `enum`). A constraint that Headrace does not
check is refused, not skipped: a contract must not promise what nobody holds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from open_data_contract_standard.model import CustomProperty, SchemaProperty

from headrace.contracts.coherence import MAX_LENGTH
from headrace.contracts.stream import Field, FieldType, StreamContract, feature_by_default
from headrace.contracts.times import parse_ms, to_text
from headrace.errors import Unusable

PREFIX = "headrace"
FIELD_PROPERTIES = ("Feature", "Sensitive", "Segment", "Edges", "Personal", "Unit")

LOGICAL_TYPES: dict[str, FieldType] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "timestamp": "time",
    "date": "time",
}
WRITTEN_TYPES = {kind: logical for logical, kind in reversed(LOGICAL_TYPES.items())}

_OPTIONS = {
    "string": ("maxLength",),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "boolean": (),
    "time": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
_TOLD_ONLY = ("format", "timezone", "defaultTimezone")
_PERSONAL = ("personal", "pii")

Path = str


class Told(dict[str, tuple[Any, Path]]):
    """Custom properties of ours, without the prefix: value and path."""

    def take(self, name: str, kind: Any, default: Any) -> Any:
        """The value as `kind`, or the default. Raises `Unusable` at its path."""
        if name not in self:
            return default
        value, path = self[name]
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            reason, _, where = str(error).partition(" - at `$")
            raise Unusable(reason, where=path + where.strip("`")) from None

    def path(self, name: str, default: Path) -> Path:
        """Where the property stands."""
        return self[name][1] if name in self else default


def ours(properties: Sequence[CustomProperty] | None, known: Sequence[str], path: Path) -> Told:
    """Our custom properties among all. Raises `Unusable` for one that is not `known`, or given twice."""
    told = Told()
    for index, custom in enumerate(properties or ()):
        if not (custom.property or "").startswith(PREFIX):
            continue
        name = (custom.property or "").removeprefix(PREFIX)
        where = f"{path}[{index}]"
        if name not in known:
            names = ", ".join(PREFIX + one for one in known)
            raise Unusable(f"{custom.property} is unknown here; there are {names}", where=f"{where}.property")
        if name in told:
            raise Unusable(f"{custom.property} is given twice", where=f"{where}.property")
        if custom.value is not None:
            told[name] = (custom.value, f"{where}.value")
    return told


def custom_properties(**values: Any) -> list[dict[str, Any]]:
    """Custom properties under our prefix; what is None or empty is left out."""
    return [
        {"property": f"{PREFIX}{name}", "value": value}
        for name, value in values.items()
        if value is not None and value not in ("", {})
    ]


def write_field(contract: StreamContract, field: Field) -> dict[str, Any]:
    """The property, as a plain mapping. The contract is a checked one."""
    written: dict[str, Any] = {"name": field.name, "logicalType": WRITTEN_TYPES[field.type]}
    if field.name == contract.id:
        written |= {"primaryKey": True, "primaryKeyPosition": 1}
    if field.required:
        written["required"] = True
    if field.description:
        written["description"] = field.description
    options = {
        "maxLength": field.max_length if field.type == "string" else None,
        "minimum": _written_bound(field.type, field.minimum),
        "maximum": _written_bound(field.type, field.maximum),
    }
    options = {name: value for name, value in options.items() if value is not None}
    if options:
        written["logicalTypeOptions"] = options
    if field.personal or field.sensitive:
        written["classification"] = "personal" if field.personal else "sensitive"
    if field.categories is not None:
        valid = {"validValues": field.categories}
        written["quality"] = [{"type": "library", "metric": "invalidValues", "arguments": valid, "mustBe": 0}]
    custom = custom_properties(
        Feature=None if field.feature == feature_by_default(contract, field) else field.feature,
        Sensitive=field.sensitive or None,
        Segment=field.segment or None,
        Edges=None if field.edges is None else [_written_bound(field.type, edge) for edge in field.edges],
        Personal=field.personal or None,
        Unit=field.unit,
    )
    return written | ({"customProperties": custom} if custom else {})


def _written_bound(kind: FieldType, bound: float | None) -> int | float | str | None:
    if bound is None:
        return None
    if kind == "time":
        return to_text(int(bound))
    return int(bound) if abs(bound) <= 2**53 and bound == int(bound) else bound


def read_field(item: SchemaProperty, path: Path) -> Field:
    """The field that a property at `path` describes. Raises `Unusable`."""
    if not item.name:
        raise Unusable("a property needs a name", where=f"{path}.name")
    kind = LOGICAL_TYPES.get(item.logicalType or "")
    if kind is None:
        given = f"not {item.logicalType}" if item.logicalType else "which is missing"
        raise Unusable(f"one of {', '.join(LOGICAL_TYPES)}, {given}", where=f"{path}.logicalType")
    told = ours(item.customProperties, FIELD_PROPERTIES, f"{path}.customProperties")
    options = _options(kind, item.logicalTypeOptions or {}, f"{path}.logicalTypeOptions")
    classification = (item.classification or "").strip().lower()
    return Field(
        name=item.name,
        type=kind,
        required=bool(item.required),
        feature=told.take("Feature", bool, None),
        minimum=options.get("minimum"),
        maximum=options.get("maximum"),
        max_length=options.get("maxLength", MAX_LENGTH),
        categories=_categories(item, path),
        unit=told.take("Unit", str, ""),
        sensitive=told.take("Sensitive", bool, classification == "sensitive"),
        segment=told.take("Segment", bool, False),
        edges=_edges(kind, told, path),
        personal=told.take("Personal", bool, classification in _PERSONAL),
        description=item.description or "",
    )


def _options(kind: FieldType, options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Bounds by our names; exclusive ones become the next value inside. Raises `Unusable` for what is not checked."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        where = f"{path}.{name}"
        if name in _TOLD_ONLY or value is None:
            continue
        if name not in _OPTIONS[kind]:
            allowed = ", ".join(_OPTIONS[kind]) or "none"
            raise Unusable(
                f"is not checked for a {kind}, so it cannot be promised; allowed: {allowed}", where=where
            )
        if name == "maxLength":
            found[name] = _whole(value, where)
            continue
        bound = _bound(kind, value, where)
        side = name.removeprefix("exclusive").lower()
        if name.startswith("exclusive"):
            up = math.inf if side == "minimum" else -math.inf
            step = math.copysign(1, up)
            bound = (
                math.nextafter(bound, up)
                if kind == "number"
                else (bound + step if bound.is_integer() else bound)
            )
        if side in found:
            tighter = max if side == "minimum" else min
            bound = tighter(bound, found[side])
        found[side] = bound
    return found


def _edges(kind: FieldType, told: Told, path: Path) -> list[float] | None:
    edges = told.take("Edges", list[Any] | None, None)
    where = told.path("Edges", path)
    return None if edges is None else [_bound(kind, edge, f"{where}[{n}]") for n, edge in enumerate(edges)]


def _bound(kind: FieldType, value: Any, where: Path) -> float:
    if kind == "time" and isinstance(value, str):
        try:
            return float(parse_ms(value))
        except ValueError:
            raise Unusable("an RFC 3339 time, such as 2013-01-01T00:00:00Z", where=where) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable("a time in quotes" if kind == "time" else "a number", where=where)
    return float(value)


def _whole(value: Any, where: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unusable("a whole number", where=where)
    return value


def _categories(item: SchemaProperty, path: Path) -> list[str] | None:
    """From `enum`, or from a quality rule that allows no invalid value."""
    if item.enum is not None:
        return _texts([one.value for one in item.enum], f"{path}.enum")
    for index, rule in enumerate(item.quality or ()):
        if (
            (rule.metric or rule.rule) == "invalidValues"
            and rule.mustBe == 0
            and "validValues" in (rule.arguments or {})
        ):
            where = f"{path}.quality[{index}].arguments.validValues"
            return _texts((rule.arguments or {})["validValues"], where)
    return None


def _texts(values: Any, where: Path) -> list[str]:
    if not isinstance(values, list):
        raise Unusable("a list of texts", where=where)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise Unusable(f"{value!r} is no text; put it in quotes", where=f"{where}[{index}]")
    return values
