"""From a document to a River model: checked, seeded, and the same everywhere.

A specification is a tree of catalogued class names and parameters; nothing in it is evaluated, imported or unpickled.
`check` builds the model once, as only River's own constructors know all their rules, and throws it away; so a
specification that was accepted can be built. The document is brought into canonical order first: equal digests mean
equal models. Every parameter called `seed` that is left out gets a number derived from the specification's seed and
the node's path, since an unseeded model would answer differently in every process and on every replay.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from river import base, compose

from headrace.contracts.stream import Field, Task
from headrace.errors import Unusable
from headrace.fold import catalogue, trial
from headrace.fold.catalogue import Entry, Parameter, closest, describe, lookup
from headrace.fold.features import FeatureSpec, check_features
from headrace.fold.slots import (
    SUGAR,
    TYPES,
    Alternative,
    Anything,
    ClassName,
    ListOf,
    MapOf,
    Node,
    Plain,
    Slot,
    TypeName,
    fits,
    is_node,
    is_number,
)

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_NODES = 500
MAX_COPIES = 10_000
"""How often a node may be cloned by ensembles around it: n_models * n_models * ..."""

DEFAULT_SEED = 42

BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "n_models": (1, 1000),
        "n_trees": (1, 1000),
        "n_estimators": (1, 1000),
        "height": (1, 15),
        "n_components": (1, 10_000),
        "n_factors": (1, 1000),
        "degree": (1, 10),
        "window_size": (1, 1_000_000),
        "maxlen": (1, 1_000_000),
        "size": (1, 1_000_000),
        "window": (1, 100_000_000),
        "n_bins": (1, 100_000),
        "n_random_cuts": (1, 10_000),
        "code_size": (1, 1000),
        "n_thresholds": (2, 100_000),
        "lag": (1, 1_000_000),
    }
)
"""Inclusive bounds of numbers that decide how much memory a model takes, by the parameter's name."""

_COPYING = frozenset({"n_models", "n_trees", "n_estimators"})
_NODE_KEYS = ("class", "parameters", "name")
_TOP_KEYS = ("model", "seed", "inputs", "features", "description")


@dataclass(frozen=True, slots=True)
class Specification:
    """A checked document. `model` is canonical JSON data; `inputs` None means every feature of the contract."""

    model: Any
    seed: int
    inputs: tuple[str, ...] | None
    features: tuple[FeatureSpec, ...]
    document: dict[str, Any] = field(repr=False)


def check(
    document: Mapping[str, Any], *, task: Task | None = None, fields: Sequence[Field] | None = None
) -> Specification:
    """Check a document and return the specification. Raises `Unusable`: where, what was given, what is allowed.

    task: the final estimator must suit it. fields: those of the contract; `inputs` and `features` must name them. With
    both, the model must also answer and learn a few made-up observations of the stream (see `headrace.fold.trial`).
    """
    plain = _canonical(document)
    _known(plain, _TOP_KEYS, "")
    if "model" not in plain:
        raise Unusable("is missing: a node, a list of nodes (a pipeline), or {union: [...]}", where="model")
    seed = plain.get("seed", DEFAULT_SEED)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise Unusable(f"a whole number from 0 to 2**63 - 1, not {_show(seed)}", where="seed")
    known = None if fields is None else [f.name for f in fields if f.feature]
    specification = Specification(
        model=plain["model"],
        seed=seed,
        inputs=_inputs(plain.get("inputs"), known),
        features=check_features(plain.get("features", []), fields, task),
        document=plain,
    )
    estimator = build(specification)
    if task is not None:
        _suits(estimator, task)
        if fields is not None:
            trial.run(estimator, task, fields, specification.inputs, specification.features)
    return specification


def build(specification: Specification) -> Any:
    """A fresh, untrained, fully seeded model."""
    return _Builder(specification.seed).value(specification.model, (Node(base.Estimator),), "model")


def digest(document: Mapping[str, Any]) -> str:
    """sha256 (hex) of the document's canonical JSON; key order and YAML or JSON make no difference."""
    return hashlib.sha256(_encode(document)).hexdigest()


def _encode(document: Mapping[str, Any]) -> bytes:
    _bounded(document, "", 0)
    try:
        text = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise Unusable(f"is not plain JSON data: {error}") from None
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_BYTES:
        raise Unusable(f"is {len(encoded)} bytes long, at most {MAX_BYTES} are allowed")
    return encoded


def _canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise Unusable(f"a specification is an object with the key model, not {_show(document)}")
    return cast(dict[str, Any], json.loads(_encode(document)))


def _bounded(value: Any, path: str, depth: int) -> None:
    """Refuse what is too deep before anything recurses freely over it."""
    if depth > MAX_DEPTH:
        raise Unusable(f"nested deeper than {MAX_DEPTH} levels", where=path[:80])
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise Unusable(
                    f"the key {_show(key)} is not text; put it in quotes, or write [[key, value], ...]",
                    where=path,
                )
            _bounded(inner, _join(path, key), depth + 1)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _bounded(inner, f"{path}[{i}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Unusable(f"{value} is not a finite number", where=path)


def _inputs(raw: Any, known: Sequence[str] | None) -> tuple[str, ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or not raw or not all(isinstance(name, str) for name in raw):
        raise Unusable(
            "a list of field names; leave it out to use every feature of the contract", where="inputs"
        )
    for i, name in enumerate(raw):
        if known is not None and name not in known:
            raise Unusable(f"no feature is called {name!r}{closest(name, known)}", where=f"inputs[{i}]")
        if name in raw[:i]:
            raise Unusable(f"{name!r} is named twice", where=f"inputs[{i}]")
    return tuple(raw)


def _suits(estimator: Any, task: Task) -> None:
    """Refuse a model that cannot answer the task's question."""
    final = final_estimator(estimator)
    name = type(final).__name__
    if task == "regression":
        if not isinstance(final, base.Regressor):
            raise Unusable(f"the task is regression, {name} is no regressor", where="model")
        return
    if not isinstance(final, base.Classifier):
        raise Unusable(f"the task is {task}, {name} is no classifier", where="model")
    if task == "multiclass" and not final._multiclass:
        raise Unusable(
            f"{name} knows two classes only and the task is multiclass; wrap it in multiclass.OneVsRestClassifier",
            where="model",
        )


def final_estimator(estimator: Any) -> Any:
    """The step of a pipeline that answers; the estimator itself if it is none."""
    while isinstance(estimator, compose.Pipeline) and estimator.steps:
        estimator = list(estimator.steps.values())[-1]
    return estimator


class _Builder:
    """Walks a document and its slots together, making the value that each constructor wants."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.nodes = 0
        self.copies = 1.0

    def value(self, raw: Any, slot: Slot, path: str) -> Any:
        """Convert one value. Raises `Unusable` if no alternative of the slot takes it."""
        bases = tuple(a.base for a in slot if isinstance(a, Node))
        for alternative in slot:
            if fits(raw, alternative):
                if isinstance(alternative, Node):
                    return self.node(raw, bases, path)
                return self._convert(raw, alternative, path)
        raise Unusable(f"{_show(raw)} is not allowed here; {describe(slot)}{_hint(raw, slot)}", where=path)

    def _convert(self, raw: Any, alternative: Alternative, path: str) -> Any:
        match alternative:
            case Plain(kind):
                return int(raw) if kind is int else raw
            case ListOf(item, into):
                made = [self.value(inner, item, f"{path}[{i}]") for i, inner in enumerate(raw)]
                # A dict keeps the given order and answers `in`, where a set's order differs between processes.
                return dict.fromkeys(made) if into is set else into(made)
            case MapOf(inner_slot):
                pairs = raw.items() if isinstance(raw, dict) else [tuple(pair) for pair in raw]
                return {_key(k): self.value(v, inner_slot, _join(path, str(k))) for k, v in pairs}
            case TypeName():
                return TYPES[raw if isinstance(raw, str) else raw["type"]]
            case ClassName():
                return self._entry(raw, path).cls
            case Anything():
                return self._anything(raw, path)
            case _:
                return None

    def _anything(self, raw: Any, path: str) -> Any:
        if is_node(raw):
            return self.node(raw, (base.Base,), path)
        if isinstance(raw, list):
            return [self._anything(inner, f"{path}[{i}]") for i, inner in enumerate(raw)]
        if isinstance(raw, dict):
            return {_key(k): self._anything(v, _join(path, k)) for k, v in raw.items()}
        return raw

    def node(self, raw: Any, wanted: tuple[type, ...], path: str) -> Any:
        """Build a node: a class name, a list (a pipeline), or an object."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Unusable(f"more than {MAX_NODES} nodes", where=path)
        if isinstance(raw, list):
            return self._construct(
                catalogue.entries()["compose.Pipeline"], {"steps": raw}, wanted, path, sugar=True
            )
        if isinstance(raw, str):
            return self._construct(self._entry(raw, path), {}, wanted, path)
        for key, name in SUGAR.items():
            if key in raw:
                _known(raw, (key, "name"), path)
                entry = catalogue.entries()[name]
                (variadic,) = entry.parameters
                return self._construct(entry, {variadic: raw[key]}, wanted, _join(path, key), sugar=True)
        _known(raw, _NODE_KEYS, path)
        if not isinstance(raw.get("class"), str):
            raise Unusable("a node needs the key class, with a class name", where=path)
        parameters = raw.get("parameters", {})
        if not isinstance(parameters, dict):
            raise Unusable(
                f"an object of parameters, not {_show(parameters)}", where=_join(path, "parameters")
            )
        return self._construct(self._entry(raw["class"], path), parameters, wanted, path)

    def _entry(self, name: str, path: str) -> Entry:
        try:
            return lookup(name)
        except Unusable as error:
            raise Unusable(error.reason, where=path) from None

    def _construct(
        self, entry: Entry, given: dict[str, Any], wanted: tuple[type, ...], path: str, sugar: bool = False
    ) -> Any:
        inside = path if sugar else _join(path, "parameters")
        positional, keywords = self._arguments(entry, given, path, inside, sugar)
        try:
            made = entry.cls(*positional, **keywords)
        except Unusable:
            raise
        except Exception as error:  # River's constructors raise whatever they like
            reason = str(error) or type(error).__name__
            raise Unusable(f"{entry.name} refuses these parameters: {reason}", where=path) from None
        if not isinstance(made, wanted) and not isinstance(final_estimator(made), wanted):
            raise Unusable(
                f"{entry.name} is not allowed here; {describe(tuple(map(Node, wanted)))}", where=path
            )
        return made

    def _arguments(
        self, entry: Entry, given: dict[str, Any], path: str, inside: str, sugar: bool
    ) -> tuple[list[Any], dict[str, Any]]:
        before = self.copies
        for name, raw in given.items():
            _in_bounds(name, raw, inside if sugar else _join(inside, name))
            if name in _COPYING and is_number(raw):
                self.copies *= raw
        if self.copies > MAX_COPIES:
            raise Unusable(f"ensembles in ensembles would make more than {MAX_COPIES} models", where=path)
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for name, raw in given.items():
            here = inside if sugar else _join(inside, name)
            parameter = self._parameter(entry, name, given, here)
            if parameter.variadic:
                positional = self._variadic(entry, raw, parameter, here)
            elif not (name == "seed" and raw is None):
                keywords[name] = self.value(raw, parameter.slot, here)
        for parameter in entry.parameters.values():
            default = catalogue.DEFAULTS.get(f"{entry.name}.{parameter.name}")
            if default is not None and keywords.get(parameter.name) is None:
                keywords[parameter.name] = self.value(default, parameter.slot, _join(inside, parameter.name))
            if parameter.required and parameter.name not in given:
                raise Unusable(
                    f"{entry.name} needs {parameter.name!r}; {describe(parameter.slot)}", where=inside
                )
        if "seed" in entry.parameters and "seed" not in keywords:
            keywords["seed"] = _derived_seed(self.seed, path)
        self.copies = before
        return positional, keywords

    def _parameter(self, entry: Entry, name: str, given: dict[str, Any], path: str) -> Parameter:
        if name in entry.parameters:
            return entry.parameters[name]
        if entry.open and isinstance(given.get("cls"), str):
            wrapped = lookup(given["cls"])
            if name in wrapped.parameters:
                return wrapped.parameters[name]
        known = list(entry.parameters)
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise Unusable(f"{entry.name} has no parameter {name!r}{closest(name, known)}; {takes}", where=path)

    def _variadic(self, entry: Entry, raw: Any, parameter: Parameter, path: str) -> list[Any]:
        if not isinstance(raw, list) or not raw:
            raise Unusable(f"a list with at least one item, not {_show(raw)}", where=path)
        made = self.value(raw, parameter.slot, path)
        if not issubclass(entry.cls, compose.Pipeline | compose.TransformerUnion):
            return list(made)
        names = [item.get("name") if isinstance(item, dict) else None for item in raw]
        taken = [name for name in names if name is not None]
        if not all(isinstance(name, str) and name for name in taken) or len(set(taken)) != len(taken):
            raise Unusable("names of steps are texts, each used once", where=path)
        return [one if name is None else (name, one) for name, one in zip(names, made, strict=True)]


def _derived_seed(seed: int, path: str) -> int:
    """31 bits, as numpy takes 32 unsigned and some River classes add small numbers to their seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{path}".encode()).digest()[:4], "big") >> 1


def _in_bounds(name: str, raw: Any, path: str) -> None:
    if name in BOUNDS and is_number(raw):
        low, high = BOUNDS[name]
        if not low <= raw <= high:
            raise Unusable(f"{raw} is not within {low:g} and {high:g}", where=path)


def _hint(raw: Any, slot: Slot) -> str:
    if isinstance(raw, str) and any(isinstance(a, Plain) and a.type in (int, float) for a in slot):
        try:
            float(raw)
        except ValueError:
            return ""
        return f"; {raw!r} is text (YAML reads 1e-3 as text: write 0.001 or 1.0e-3)"
    return ""


def _key(key: Any) -> Any:
    """JSON has text keys only, while the classes of a binary model are True and False."""
    return {"true": True, "false": False}.get(key, key) if isinstance(key, str) else key


def _known(raw: Mapping[str, Any], allowed: Sequence[str], path: str) -> None:
    for key in raw:
        if key not in allowed:
            raise Unusable(
                f"unknown key {key!r}{closest(key, allowed)}; allowed: {', '.join(allowed)}", where=path
            )


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
