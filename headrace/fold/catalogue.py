"""Which classes a model specification may name, and what each of their parameters takes.

The catalogue is closed by default: it is built by walking `__all__` of the River modules listed here, minus `EXCLUDED`,
each with its reason, plus a user's own classes from the entry point group `headrace.estimators`. A name in a document
is only ever looked up in this dictionary, never imported, so that a specification cannot reach any other code. What a
parameter takes is read from River's own annotations (parsed as syntax, never evaluated) or, where River has none, from
the type of the default. A test holds that every public class of the pinned River is either allowed or excluded with a
reason: an upgrade forces a decision.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType
from typing import Any, cast

import river
from river import base

from headrace.errors import Unusable
from headrace.fold import replacements

ENTRY_POINT_GROUP = "headrace.estimators"
CUSTOM = "custom:"

MODULES = (
    "anomaly", "bandit", "compose", "conf", "covariance", "drift", "drift.binary", "dummy", "ensemble", "facto",
    "feature_extraction", "feature_selection", "forest", "imblearn", "linear_model", "metrics", "misc",
    "model_selection", "multiclass", "naive_bayes", "neighbors", "optim", "optim.initializers", "optim.losses",
    "optim.schedulers", "preprocessing", "proba", "rules", "sketch", "stats", "tree", "tree.splitter", "utils",
)  # fmt: skip

EXCLUDED_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "active": "answers a pair (answer, ask for the label), not an answer",
        "api": "only lists the other modules",
        "bandit.datasets": "reads files",
        "bandit.envs": "simulates environments, is no part of a model",
        "base": "interfaces, nothing to build",
        "checks": "River's own test kit",
        "cluster": "clusterers answer no label question",
        "compat": "wraps objects of other libraries, which no document can name",
        "datasets": "reads and downloads files",
        "drift.datasets": "reads files",
        "evaluate": "runs evaluations, is no part of a model",
        "metrics.multioutput": "a label has one value",
        "multioutput": "a label has one value",
        "reco": "asks for user and item arguments beside x",
        "stream": "reads files and sockets",
        "time_series": "forecasts horizons instead of answering an observation",
    }
)

_CALLABLE = "takes a function, which no document can name"
_NEEDS_TIME = "needs the argument t, which River models are not given; declare `features` with a window instead"

EXCLUDED: Mapping[str, str] = MappingProxyType(
    {
        "compose.FuncTransformer": _CALLABLE,
        "compose.TargetTransformRegressor": _CALLABLE,
        "utils.TimeRolling": _NEEDS_TIME,
        "utils.VectorDict": "a container, nothing to configure",
        "utils.SortedWindow": "a container, nothing to configure",
    }
)


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
    """A JSON object, or a list of [key, value] pairs where keys are no strings."""

    value: "Slot"


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type of feature: str, int, float, bool or number."""


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


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a constructor. variadic: it is `*name`, given as a list. open: it is `**name`."""

    name: str
    slot: Slot
    required: bool = False
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One class a document may name. open: further keyword arguments go to a class that `cls` wraps."""

    name: str
    cls: type
    parameters: Mapping[str, Parameter]
    open: bool = False


_STEPS: Slot = (ListOf((Node(base.Estimator),)),)

OVERRIDES: Mapping[str, Slot] = MappingProxyType(
    {
        "anomaly.QuantileFilter.anomaly_detector": (Node(base.AnomalyDetector),),
        "anomaly.ThresholdFilter.anomaly_detector": (Node(base.AnomalyDetector),),
        "compose.Pipeline.steps": _STEPS,
        "compose.TransformerProduct.transformers": _STEPS,
        "compose.TransformerUnion.transformers": _STEPS,
        "conf.RegressionJackknife.regressor": (Node(base.Regressor),),
        "model_selection.BanditClassifier.models": (ListOf((Node(base.Classifier),)),),
        "model_selection.BanditRegressor.models": (ListOf((Node(base.Regressor),)),),
        "model_selection.SuccessiveHalvingClassifier.models": (ListOf((Node(base.Classifier),)),),
        "model_selection.SuccessiveHalvingRegressor.models": (ListOf((Node(base.Regressor),)),),
        "multiclass.OneVsOneClassifier.classifier": (Node(base.Classifier),),
        "preprocessing.Binarizer.dtype": (TypeName(),),
        "preprocessing.StatImputer.imputers": (ListOf((ListOf((Anything(),), tuple),)),),
        "utils.Rolling.cls": (ClassName(),),
    }
)
"""Where River's annotations are missing or say too little."""

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def public_classes() -> Iterator[tuple[str, type]]:
    """Every public concrete class of the listed River modules, as (`module.Name`, class), excluded ones too."""
    for module_name in MODULES:
        module = importlib.import_module(f"river.{module_name}")
        for name in sorted(set(module.__all__)):
            found = getattr(module, name, None)
            if inspect.isclass(found) and not inspect.isabstract(found):
                yield f"{module_name}.{name}", found


@cache
def entries() -> Mapping[str, Entry]:
    """The catalogue of River classes, by name such as `linear_model.LogisticRegression`."""
    found: dict[str, Entry] = {}
    for name, cls in public_classes():
        if name not in EXCLUDED:
            found[name] = _entry(name, replacements.REPLACED.get(cls, cls))
    return MappingProxyType(found)


@cache
def custom(name: str) -> Entry:
    """The user's class registered as `name` in the entry point group. Raises `Unusable` if there is none."""
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise Unusable(f"no estimator {name!r} is installed under the entry points {ENTRY_POINT_GROUP!r} ({known})")
    cls = points[name].load()
    if not (inspect.isclass(cls) and issubclass(cls, base.Base)):
        raise Unusable(f"the entry point {name!r} is not a class that derives from river.base")
    return _entry(f"{CUSTOM}{name}", cls)


@cache
def custom_modules() -> frozenset[str]:
    """Top modules of the installed user classes, which a checkpoint may therefore hold."""
    return frozenset(point.module.partition(".")[0] for point in entry_points(group=ENTRY_POINT_GROUP))


def _entry(name: str, cls: type) -> Entry:
    parameters: dict[str, Parameter] = {}
    is_open = False
    for parameter in list(inspect.signature(cls).parameters.values()):
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            is_open = True
            continue
        variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        if variadic and parameter.name == "args":
            continue
        slot = OVERRIDES.get(f"{name}.{parameter.name}") or _slot_of(parameter)
        if variadic and f"{name}.{parameter.name}" not in OVERRIDES:
            slot = (ListOf(slot),)
        required = parameter.default is inspect.Parameter.empty and not variadic
        parameters[parameter.name] = Parameter(parameter.name, slot, required, variadic)
    return Entry(name, cls, MappingProxyType(parameters), is_open and name == "utils.Rolling")


def _slot_of(parameter: inspect.Parameter) -> Slot:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return _parse(ast.parse(annotation, mode="eval").body)
    if isinstance(annotation, type) and annotation is not inspect.Parameter.empty:
        return _named(annotation.__name__, annotation)
    default = parameter.default
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
        "Hashable": (Plain(str), Plain(int), Plain(bool), Plain(float)),
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
        module: ModuleType = importlib.import_module(f"river.{path}")
        names |= {name: found for name, found in vars(module).items() if inspect.isclass(found)}
    return MappingProxyType(names)
