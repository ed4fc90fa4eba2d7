"""What makes a stream's contract coherent: the rules that types alone cannot say.

Apart from `stream.py` so that the structs can be read at a glance. Every refusal says where and what to write instead.
What breaks if a rule is dropped: two meanings for one key on the wire (`id`, `at`), a label that leaks into the
features, or a bound that nothing can satisfy, each of which shows only after the stream has a log.
"""

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from headrace.contracts.topics import check_stream_name
from headrace.errors import Unusable

if TYPE_CHECKING:
    from headrace.contracts.stream import Field, LabelSpec, StreamContract

FIELDS = 1024
"""Most fields a stream may have."""

NAME_LENGTH = 128
"""Longest name of a field or label, in characters."""

MAX_LENGTH = 256
"""Longest string, in characters, unless a field says otherwise."""

STRING_LENGTH = 65_536
"""Longest `max_length`: a record of 64 KiB cannot hold more."""

CATEGORIES = 10_000
"""Most categories or classes."""

MAGNITUDE = 1e15
"""Numbers without declared bounds are held within +- this."""

EDGES = 31
"""Most edges of a field's groups."""

WHOLE = 2**53
"""Bounds of integers lie within +- this: beyond it JSON readers disagree about the value."""

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""Years 1 to 9999, in ms since 1970 UTC."""

NUMERIC = ("integer", "number")
BOUNDED = ("integer", "number", "time")
ROLE_TYPES = {
    "id": ("string", "integer"),
    "event_time": ("time",),
    "entity": ("string", "integer", "boolean"),
}
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def effective_bounds(minimum: float | None, maximum: float | None) -> tuple[float, float]:
    """The bounds that hold, both inclusive: a declared one, else +-`MAGNITUDE` (or the largest double beyond that)."""
    low = minimum if minimum is not None else -MAGNITUDE
    high = maximum if maximum is not None else MAGNITUDE
    if low > high:
        return (low, sys.float_info.max) if maximum is None else (-sys.float_info.max, high)
    return low, high


def check_coherence(contract: "StreamContract") -> None:
    """Raise `Unusable`, naming the place, if the contract contradicts itself or cannot be kept."""
    check_stream_name(contract.name)
    if not 1 <= len(contract.fields) <= FIELDS:
        raise Unusable(f"a stream has 1 to {FIELDS} fields, this one {len(contract.fields)}", where="fields")
    seen: set[str] = set()
    for index, field in enumerate(contract.fields):
        where = f"fields[{index}]"
        if field.name in seen:
            raise Unusable(f"two fields are called {field.name!r}", where=f"{where}.name")
        seen.add(field.name)
        _check_field(field, where)
    _check_roles(contract)
    _check_label(contract.label, contract.task)
    if contract.label.name in seen:
        raise Unusable(
            f"{contract.label.name!r} is also a field: the label would be known before it is asked for; "
            "take the field out",
            where="label.name",
        )
    if not 1 <= contract.partitions <= 1024:
        raise Unusable("between 1 and 1024", where="partitions")
    if contract.version < 1:
        raise Unusable("versions begin at 1", where="version")
    _check_limits(contract)


def _check_name(name: str, where: str) -> None:
    if not name or len(name) > NAME_LENGTH:
        raise Unusable(f"a name has 1 to {NAME_LENGTH} characters", where=where)
    if not name.isprintable() or name != name.strip():
        raise Unusable(f"{name!r}: no control characters, no blanks at the ends", where=where)
    if name == "specversion":
        raise Unusable("`specversion` marks CloudEvents; call the field otherwise", where=where)


def _check_field(field: "Field", where: str) -> None:
    _check_name(field.name, f"{where}.name")
    _check_bounds(field.type, field.minimum, field.maximum, where)
    _check_groups(field, where)
    if field.type != "string":
        if field.categories is not None:
            raise Unusable("only a string field has categories", where=f"{where}.categories")
        if field.max_length != MAX_LENGTH:
            raise Unusable("only a string field has a length", where=f"{where}.max_length")
        return
    if not 1 <= field.max_length <= STRING_LENGTH:
        raise Unusable(f"between 1 and {STRING_LENGTH}", where=f"{where}.max_length")
    if field.categories is not None:
        _check_set(field.categories, f"{where}.categories")
        long = next((text for text in field.categories if len(text) > field.max_length), None)
        if long is not None:
            raise Unusable(
                f"{long!r} is longer than max_length {field.max_length}", where=f"{where}.categories"
            )


def _check_groups(field: "Field", where: str) -> None:
    if field.segment and field.personal:
        raise Unusable("a personal field is one person each: it makes no segments", where=f"{where}.segment")
    if field.edges is None:
        if (field.segment or field.sensitive) and not field.personal and field.type in ("number", "time"):
            raise Unusable(
                f"say where the groups of {field.name} begin: each {field.type} would be a group of its own",
                where=f"{where}.edges",
            )
        return
    if field.type not in BOUNDED:
        raise Unusable(
            f"the groups of a {field.type} are its values: it has no edges", where=f"{where}.edges"
        )
    if not 1 <= len(field.edges) <= EDGES:
        raise Unusable(f"1 to {EDGES} edges", where=f"{where}.edges")
    for edge in field.edges:
        _check_number(field.type, edge, f"{where}.edges")
    if any(low >= high for low, high in pairwise(field.edges)):
        raise Unusable("edges rise", where=f"{where}.edges")


def _check_bounds(type_name: str, minimum: float | None, maximum: float | None, where: str) -> None:
    for name, bound in (("minimum", minimum), ("maximum", maximum)):
        if bound is None:
            continue
        if type_name not in BOUNDED:
            raise Unusable(f"a {type_name} has no {name}", where=f"{where}.{name}")
        _check_number(type_name, bound, f"{where}.{name}")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise Unusable(f"{minimum:g} is above the maximum {maximum:g}", where=f"{where}.minimum")


def _check_number(type_name: str, number: float, where: str) -> None:
    if not math.isfinite(number):
        raise Unusable("must be finite", where=where)
    if type_name == "integer" and abs(number) > WHOLE:
        raise Unusable("an integer is held within +-2**53", where=where)
    if type_name == "time" and not (FIRST_MS <= number <= LAST_MS and number == int(number)):
        raise Unusable("whole milliseconds since 1970, in the years 1 to 9999", where=where)


def _check_set(values: Sequence[Any], where: str) -> None:
    if not 1 <= len(values) <= CATEGORIES:
        raise Unusable(f"1 to {CATEGORIES} values", where=where)
    if len(set(values)) != len(values):
        raise Unusable("a value is listed twice", where=where)


def _check_roles(contract: "StreamContract") -> None:
    by_name = {field.name: field for field in contract.fields}
    for role, types in ROLE_TYPES.items():
        name = getattr(contract, role)
        if not name:
            continue
        field = by_name.get(name)
        if field is None:
            raise Unusable(f"no field is called {name!r}", where=role)
        if field.type not in types:
            raise Unusable(f"{name!r} is a {field.type}; the {role} must be {' or '.join(types)}", where=role)
    if contract.event_time and by_name[contract.event_time].feature:
        raise Unusable(
            f"{contract.event_time!r} is the event time, which is the record's `at` and never a feature",
            where="event_time",
        )
    if contract.event_time and contract.event_time == contract.entity:
        raise Unusable("the event time cannot be the entity", where="entity")
    if contract.entity and contract.entity == contract.id:
        raise Unusable("leave it empty: without an entity, the id decides the partition", where="entity")
    for key, role in (("id", "id"), ("at", "event_time")):
        if key in by_name and getattr(contract, role) != key:
            raise Unusable(
                f"on the wire `{key}` is the observation's {role}: set {role} to {key!r}, or call the field otherwise",
                where=f"fields[{contract.fields.index(by_name[key])}].name",
            )


def _check_label(label: "LabelSpec", task: str) -> None:
    _check_name(label.name, "label.name")
    if label.name in ("id", "at", "entity", "type"):
        raise Unusable(
            f"`{label.name}` means something else in a label; call it otherwise", where="label.name"
        )
    if task == "regression" and label.type not in NUMERIC:
        raise Unusable("a regression label is a number", where="label.type")
    if task == "regression" and label.classes is not None:
        raise Unusable("a regression has no classes", where="label.classes")
    if task == "multiclass" and label.type == "boolean":
        raise Unusable("a boolean has two classes: make the task binary", where="label.type")
    if task == "binary" and label.type != "boolean" and label.positive is None:
        raise Unusable("say which value of the label is the positive one", where="label.positive")
    if task != "binary" and label.positive is not None:
        raise Unusable("only a binary label has a positive value", where="label.positive")
    if task != "binary" and label.expiry == "negative":
        raise Unusable("only a binary stream can expire to a negative", where="label.expiry")
    if label.wait_seconds < 0:
        raise Unusable("cannot be negative", where="label.wait_seconds")
    _check_bounds(label.type, label.minimum, label.maximum, "label")
    _check_classes(label)


def _check_classes(label: "LabelSpec") -> None:
    if label.positive is not None:
        _check_typed(label.positive, label.type, "label.positive")
    if label.classes is not None:
        for index, value in enumerate(label.classes):
            _check_typed(value, label.type, f"label.classes[{index}]")
        _check_set(label.classes, "label.classes")
        if len(label.classes) < 2:
            raise Unusable("one class alone leaves nothing to learn", where="label.classes")
        if label.positive is not None and label.positive not in label.classes:
            raise Unusable(f"{label.positive!r} is not among the classes", where="label.positive")


def _check_typed(value: Any, type_name: str, where: str) -> None:
    fits = isinstance(value, PYTHON_TYPES[type_name]) and (
        type_name == "boolean" or not isinstance(value, bool)
    )
    if not fits:
        raise Unusable(
            f'{value!r} is no {type_name}, which the label is; in YAML, quote texts such as "yes" or "1"',
            where=where,
        )


def _check_limits(contract: "StreamContract") -> None:
    limits = contract.limits
    if limits.pending < 1:
        raise Unusable("at least 1", where="limits.pending")
    if limits.remembered < limits.pending:
        raise Unusable("must be at least limits.pending", where="limits.remembered")
    if limits.early_labels < 0:
        raise Unusable("cannot be negative", where="limits.early_labels")
    if limits.future_seconds < 0:
        raise Unusable("cannot be negative", where="limits.future_seconds")
