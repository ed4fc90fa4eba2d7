"""Features by key over event time: counts, sums, means, rates, extremes and latest values of what was before.

A model declares them in its specification and the fold computes them, so training and serving cannot differ. Values of
observations are known when the observation comes, values of labels only when the label comes: the log's order *is* the
protection against leakage. A window is cut into panes (12 unless told otherwise), which bounds the memory of a key and
means that nothing is ever subtracted, so sums do not drift; a window of W seconds therefore reaches back between
W - W/panes and W. An event that comes late lands in its own pane if the key still keeps that pane, and is ignored and
counted if not; an observation that comes late sees only panes without any event later than itself. At `max_keys` the
key that was written least recently is forgotten and counted.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headrace.contracts.events import Features, Scalar
from headrace.contracts.stream import Field, Task
from headrace.errors import Unusable

KINDS = ("count", "sum", "mean", "rate", "min", "max", "last", "seconds_since_last")

LABEL = "label"
ENTITY = "entity"
MAX_FEATURES = 200
MAX_KEYS = 1_000_000
MAX_PANES = 100
MAX_WINDOW_SECONDS = 10 * 366 * 24 * 3600

_NUMERIC = frozenset({"sum", "mean", "min", "max"})
_LATEST = frozenset({"last", "seconds_since_last"})


class FeatureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature.

    kind: one of `KINDS`. of: `label`, a field, or "" (the observation itself: count and seconds_since_last only).
    equals: look at whether the value equals this one (rate and count). by: `entity` and fields; empty means one value
    for the whole shard. window_seconds: event time; 0 means no limit (last and seconds_since_last only). default: the
    value when there is nothing in the window; without it count and sum are 0 and the others absent from `x`.
    """

    name: str
    kind: str
    of: str = ""
    by: tuple[str, ...] = ()
    window_seconds: int = 0
    equals: Scalar | None = None
    default: Scalar | None = None
    panes: int = 12
    max_keys: int = 10_000


def check_features(
    raw: Any, fields: Sequence[Field] | None = None, task: Task | None = None
) -> tuple[FeatureSpec, ...]:
    """Read the `features` part of a specification. Raises `Unusable` naming the feature and what is allowed."""
    if not isinstance(raw, list):
        raise Unusable("a list of features", where="features")
    if len(raw) > MAX_FEATURES:
        raise Unusable(f"at most {MAX_FEATURES}", where="features")
    known = None if fields is None else {f.name: f for f in fields if f.feature}
    checked: list[FeatureSpec] = []
    for i, item in enumerate(raw):
        where = f"features[{i}]"
        one_key = isinstance(item, Mapping) and isinstance(item.get("by"), str)
        try:
            spec = msgspec.convert({**item, "by": [item["by"]]} if one_key else item, FeatureSpec)
        except msgspec.ValidationError as error:
            raise Unusable(str(error), where=where) from None
        if spec.name in [other.name for other in checked]:
            raise Unusable(f"two features are called {spec.name!r}", where=f"{where}.name")
        _check_one(spec, where)
        if known is not None:
            _check_against(spec, known, task, where)
        checked.append(spec)
    return tuple(checked)


def _check_one(spec: FeatureSpec, where: str) -> None:
    if spec.kind not in KINDS:
        raise Unusable(f"{spec.kind!r} is none of {', '.join(KINDS)}", where=f"{where}.kind")
    if not spec.name:
        raise Unusable("must not be empty", where=f"{where}.name")
    if not spec.of and spec.kind not in ("count", "seconds_since_last"):
        raise Unusable(f"{spec.kind} of what? Name a field, or label", where=f"{where}.of")
    if spec.equals is not None and (spec.kind not in ("rate", "count") or not spec.of):
        raise Unusable(
            "only rate and count of a field or the label compare with a value", where=f"{where}.equals"
        )
    if len(set(spec.by)) != len(spec.by):
        raise Unusable("a name is given twice", where=f"{where}.by")
    lowest = 0 if spec.kind in _LATEST else 1
    for name, low, high in (
        ("window_seconds", lowest, MAX_WINDOW_SECONDS),
        ("panes", 1, MAX_PANES),
        ("max_keys", 1, MAX_KEYS),
    ):
        if not low <= getattr(spec, name) <= high:
            raise Unusable(f"between {low} and {high}, not {getattr(spec, name)}", where=f"{where}.{name}")


def _check_against(spec: FeatureSpec, known: Mapping[str, Field], task: Task | None, where: str) -> None:
    if spec.name in known:
        raise Unusable(f"a field is called {spec.name!r} already", where=f"{where}.name")
    for name in spec.by:
        if name != ENTITY and name not in known:
            raise Unusable(
                f"no feature is called {name!r}; allowed: {ENTITY}, {', '.join(known)}", where=f"{where}.by"
            )
    if spec.of and spec.of != LABEL and spec.of not in known:
        raise Unusable(
            f"no feature is called {spec.of!r}; allowed: {LABEL}, {', '.join(known)}", where=f"{where}.of"
        )
    if spec.of == LABEL:
        kind = {"binary": "boolean", "regression": "number", "multiclass": "string"}.get(task or "", "")
    else:
        kind = known[spec.of].type if spec.of else ""
    if spec.kind in _NUMERIC and kind == "string":
        raise Unusable(f"{spec.kind} needs numbers, {spec.of!r} is text", where=f"{where}.of")
    if spec.kind == "rate" and kind not in ("boolean", "") and spec.equals is None:
        raise Unusable(f"{spec.of!r} is not true or false: say which value counts", where=f"{where}.equals")


class _Pane:
    """What fell into one slice of a key's time. latest: newest event time in it; low and high: None until a value."""

    __slots__ = ("count", "high", "index", "latest", "low", "total")

    def __init__(self, index: int, latest: int) -> None:
        self.index = index
        self.latest = latest
        self.count = 0
        self.total = 0.0
        self.low: float | None = None
        self.high: float | None = None


_Summary = tuple[int, float, float | None, float | None]
"""(count, total, low, high) over some panes; totals are always added from the oldest pane to the newest."""


class _History:
    """One key's panes, oldest first, and the summary of those before pane `cached_for` (-1: none)."""

    __slots__ = ("cached", "cached_for", "panes")

    def __init__(self, first: _Pane) -> None:
        self.panes = [first]
        self.cached_for = -1
        self.cached: _Summary = (0, 0.0, None, None)


def _summary(panes: Sequence[_Pane]) -> _Summary:
    count, total = 0, 0.0
    low: float | None = None
    high: float | None = None
    for pane in panes:
        count += pane.count
        total += pane.total
        if pane.low is not None and (low is None or pane.low < low):
            low = pane.low
        if pane.high is not None and (high is None or pane.high > high):
            high = pane.high
    return count, total, low, high


class _Windowed:
    """All features over one source, key and window share one table."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.by = spec.by
        self.of = spec.of
        self.equals = spec.equals
        self.numeric = spec.kind in _NUMERIC
        self.shares = spec.kind == "rate"
        self.panes = spec.panes
        self.width = max(1, spec.window_seconds * 1000 // spec.panes)
        self.max_keys = spec.max_keys
        self.table: OrderedDict[Any, _History] = OrderedDict()
        self.readers: list[tuple[str, str, Scalar | None]] = []
        self.evicted = 0
        self.ignored = 0

    def read(self, key: Any, at: int, out: Features) -> None:
        history = self.table.get(key)
        if history is None:
            count, total, low, high = 0, 0.0, None, None
        else:
            count, total, low, high = self._look(history, at)
        for name, kind, default in self.readers:
            if count == 0:
                if default is not None:
                    out[name] = default
            elif kind == "count":
                out[name] = count
            elif kind == "sum":
                out[name] = total
            elif kind == "min":
                out[name] = low  # type: ignore[assignment]  # never None: such groups count numbers only
            elif kind == "max":
                out[name] = high  # type: ignore[assignment]
            else:
                out[name] = total / count

    def _look(self, history: _History, at: int) -> _Summary:
        index = at // self.width
        panes = history.panes
        newest = panes[-1]
        if newest.latest > at:  # late: leave out every pane that knows something later than this observation
            return _summary([p for p in panes if p.latest <= at and p.index > index - self.panes])
        if history.cached_for != index:
            history.cached = _summary([p for p in panes if index - self.panes < p.index < index])
            history.cached_for = index
        if newest.index != index:
            return history.cached
        count, total, low, high = history.cached
        if newest.low is not None and (low is None or newest.low < low):
            low = newest.low
        if newest.high is not None and (high is None or newest.high > high):
            high = newest.high
        return count + newest.count, total + newest.total, low, high

    def write(self, key: Any, at: int, value: Scalar | None) -> None:
        """Count one event; what this group cannot use (text where numbers are summed) leaves no trace."""
        if self.shares:
            value = 1.0 if (value is True if self.equals is None else value == self.equals) else 0.0
        elif self.numeric:
            if isinstance(value, str):
                return
        elif self.equals is not None and value != self.equals:
            return
        pane = self._pane(key, at)
        if pane is None:
            self.ignored += 1
            return
        pane.count += 1
        if at > pane.latest:  # noqa: PLR1730 - max() is a call, and this runs for every event
            pane.latest = at
        if self.shares:
            pane.total += value  # type: ignore[operator]
        elif self.numeric:
            pane.total += value  # type: ignore[operator]
            if pane.low is None or value < pane.low:  # type: ignore[operator]
                pane.low = value  # type: ignore[assignment]
            if pane.high is None or value > pane.high:  # type: ignore[operator]
                pane.high = value  # type: ignore[assignment]

    def _pane(self, key: Any, at: int) -> _Pane | None:
        """The pane an event belongs to; None if the key no longer keeps it."""
        index = at // self.width
        table = self.table
        history = table.get(key)
        if history is None:
            if len(table) >= self.max_keys:
                table.popitem(last=False)
                self.evicted += 1
            pane = _Pane(index, at)
            table[key] = _History(pane)
            return pane
        table.move_to_end(key)
        if history.cached_for > index:
            history.cached_for = -1
        panes = history.panes
        newest = panes[-1]
        if newest.index == index:
            return newest
        if index > newest.index:
            pane = _Pane(index, at)
            panes.append(pane)
            while panes[0].index <= index - self.panes:
                del panes[0]
            return pane
        if index <= newest.index - self.panes:
            return None
        return _insert(history, index, at)


def _insert(history: _History, index: int, at: int) -> _Pane:
    """Find or make a pane that is not the newest."""
    place = 0
    while history.panes[place].index < index:
        place += 1
    if history.panes[place].index == index:
        return history.panes[place]
    made = _Pane(index, at)
    history.panes.insert(place, made)
    return made


class _Latest:
    """The latest value per key, and when it was."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.by = spec.by
        self.of = spec.of
        self.window = spec.window_seconds * 1000
        self.max_keys = spec.max_keys
        self.table: OrderedDict[Any, tuple[int, Scalar | None]] = OrderedDict()
        self.readers: list[tuple[str, str, Scalar | None]] = []
        self.evicted = 0
        self.ignored = 0

    def read(self, key: Any, at: int, out: Features) -> None:
        found = self.table.get(key)
        # A value from later than the observation itself is not shown to it.
        there = found is not None and found[0] <= at and not (self.window and at - found[0] > self.window)
        for name, kind, default in self.readers:
            if not there:
                if default is not None:
                    out[name] = default
            elif kind == "last":
                out[name] = found[1]  # type: ignore[index,assignment]
            else:
                out[name] = (at - found[0]) / 1000  # type: ignore[index]

    def write(self, key: Any, at: int, value: Scalar | None) -> None:
        table = self.table
        found = table.get(key)
        if found is None:
            if len(table) >= self.max_keys:
                table.popitem(last=False)
                self.evicted += 1
        else:
            table.move_to_end(key)
            if found[0] > at:
                self.ignored += 1
                return
        table[key] = (at, value)


_Group = _Windowed | _Latest


def _key(by: tuple[str, ...], x: Features, entity: str) -> Any:
    """The table's key for an observation; None if a field that it needs is absent."""
    if len(by) == 1:
        return entity if by[0] == ENTITY else x.get(by[0])
    parts = tuple([entity if name == ENTITY else x.get(name) for name in by])
    return None if None in parts else parts


class FeaturePlan:
    """The features of one model on one shard: state over the log, deterministic and picklable.

    Call `compute` once per observation and `learn` once per label, in log order. Bounds: `max_keys` keys of `panes`
    panes for each feature; features over one source, key and window share them. At the bound the least recently written
    key goes.
    """

    def __init__(self, features: Sequence[FeatureSpec]) -> None:
        groups: dict[Any, _Group] = {}
        for spec in features:
            shared: tuple[Any, ...] = (spec.of, spec.by, spec.window_seconds, spec.max_keys)
            if spec.kind in _LATEST:
                group = groups.setdefault(shared, _Latest(spec))
            else:
                # repr, as 1, 1.0 and True are equal
                shared += (spec.panes, spec.kind in _NUMERIC, spec.kind == "rate", repr(spec.equals))
                group = groups.setdefault(shared, _Windowed(spec))
            zero = 0 if spec.kind == "count" else 0.0 if spec.kind == "sum" else None
            group.readers.append((spec.name, spec.kind, zero if spec.default is None else spec.default))
        by_key: dict[tuple[str, ...], list[_Group]] = {}
        for group in groups.values():
            by_key.setdefault(group.by, []).append(group)
        self._groups = tuple(groups.values())
        self._by_key = tuple(by_key.items())
        self._labels_by_key = tuple(
            (by, [group for group in some if group.of == LABEL])
            for by, some in by_key.items()
            if any(group.of == LABEL for group in some)
        )

    @property
    def ignored(self) -> int:
        """Events that came too late for every pane that was kept."""
        return sum(group.ignored for group in self._groups)

    @property
    def evicted(self) -> int:
        """Keys forgotten because there were more than `max_keys`."""
        return sum(group.evicted for group in self._groups)

    def compute(self, x: Features, entity: str, at: int) -> Features:
        """The features for this observation from what came before it; then it is counted itself.

        at: event time in milliseconds. A feature with nothing to tell is absent, unless it has a default; so is one
        whose `by` names a field that `x` lacks.
        """
        out: Features = {}
        for by, groups in self._by_key:
            key = _key(by, x, entity)
            if key is None:
                continue
            for group in groups:
                group.read(key, at, out)
                of = group.of
                if not of:
                    group.write(key, at, None)
                elif of != LABEL and of in x:
                    group.write(key, at, x[of])
        return out

    def learn(self, x: Features, entity: str, at: int, y: Scalar) -> None:
        """Count a label that became known at `at` for the observation with the fields `x`."""
        for by, groups in self._labels_by_key:
            key = _key(by, x, entity)
            if key is not None:
                for group in groups:
                    group.write(key, at, y)
