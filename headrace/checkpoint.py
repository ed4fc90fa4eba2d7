"""State to bytes and back: the only module that may import pickle.

River's own answer to saving is pickle, so Headrace makes it lean, deep-safe and guarded. Lean: every `proba`
distribution without a seed carries 2.5 KB of a random generator that nothing seeded; it is dropped (a fresh one is
put back on load), which makes trees and naive Bayes 12 to 36 times smaller. Deep-safe: binary search trees of
regression leaves are flattened, as they grow deeper than any recursion limit on a rising feature. Guarded: bytes are
authenticated *before* the unpickler sees them (`headrace.signing`), and the unpickler then finds only classes of a
closed list. The list alone would be no sandbox; the signature is the boundary. Pure functions, no
files.
"""

import hashlib
import io
import pickle
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import numpy as np
from river import proba
from river.tree.splitter.ebst_splitter import EBSTNode
from river.tree.splitter.exhaustive_splitter import ExhaustiveNode

from headrace.errors import Unusable
from headrace.fold import catalogue

PROTOCOL = 5

DEEPEST = 12_000
"""Recursion limit while saving; well within a thread's usual stack of 8 MB."""

_SAFE_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
     "slice", "str", "tuple"}
)  # fmt: skip
_SAFE_GLOBALS = frozenset(
    {
        ("collections", "Counter"),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("collections", "deque"),
        ("copy", "deepcopy"),
        ("datetime", "datetime"),
        ("datetime", "timedelta"),
        ("functools", "partial"),
        ("headrace.checkpoint", "_bound"),
        ("headrace.checkpoint", "_text_method"),
        ("headrace.checkpoint", "_distribution"),
        ("headrace.checkpoint", "_search_tree"),
        ("numbers", "Number"),
        ("numpy", "dtype"),
        ("numpy", "array"),
        ("numpy", "ndarray"),
        ("numpy", "ones"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("random", "Random"),
        ("operator", "itemgetter"),
        ("river._river_rust.vectordict", "euclidean_distance_tuple"),
        ("river.feature_extraction.vectorize", "find_all_ngrams"),
        ("river.feature_extraction.vectorize", "remove_stop_words"),
        ("river.feature_extraction.vectorize", "strip_accents_unicode"),
        ("river.feature_extraction.vectorize", "tokenize_using_regex_pattern"),
        ("river.forest.online_extra_trees", "ExtraTrees._detection_mode_all"),
        ("river.forest.online_extra_trees", "ExtraTrees._detection_mode_drop"),
        ("river.forest.online_extra_trees", "ExtraTrees._detection_mode_off"),
        ("river.metrics.mutual_info", "_average_arithmetic"),
        ("river.metrics.mutual_info", "_average_geometric"),
        ("river.metrics.mutual_info", "_average_max"),
        ("river.metrics.mutual_info", "_average_min"),
        ("river.naive_bayes.gaussian", "GaussianNB._make_gaussian"),
        ("statistics", "NormalDist"),
    }
)
_SAFE_ROOTS = (
    "river",
    "headrace.fold",
    "headrace.contracts",
    "headrace.operators",
    "headrace.replay.tallies",
)
_NEVER_RIVER = (
    "river.datasets",
    "river.stream",
    "river.compat",
    "river.evaluate",
    "river.checks",
    "river.bandit.envs",
)


def dumps(obj: Any) -> bytes:
    """Pickle `obj` lean and deep-safe. Raises `Unusable` if something in it cannot be saved."""
    buffer = io.BytesIO()
    try:
        with _deep():
            _LeanPickler(buffer, protocol=PROTOCOL).dump(obj)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise Unusable(f"this state cannot be saved: {error}") from error
    return buffer.getvalue()


def loads(payload: bytes) -> Any:
    """Rebuild what `dumps` saved. Only for bytes that this process made or `open_signed` let through.

    Raises `Unusable` if the bytes are damaged or name a class that is not on the list.
    """
    try:
        return _ListedUnpickler(io.BytesIO(payload)).load()
    except Unusable:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise Unusable(f"this state cannot be read: {str(error) or type(error).__name__}") from error


def fingerprint(obj: Any) -> str:
    """sha256 (hex) of the state: equal states give equal fingerprints in any process and after any reload.

    Slower than `dumps` (it is written in Python): sets are taken in sorted order, and equal texts count as one object,
    equal tuples of plain values as several, as neither set order nor object identity belongs to the state.
    """
    buffer = io.BytesIO()
    with _deep():
        _CanonicalPickler(buffer, protocol=PROTOCOL).dump(obj)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


@contextmanager
def _deep() -> Iterator[None]:
    """Allow what River allows: trees of depth 980, where pickle takes several calls a level."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _reduced(obj: Any) -> Any:
    """What both picklers save differently from plain pickle."""
    if isinstance(obj, proba.base.Distribution) and obj.seed is None:
        return _distribution, (type(obj),), {k: v for k, v in vars(obj).items() if k != "_rng"}
    if isinstance(obj, EBSTNode | ExhaustiveNode):
        return _search_tree, (type(obj), _flattened(obj))
    if isinstance(obj, types.MethodType):
        return _bound, (obj.__self__, obj.__name__)
    if isinstance(obj, types.MethodDescriptorType) and obj.__objclass__ is str:
        return _text_method, (obj.__name__,)
    return NotImplemented


class _LeanPickler(pickle.Pickler):
    """The fast one."""

    def reducer_override(self, obj: Any) -> Any:
        return _reduced(obj)


_PythonPickler: Any = pickle._Pickler  # typeshed knows only its public face


_PLAIN = frozenset({bool, float, int, str, type(None)})


class _CanonicalPickler(_PythonPickler):  # type: ignore[misc]  # its base is Any, see above
    """The one whose bytes depend on the state alone."""

    dispatch: ClassVar[dict[type, Any]] = dict(_PythonPickler.dispatch)

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self._texts: dict[str, str] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):  # its dtype is one object before a reload, another after it
            return np.array, (
                obj.tolist() if obj.dtype.hasobject else obj.tobytes(),
                obj.dtype.str,
                obj.shape,
            )
        if isinstance(obj, np.generic):
            return type(obj), (obj.item(),)
        return _reduced(obj)

    def _save_text(self, obj: str) -> None:
        text = self._texts.setdefault(obj, obj)
        if id(text) in self.memo:
            self.write(self.get(self.memo[id(text)][0]))
        else:
            _PythonPickler.save_str(self, text)

    def _save_set(self, obj: set[Any] | frozenset[Any]) -> None:
        items = sorted(obj, key=lambda item: (type(item).__name__, repr(item)))
        self.save_reduce(type(obj), (items,), obj=obj)

    def _save_tuple(self, obj: tuple[Any, ...]) -> None:
        """Tuples of plain values are written out each time: a constant of the code is one object, copies are not."""
        if all(type(item) in _PLAIN for item in obj):
            self.write(pickle.MARK)
            for item in obj:
                self.save(item)
            self.write(pickle.TUPLE)
        else:
            _PythonPickler.save_tuple(self, obj)

    dispatch[str] = _save_text
    dispatch[tuple] = _save_tuple
    dispatch[set] = _save_set
    dispatch[frozenset] = _save_set


class _ListedUnpickler(pickle.Unpickler):
    """Finds only what a state of Headrace may hold."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE_GLOBALS or (module == "builtins" and name in _SAFE_BUILTINS):
            return super().find_class(module, name)
        if "." not in name and _may_hold(module):
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise Unusable(f"a state may not hold {module}.{name}"[:200])


def _may_hold(module: str) -> bool:
    def within(root: str) -> bool:
        return module == root or module.startswith(f"{root}.")

    if any(within(never) for never in _NEVER_RIVER):
        return False
    return any(within(root) for root in (*_SAFE_ROOTS, *catalogue.custom_modules()))


def _distribution(cls: type[Any]) -> Any:
    """An empty distribution with a generator of its own; its state follows.

    The seed is fixed: an unseeded distribution that is sampled must at least do the same after every reload.
    """
    made: Any = object.__new__(cls)
    made._rng = random.Random(0)
    return made


def _bound(owner: Any, name: str) -> Callable[..., Any]:
    """A method of a model. Only those of listed classes, so that no pickle reaches any other attribute."""
    if not _may_hold(type(owner).__module__) or name.startswith("__"):
        raise Unusable(f"a state may not hold the method {name} of {type(owner).__module__}")
    return cast(Callable[..., Any], getattr(owner, name))


def _text_method(name: str) -> Callable[..., Any]:
    """A method of str, such as `str.lower`."""
    return cast(Callable[..., Any], getattr(str, name))


def _flattened(root: Any) -> list[tuple[Any, ...]]:
    """A search tree as a list of (fields..., place of the left child, of the right child); -1: no child."""
    nodes, at = [root], 0
    flat: list[tuple[Any, ...]] = []
    while at < len(nodes):
        node = nodes[at]
        at += 1
        places = []
        for child in (node._left, node._right):
            places.append(len(nodes) if child is not None else -1)
            if child is not None:
                nodes.append(child)
        if isinstance(node, EBSTNode):
            fields: tuple[Any, ...] = (node.att_val, node.estimator)
        else:
            fields = (node.cut_point, node.class_count_left, node.class_count_right)
        flat.append((*fields, *places))
    return flat


def _search_tree(cls: type[Any], flat: list[tuple[Any, ...]]) -> Any:
    """The root of the tree that `_flattened` gave."""
    nodes: list[Any] = [object.__new__(cls) for _ in flat]
    for node, (*fields, left, right) in zip(nodes, flat, strict=True):
        if cls is EBSTNode:
            node.att_val, node.estimator = fields
            several = isinstance(node.estimator, dict)
            node._update_estimator = (
                cls._update_estimator_multivariate if several else cls._update_estimator_univariate
            )
        else:
            node.cut_point, node.class_count_left, node.class_count_right = fields
        node._left = nodes[left] if left >= 0 else None
        node._right = nodes[right] if right >= 0 else None
    return nodes[0]
