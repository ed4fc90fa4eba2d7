"""What a parameter of a River class takes, read from River's own annotations.

River annotates most constructors with strings such as `optim.base.Optimizer | None`. They are parsed as syntax and
looked up, never evaluated; what River does not annotate takes what its default's type says, and what is still unknown
takes anything, since River's constructor is asked afterwards anyway. A slot is a tuple of alternatives; `fits` decides
by a value's outer shape, what is inside is checked by whoever converts it.
"""

import ast
import importlib
import inspect
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, cast

import river

TYPES: Mapping[str, type] = MappingProxyType(
    {"str": str, "int": int, "float": float, "bool": bool, "number": numbers.Number}
)
"""Names of feature types, as `compose.SelectType` takes them; `number` includes booleans, as in Python."""

SUGAR: Mapping[str, str] = MappingProxyType(
    {
        "pipeline": "compose.Pipeline",
        "union": "compose.TransformerUnion",
        "product": "compose.TransformerProduct",
    }
)
"""Keys that make an object a node without naming a class."""


@dataclass(frozen=True, slots=True)
class Null:
    """JSON null."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A scalar of one Python type: bool, int, float or str."""

    type: type


@dataclass(frozen=True, slots=True)
class Node:
    """A nested node whose class is (a subclass of) `base`."""

    base: type


@dataclass(frozen=True, slots=True)
class ListOf:
    """A JSON list; `into` is what the constructor wants of it: list, tuple or set."""

    item: "Slot"
    into: type = list


@dataclass(frozen=True, slots=True)
class MapOf:
    """A JSON object, or a list of [key, value] pairs where keys are not text."""

    value: "Slot"


@dataclass(frozen=True, slots=True)
class TypeName:
    """The name of a feature type, see `TYPES`."""


@dataclass(frozen=True, slots=True)
class ClassName:
    """The name of a class itself (only `utils.Rolling` takes one)."""


@dataclass(frozen=True, slots=True)
class Anything:
    """River says nothing about it: any JSON value, nested nodes included."""


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing in JSON fits (functions, open iterators): leave it out."""


Alternative = Null | Plain | Node | ListOf | MapOf | TypeName | ClassName | Anything | Never
Slot = tuple[Alternative, ...]
"""What a parameter takes: any one of the alternatives."""


def is_node(raw: Any) -> bool:
    """Whether a JSON value is an object that stands for a class."""
    return isinstance(raw, dict) and ("class" in raw or any(key in raw for key in SUGAR))


def is_number(raw: Any) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(raw, int | float) and not isinstance(raw, bool)


def fits(raw: Any, alternative: Alternative) -> bool:
    """Whether a JSON value has the outer shape of the alternative."""
    match alternative:
        case Null():
            return raw is None
        case Plain(kind):
            return _is_plain(raw, kind)
        case Node():
            return is_node(raw) or isinstance(raw, str) or (isinstance(raw, list) and len(raw) > 0)
        case ListOf():
            return isinstance(raw, list)
        case MapOf():
            pairs = isinstance(raw, list) and all(isinstance(p, list) and len(p) == 2 for p in raw)
            return pairs or (isinstance(raw, dict) and not is_node(raw))
        case TypeName():
            named = raw.get("type") if isinstance(raw, dict) and len(raw) == 1 else raw
            return isinstance(named, str) and named in TYPES
        case ClassName():
            return isinstance(raw, str)
        case Anything():
            return True
        case Never():
            return False


def _is_plain(raw: Any, kind: type) -> bool:
    if kind is float:
        return is_number(raw)
    if kind is int:
        return is_number(raw) and raw == int(raw)
    return isinstance(raw, kind)


def slot_of(parameter: inspect.Parameter) -> Slot:
    """The slot of a constructor's parameter."""
    annotation, default = parameter.annotation, parameter.default
    if isinstance(annotation, str):
        return _parse(ast.parse(annotation, mode="eval").body)
    if isinstance(annotation, type) and annotation is not inspect.Parameter.empty:
        return _named(annotation.__name__, annotation)
    if isinstance(default, bool):
        return (Plain(bool),)
    if isinstance(default, int | float):
        return (Plain(float),)
    if isinstance(default, str):
        return (Plain(str),)
    if isinstance(default, tuple):
        return (ListOf((Anything(),), tuple),)
    return (Anything(),)


def _parse(node: ast.expr) -> Slot:
    """Turn an annotation's syntax into a slot; what is not understood takes anything."""
    match node:
        case ast.Constant(value=None):
            return (Null(),)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _parse(left) + _parse(right)
        case ast.Subscript(value=outer, slice=inner):
            return _generic(_dotted(outer), inner)
        case ast.Name() | ast.Attribute():
            dotted = _dotted(node)
            return _named(dotted, _resolve(dotted))
        case _:
            return (Anything(),)


def _generic(outer: str, inner: ast.expr) -> Slot:
    name = outer.rpartition(".")[2]
    arguments = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    if name in ("list", "set", "tuple"):
        into: type = {"list": list, "set": set, "tuple": tuple}[name]
        return (ListOf(_parse(arguments[0]), into),)
    if name == "dict":
        return (MapOf(_parse(arguments[1])),)
    return _named(outer, _resolve(outer))


_NAMED: Mapping[str, Slot] = MappingProxyType(
    {
        "bool": (Plain(bool),),
        "int": (Plain(int),),
        "float": (Plain(float),),
        "str": (Plain(str),),
        "list": (ListOf((Anything(),)),),
        "dict": (MapOf((Anything(),)),),
        "type": (TypeName(),),
        "FeatureName": (Plain(str),),
        "Hashable": (Plain(str), Plain(bool), Plain(int), Plain(float)),
        "Callable": (Never(),),
        "Iterable": (Never(),),
        "DistanceFunc": (Never(),),
        "FunctionWrapper": (Never(),),
        "TimeRolling": (Never(),),
    }
)


def _named(dotted: str, cls: type | None) -> Slot:
    name = dotted.rpartition(".")[2]
    if name in _NAMED:
        return _NAMED[name]
    return (Node(cls),) if cls is not None else (Anything(),)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _resolve(dotted: str) -> type | None:
    """The River class an annotation means: by its path from `river`, else by its last name."""
    found: Any = river
    for part in dotted.split("."):
        found = getattr(found, part, None)
    if inspect.isclass(found):
        return cast(type, found)
    return _by_last_name().get(dotted.rpartition(".")[2])


@cache
def _by_last_name() -> Mapping[str, type]:
    """Classes that River's annotations name without their module."""
    names: dict[str, type] = {}
    for path in ("neighbors.base", "metrics.base", "stats.base", "tree.splitter.base", "optim.base", "base"):
        module = importlib.import_module(f"river.{path}")
        names |= {name: found for name, found in vars(module).items() if inspect.isclass(found)}
    return MappingProxyType(names)
