"""Features by key against a brute-force oracle that keeps every event."""

from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import checkpoint
from headrace.contracts.stream import Field
from headrace.errors import Unusable
from headrace.fold.features import FeaturePlan, FeatureSpec, check_features

PANES = 4
WIDTH = 3000
WINDOW = {"window_seconds": PANES * WIDTH // 1000, "panes": PANES}

WINDOWED = [
    {"name": "seen", "kind": "count", "by": "entity"},
    {"name": "v_count", "kind": "count", "of": "v", "by": "entity"},
    {"name": "v_sum", "kind": "sum", "of": "v", "by": "entity"},
    {"name": "v_mean", "kind": "mean", "of": "v", "by": "entity"},
    {"name": "v_min", "kind": "min", "of": "v", "by": "entity"},
    {"name": "v_max", "kind": "max", "of": "v", "by": "entity"},
    {"name": "late_rate", "kind": "rate", "of": "label", "by": "entity"},
    {"name": "late_count", "kind": "count", "of": "label", "by": "entity"},
    {"name": "a_rate", "kind": "rate", "of": "k", "equals": "a", "by": "entity", "default": 0.5},
    {"name": "a_count", "kind": "count", "of": "k", "equals": "a", "by": ["entity", "k"]},
    {"name": "all_mean", "kind": "mean", "of": "v"},
]
LATEST = [
    {"name": "v_last", "kind": "last", "of": "v", "by": "entity"},
    {"name": "label_last", "kind": "last", "of": "label", "by": ["k"], "window_seconds": 5},
    {"name": "since", "kind": "seconds_since_last", "by": "entity"},
    {"name": "since_late", "kind": "seconds_since_last", "of": "label", "by": [], "default": -1.0},
]
SPECS = check_features([{**spec, **WINDOW} for spec in WINDOWED] + LATEST)


def plan_of(*features: dict[str, Any]) -> FeaturePlan:
    return FeaturePlan(check_features(list(features)))


class Oracle:
    """One feature, the slow way: every accepted event is kept, every value is computed from scratch."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.events: OrderedDict[Any, list[tuple[int, Any]]] = OrderedDict()
        self.ignored = 0

    def key(self, x: dict[str, Any], entity: str) -> Any:
        parts = tuple(entity if name == "entity" else x.get(name) for name in self.spec.by)
        return None if None in parts else parts

    def write(self, key: Any, at: int, value: Any) -> None:
        spec = self.spec
        if spec.kind == "count" and spec.equals is not None and value != spec.equals:
            return
        if spec.kind in ("sum", "mean", "min", "max") and isinstance(value, str):
            return
        if spec.kind == "rate":
            value = float(value is True if spec.equals is None else value == spec.equals)
        kept = self.events.get(key)
        if kept is None:
            if len(self.events) == spec.max_keys:
                self.events.popitem(last=False)
            kept = self.events[key] = []
        self.events.move_to_end(key)
        newest = max((t for t, _ in kept), default=at)
        too_late = (
            at < newest
            if spec.kind in ("last", "seconds_since_last")
            else self.pane(at) <= self.pane(newest) - PANES
        )
        if too_late:
            self.ignored += 1
        else:
            kept.append((at, value))

    @staticmethod
    def pane(at: int) -> int:
        return at // WIDTH

    def value(self, key: Any, at: int) -> Any:
        spec, kept = self.spec, self.events.get(key, [])
        if spec.kind in ("last", "seconds_since_last"):
            if (
                not kept
                or kept[-1][0] > at
                or (spec.window_seconds and at - kept[-1][0] > spec.window_seconds * 1000)
            ):
                return spec.default
            return kept[-1][1] if spec.kind == "last" else (at - kept[-1][0]) / 1000
        newest = max((t for t, _ in kept), default=0)
        kept = [(t, v) for t, v in kept if self.pane(t) > self.pane(newest) - PANES]
        panes: dict[int, list[tuple[int, Any]]] = {}
        for t, v in kept:
            panes.setdefault(self.pane(t), []).append((t, v))
        visible = [
            events
            for index, events in sorted(panes.items())
            if self.pane(at) - PANES < index <= self.pane(at) and all(t <= at for t, _ in events)
        ]
        values = [v for events in visible for _, v in events]
        if not values:
            zero = {"count": 0, "sum": 0.0}.get(spec.kind)
            return zero if spec.default is None else spec.default
        if spec.kind == "count":
            return len(values)
        if spec.kind in ("min", "max"):
            return min(values) if spec.kind == "min" else max(values)
        total = 0.0
        for events in visible:
            in_pane = 0.0
            for _, v in events:
                in_pane += v
            total += in_pane
        return total if spec.kind == "sum" else total / len(values)


class Oracles:
    """All features of a plan, each by itself."""

    def __init__(self, specs: tuple[FeatureSpec, ...]) -> None:
        self.all = [Oracle(spec) for spec in specs]

    def compute(self, x: dict[str, Any], entity: str, at: int) -> dict[str, Any]:
        out = {}
        for one in self.all:
            key = one.key(x, entity)
            if key is None:
                continue
            value = one.value(key, at)
            if value is not None:
                out[one.spec.name] = value
            of = one.spec.of
            if not of or (of != "label" and of in x):
                one.write(key, at, x.get(of))
        return out

    def learn(self, x: dict[str, Any], entity: str, at: int, y: Any) -> None:
        for one in self.all:
            key = one.key(x, entity)
            if one.spec.of == "label" and key is not None:
                one.write(key, at, y)


steps = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["e1", "e2", "e3"]),
        st.fixed_dictionaries(
            {},
            optional={
                "v": st.one_of(st.floats(-1e6, 1e6), st.integers(-5, 5), st.booleans()),
                "k": st.sampled_from(["a", "b"]),
            },
        ),
        st.integers(-14_000, 9_000),  # how far after the step before it: out of order by more than a window
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_equals_the_oracle_bit_for_bit_also_after_a_snapshot_at_any_point(steps: list[Any]) -> None:
    plan, oracle, at = FeaturePlan(SPECS), Oracles(SPECS), 1_000_000
    for is_label, entity, x, later, y, snapshot in steps:
        at += later
        if is_label:
            plan.learn(x, entity, at, y)
            oracle.learn(x, entity, at, y)
        else:
            served, expected = plan.compute(x, entity, at), oracle.compute(x, entity, at)
            assert {k: repr(v) for k, v in served.items()} == {k: repr(v) for k, v in expected.items()}
        if snapshot:
            plan = checkpoint.loads(checkpoint.dumps(plan))


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(1, 2))
def test_forgets_the_key_that_was_written_least_recently(steps: list[Any], max_keys: int) -> None:
    specs = tuple(
        FeatureSpec(s.name, s.kind, s.of, s.by, s.window_seconds, s.equals, s.default, s.panes, max_keys)
        for s in SPECS
    )
    plan, oracle, at = FeaturePlan(specs), Oracles(specs), 1_000_000
    for is_label, entity, x, later, y, _ in steps:
        at += abs(later)
        if is_label:
            plan.learn(x, entity, at, y)
            oracle.learn(x, entity, at, y)
        else:
            assert plan.compute(x, entity, at) == oracle.compute(x, entity, at)


def test_a_label_is_seen_only_once_it_is_there() -> None:
    plan = plan_of({"name": "rate", "kind": "rate", "of": "label", "by": "entity", "window_seconds": 60})
    assert plan.compute({}, "e", 1000) == {}
    assert plan.compute({}, "e", 2000) == {}
    plan.learn({}, "e", 5000, True)
    assert plan.compute({}, "e", 5000) == {"rate": 1.0}
    assert plan.compute({}, "e", 4999) == {}, "an observation from before the label does not see it"
    assert plan.compute({}, "other", 6000) == {}


def test_a_window_never_reaches_back_further_than_it_says() -> None:
    plan = plan_of({"name": "n", "kind": "count", "window_seconds": 12, "panes": 4})
    plan.compute({}, "e", 0)
    assert plan.compute({}, "e", 9_000)["n"] == 1
    assert plan.compute({}, "e", 12_000)["n"] == 1, "only the one at 9 s"


def test_sums_do_not_drift() -> None:
    plan = plan_of({"name": "s", "kind": "sum", "of": "v", "window_seconds": 10, "panes": 5})
    for second in range(2000):
        plan.compute({"v": 1e15 if second % 2 else 0.1}, "e", second * 1000)
    plan.compute({"v": 0.25}, "e", 10_000_000)
    assert plan.compute({"v": 1}, "e", 10_001_000) == {"s": 0.25}


def test_memory_is_bounded_by_keys_and_panes() -> None:
    plan = plan_of(
        {"name": "n", "kind": "mean", "of": "v", "by": "entity", "window_seconds": 60, "max_keys": 50}
    )
    for i in range(20_000):
        plan.compute({"v": 1.0}, f"e{i % 997}", i * 1000)
    size = len(checkpoint.dumps(plan))
    for i in range(20_000, 40_000):
        plan.compute({"v": 1.0}, f"e{i % 997}", i * 1000)
    assert len(checkpoint.dumps(plan)) <= size * 1.05
    assert plan.evicted > 30_000


def test_too_late_is_ignored_and_counted() -> None:
    plan = plan_of({"name": "n", "kind": "count", "of": "label", "window_seconds": 12, "panes": 4})
    plan.learn({}, "e", 100_000, True)
    plan.learn({}, "e", 80_000, True)
    assert plan.ignored == 1
    assert plan.compute({}, "e", 100_000) == {"n": 1}


FIELDS = [
    Field("carrier", "string", feature=True),
    Field("delay", "number", feature=True),
    Field("secret", "number", feature=False),
]


@pytest.mark.parametrize(
    ("feature", "where", "says"),
    [
        ({"kind": "count", "window_seconds": 60}, "features[0]", "name"),
        (
            {"name": "f", "kind": "median", "of": "delay", "window_seconds": 60},
            "features[0].kind",
            "seconds_since_last",
        ),
        ({"name": "f", "kind": "mean", "window_seconds": 60}, "features[0].of", "of what"),
        ({"name": "f", "kind": "mean", "of": "delay"}, "features[0].window_seconds", "between 1"),
        ({"name": "f", "kind": "mean", "of": "carrier", "window_seconds": 60}, "features[0].of", "text"),
        (
            {"name": "f", "kind": "mean", "of": "secret", "window_seconds": 60},
            "features[0].of",
            "carrier, delay",
        ),
        ({"name": "f", "kind": "count", "by": "plane", "window_seconds": 60}, "features[0].by", "'plane'"),
        (
            {"name": "f", "kind": "count", "by": ["entity", "entity"], "window_seconds": 60},
            "features[0].by",
            "twice",
        ),
        ({"name": "delay", "kind": "count", "window_seconds": 60}, "features[0].name", "already"),
        (
            {"name": "f", "kind": "rate", "of": "carrier", "window_seconds": 60},
            "features[0].equals",
            "which value",
        ),
        (
            {"name": "f", "kind": "mean", "of": "delay", "equals": 1, "window_seconds": 60},
            "features[0].equals",
            "rate",
        ),
        ({"name": "f", "kind": "count", "windows": 1}, "features[0]", "windows"),
        ({"name": "f", "kind": "count", "window_seconds": 60, "panes": 1000}, "features[0].panes", "100"),
        (
            {"name": "f", "kind": "count", "window_seconds": 60, "max_keys": 0},
            "features[0].max_keys",
            "between 1",
        ),
        ("count", "features[0]", "object"),
    ],
)
def test_says_what_is_wrong(feature: Any, where: str, says: str) -> None:
    with pytest.raises(Unusable) as caught:
        check_features([feature], FIELDS, "binary")
    assert caught.value.where == where
    assert says in caught.value.reason


def test_two_features_cannot_share_a_name() -> None:
    one = {"name": "f", "kind": "count", "window_seconds": 60}
    with pytest.raises(Unusable, match="two features"):
        check_features([one, one])
