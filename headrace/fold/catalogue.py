"""Which classes a model specification may name, and what each of their parameters takes.

The catalogue is closed by default: it is built by walking `__all__` of the River modules listed here, minus `EXCLUDED`,
each with its reason, plus a user's own classes from the entry point group `headrace.estimators`. A name in a document
is only ever looked up in this dictionary, never imported, so that a specification cannot reach any other code. A test
holds that every public class of the pinned River is either allowed or excluded with a reason, so an upgrade forces a
decision; another holds that every allowed class gives the same answers in any process and after any reload.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from river import base

from headrace.errors import Unusable
from headrace.fold import replacements
from headrace.fold.slots import (
    TYPES,
    Alternative,
    Anything,
    ClassName,
    ListOf,
    MapOf,
    Never,
    Node,
    Null,
    Plain,
    Slot,
    TypeName,
    slot_of,
)

ENTRY_POINT_GROUP = "headrace.estimators"
CUSTOM = "custom:"

MODULES = (
    "anomaly", "bandit", "compose", "conf", "drift", "drift.binary", "dummy", "ensemble", "facto",
    "feature_extraction", "feature_selection", "forest", "imblearn", "linear_model", "metrics", "model_selection",
    "multiclass", "naive_bayes", "neighbors", "optim", "optim.initializers", "optim.losses", "optim.schedulers",
    "preprocessing", "rules", "stats", "tree", "tree.splitter", "utils",
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
        "covariance": "no parameter of a model takes one",
        "datasets": "reads and downloads files",
        "drift.datasets": "reads files",
        "evaluate": "runs evaluations, is no part of a model",
        "metrics.multioutput": "a label has one value",
        "misc": "no parameter of a model takes one, and ZstdClassifier needs Python 3.14",
        "multioutput": "a label has one value",
        "proba": "only bandit.ThompsonSampling takes one, which River's model selection cannot use",
        "reco": "asks for user and item arguments beside x",
        "sketch": "no parameter of a model takes one",
        "stream": "reads files and sockets",
        "time_series": "forecasts horizons instead of answering an observation",
    }
)

_CALLABLE = "takes a function, which no document can name"
_NEEDS_TIME = (
    "needs the argument t, which River models are not given; declare `features` with a window instead"
)

EXCLUDED: Mapping[str, str] = MappingProxyType(
    {
        "bandit.LinUCBDisjoint": "River's model selection gives a policy no context",
        "bandit.ThompsonSampling": "River's model selection rewards with a metric, which has no distribution",
        "compose.FuncTransformer": _CALLABLE,
        "compose.TargetTransformRegressor": _CALLABLE,
        "conf.Interval": "an answer, nothing to build",
        "metrics.ClassificationReport": "a report, not one number that models could be compared by",
        "metrics.ConfusionMatrix": "a table, not one number that models could be compared by",
        "metrics.MultiFBeta": "raises for a model that has not answered yet",
        "metrics.Silhouette": "judges clusters",
        "optim.Newton": "raises when a feature appears that an earlier observation lacked",
        "optim.Optimizer": "an interface, nothing to build",
        "stats.KolmogorovSmirnov": "draws from the process's global random numbers, so no two runs agree",
        "tree.ISOUPTreeRegressor": "answers several targets at once, a label has one value",
        "utils.TimeRolling": _NEEDS_TIME,
        "utils.VectorDict": "a container, nothing to configure",
        "utils.SortedWindow": "a container, nothing to configure",
    }
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a constructor. variadic: it is `*name`, given as a list."""

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


_DETECTOR: Slot = (Node(base.AnomalyDetector), Node(base.SupervisedAnomalyDetector))
_STEPS: Slot = (ListOf((Node(base.Estimator),)),)

OVERRIDES: Mapping[str, Slot] = MappingProxyType(
    {
        "anomaly.QuantileFilter.anomaly_detector": _DETECTOR,
        "anomaly.ThresholdFilter.anomaly_detector": _DETECTOR,
        "compose.Pipeline.steps": _STEPS,
        "compose.TransformerProduct.transformers": _STEPS,
        "compose.TransformerUnion.transformers": _STEPS,
        "conf.RegressionJackknife.regressor": (Node(base.Regressor),),
        "feature_extraction.BagOfWords.tokenizer_pattern": (Never(),),
        "feature_extraction.TFIDF.tokenizer_pattern": (Never(),),
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
"""Where River's annotations are missing or say too little; a pattern of one's own could run for ever."""

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "neighbors.KNNClassifier.engine": "neighbors.SWINN",
        "neighbors.KNNRegressor.engine": "neighbors.SWINN",
    }
)
"""Nodes that River would make by itself when they are left out, but unseeded."""

REQUIRED = frozenset(
    {"feature_extraction.BagOfWords.on", "feature_extraction.TFIDF.on", "preprocessing.GapEncoder.on"}
)
"""What River lets one leave out, but a model over named fields cannot."""


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
        raise Unusable(
            f"no estimator {name!r} is installed under the entry points {ENTRY_POINT_GROUP!r} ({known})"
        )
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
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            is_open = True
            continue
        variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        if variadic and parameter.name == "args":
            continue
        slot = OVERRIDES.get(f"{name}.{parameter.name}") or slot_of(parameter)
        if variadic and f"{name}.{parameter.name}" not in OVERRIDES:
            slot = (ListOf(slot),)
        no_default = parameter.default is inspect.Parameter.empty and not variadic
        required = no_default or f"{name}.{parameter.name}" in REQUIRED
        parameters[parameter.name] = Parameter(parameter.name, slot, required, variadic)
    return Entry(name, cls, MappingProxyType(parameters), is_open and name == "utils.Rolling")


def lookup(name: str) -> Entry:
    """The entry for `module.Class` or `custom:name`. Raises `Unusable` with the reason or the closest names."""
    if name.startswith(CUSTOM):
        return custom(name.removeprefix(CUSTOM))
    known = entries()
    if name in known:
        return known[name]
    if name in EXCLUDED:
        raise Unusable(f"{name} cannot be used: {EXCLUDED[name]}")
    module, _, last = name.rpartition(".")
    if module in EXCLUDED_MODULES:
        raise Unusable(f"classes of {module} cannot be used: {EXCLUDED_MODULES[module]}")
    same = [other for other in known if other.rpartition(".")[2].lower() == last.lower()]
    guess = f"; did you mean {' or '.join(same)}?" if same else closest(name, known)
    raise Unusable(f"no class is called {name[:80]!r}{guess}")


def closest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with up to three known names that look like `name`, or nothing."""
    close = difflib.get_close_matches(name[:80], list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


_WORDS: Mapping[type, str] = MappingProxyType(
    {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
)


def describe(slot: Slot) -> str:
    """What a slot takes, for people."""
    return f"allowed: {' or '.join(dict.fromkeys(_describe(alternative) for alternative in slot))}"


def _describe(alternative: Alternative) -> str:
    match alternative:
        case Null():
            return "null"
        case Plain(kind):
            return _WORDS[kind]
        case Node(wanted):
            return f"a node of the kind {wanted.__name__}{_examples(wanted)}"
        case ListOf(item):
            return f"a list ({describe(item)})"
        case MapOf(inner):
            return f"an object ({describe(inner)})"
        case TypeName():
            return f"a type ({', '.join(TYPES)})"
        case ClassName():
            return "a class name"
        case Anything():
            return "any JSON value"
        case Never():
            return "nothing, leave it out"


def _examples(wanted: type) -> str:
    names = [name for name, entry in entries().items() if issubclass(entry.cls, wanted)]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f" ({', '.join(names[:12])}{more})" if names else ""
