"""Laws of what-if replays, over any history on the in-memory host: a replay is the live fold over another log."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import adopting, checkpoint
from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, Label, LearningFrozen, ModelDeployed, Observation
from headrace.contracts.left_out import parse
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract
from headrace.contracts.times import to_text
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, STREAM_TOPICS, topic
from headrace.fold.parts import Folded
from headrace.history import Bounds
from headrace.memory import MemoryBroker, MemoryHistory, MemoryHost
from headrace.processor import Batch
from headrace.replay import plan as plans
from headrace.replay.plan import Bound, Candidate, Plan
from headrace.replay.report import document
from headrace.replay.running import Workbench, run_all
from headrace.replay.whatif import PartitionReplay, run, spans
from headrace.signing import Keys
from services.scoring.processor import ScoringProcessor

KEYS = Keys(b"k" * 32)
LOGISTIC = {
    "model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
    "features": [{"name": "late", "kind": "rate", "of": "label", "by": ["entity"], "window_seconds": 60}],
}
TREE = {"model": [{"class": "tree.HoeffdingTreeClassifier", "parameters": {"grace_period": 5}}]}
CONTRACT = StreamContract(
    "s",
    "binary",
    [Field("a", "number"), Field("b", "number")],
    label=LabelSpec(wait_seconds=20),
    limits=Limits(pending=30, remembered=40, early_labels=10),
)

ids = st.integers(0, 60).map(lambda n: f"id{n}")
sources = st.sampled_from(["", "one", "two"])
times = st.integers(0, 60_000)
numbers = st.floats(-100, 100).map(lambda value: round(value, 2))
observations = st.builds(
    lambda i, at, a, b, s: Observation(i, i, at, {"a": a, "b": b}, s), ids, times, numbers, numbers, sources
)
labels = st.builds(lambda i, at, y, s: Label(i, i, at, y, s), ids, times, st.booleans(), sources)
records = st.one_of(observations, observations, labels, labels, labels)
histories = st.lists(records, min_size=5, max_size=120)
slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Cut:
    """A history whose batches have at most so many records."""

    def __init__(self, history: MemoryHistory, most: int) -> None:
        self._history, self._most = history, most

    def partitions(self, name: str) -> int:
        return self._history.partitions(name)

    def bounds(self, name: str, partition: int) -> Bounds:
        return self._history.bounds(name, partition)

    def read(self, name: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        for at in range(start, end, self._most):
            yield from self._history.read(name, partition, at, min(end, at + self._most))


def lived(history: list[Any], contract: StreamContract = CONTRACT, deployed: bool = True) -> MemoryBroker:
    """A stream that lived through this: its log, and what scoring made of it."""
    broker = MemoryBroker()
    for kind in STREAM_TOPICS:
        broker.create(topic(kind, "s"), contract.partitions)
    head: list[Any] = [ContractAdopted("c", 0, 1, contract.to_dict())]
    if deployed:
        head.append(ModelDeployed("d", 0, "live", 1, LOGISTIC))
    for partition in range(contract.partitions):
        part = [one for place, one in enumerate(history) if place % contract.partitions == partition]
        values = [encode(record) for record in [*head, *part]]
        broker.produce(topic(LOG, "s"), [{"key": b"k", "value": value} for value in values], partition)
    MemoryHost(broker, ScoringProcessor, [topic(LOG, "s")]).run_until_idle()
    return broker


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(name, LOGISTIC if name.startswith("live") else TREE) for name in names]


def outputs(broker: MemoryBroker, plan: Plan, contract: StreamContract = CONTRACT) -> Folded:
    """Every prediction and outcome of a replay of one partition."""
    history = MemoryHistory(broker)
    whole = Folded()
    for folded in run(history, PartitionReplay(plan, contract, spans(history, "s")[0])):
        whole.predictions += folded.predictions
        whole.outcomes += folded.outcomes
    return whole


def report(
    history: Any, plan: Plan, contract: StreamContract = CONTRACT, processes: int = 1
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder) / "bench", KEYS)
        changed = plans.check(plan, contract)
        read, counted = run_all(history, plan, contract, bench, lambda *_: None, processes=processes)
        return document(plan, changed, read, counted)


def approx(value: Any) -> Any:
    """Sums of floats may be grouped otherwise where windows widened elsewhere in the log."""
    if isinstance(value, dict):
        return {key: approx(one) for key, one in value.items()}
    if isinstance(value, list):
        return [approx(one) for one in value]
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value


def model(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["models"] if one["name"] == name)


@slow
@given(histories)
def test_the_live_champion_replayed_says_what_it_said(history: list[Any]) -> None:
    """Byte for byte: predictions and outcomes as stored."""
    broker = lived(history)
    found = outputs(broker, Plan("s", candidates("live")))
    assert [encode(one) for one in found.predictions] == broker.values(topic(PREDICTIONS, "s"))
    assert [encode(one) for one in found.outcomes] == broker.values(topic(OUTCOMES, "s"))
    made = report(MemoryHistory(broker), Plan("s", candidates("live")))
    if made["counted"]["labelled"]:
        assert model(made, "served")["metrics"] == model(made, "live")["metrics"]
        assert model(made, "served")["windows"] == model(made, "live")["windows"]
        [same] = [one for one in made["differences"] if one["against"] == "served"]
        assert same["mean"] == 0.0
        assert same["count"] == made["counted"]["labelled"]


@slow
@given(histories)
def test_several_at_once_are_each_alone(history: list[Any]) -> None:
    log = MemoryHistory(lived(history))
    both = report(log, Plan("s", candidates("live", "tree", "live2")))
    for name in ("live", "tree", "live2"):
        alone = report(log, Plan("s", candidates(name)))
        expected = {**model(alone, name), "role": model(both, name)["role"]}
        assert model(both, name) == expected


@slow
@given(
    histories, st.integers(1, 50), st.integers(0, 120), st.sampled_from(["ignore", "correct"]), st.booleans()
)
def test_batches_and_interruptions_change_no_byte(
    history: list[Any], most: int, broken_at: int, second: Any, bounded: bool
) -> None:
    contract = msgspec.structs.replace(CONTRACT, label=msgspec.structs.replace(CONTRACT.label, second=second))
    broker = lived(history * 4, contract)
    bounds = {"start": Bound("time", 10_000), "end": Bound("time", 30_000)} if bounded else {}
    plan = Plan("s", candidates("live", "tree"), thresholds=[0.3, 0.6], **bounds)
    whole = report(MemoryHistory(broker), plan, contract)
    assert report(Cut(MemoryHistory(broker), most), plan, contract) == whole
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(adopting, "loads", checkpoint.loads)  # a child for each of these would take too long
        bench = Workbench(Path(folder), KEYS)
        log = Cut(MemoryHistory(broker), most)
        [span] = spans(log, "s")
        replay = PartitionReplay(plan, contract, span)
        for _ in run(log, replay):
            bench.save(0, replay.state(), replay.position)
            if replay.position >= broken_at:
                break
        read, counted = run_all(log, plan, contract, bench, lambda *_: None, processes=1)
    assert json.dumps(document(plan, contract, read, counted)) == json.dumps(whole)


LEFT_OUT = st.sampled_from(
    [["entity:id3", "entity:id7"], ["source:one"], ["time:1970-01-01T00:00:10Z..1970-01-01T00:00:30Z"]]
)


@slow
@given(histories, LEFT_OUT)
def test_without_is_the_log_without_those_records(history: list[Any], texts: list[str]) -> None:
    left_out = parse(texts)
    kept = [record for record in history if not left_out.covers(record, 0, -1)]
    found = report(MemoryHistory(lived(history)), Plan("s", candidates("live", "tree"), without=left_out))
    expected = report(MemoryHistory(lived(kept)), Plan("s", candidates("live", "tree")))
    assert found["counted"] == approx(expected["counted"])
    for name in ("live", "tree"):
        assert model(found, name) == approx(model(expected, name))
    # What happened is that of the same observations.
    if found["happened"]["labelled"]:
        assert model(found, "served")["metrics"]["count"] == found["happened"]["labelled"]


POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "wait_seconds": st.integers(1, 100),
        "expiry": st.sampled_from(["drop", "negative"]),
        "second": st.sampled_from(["ignore", "correct"]),
    },
)


@slow
@given(histories, POLICIES)
def test_a_label_policy_is_a_log_with_that_contract(history: list[Any], policy: dict[str, Any]) -> None:
    other = msgspec.structs.replace(CONTRACT, label=msgspec.structs.replace(CONTRACT.label, **policy))
    plan = Plan("s", candidates("live", "tree"), policy=policy)
    found = report(MemoryHistory(lived(history)), plan)
    expected = report(MemoryHistory(lived(history, other)), Plan("s", candidates("live", "tree")), other)
    assert found["counted"] == expected["counted"]
    for name in ("live", "tree"):
        assert model(found, name) == approx(model(expected, name))


@slow
@given(histories, st.integers(0, 60_000), st.integers(0, 60_000), st.booleans())
def test_a_range_counts_its_observations_and_no_other(
    history: list[Any], one: int, other: int, warm: bool
) -> None:
    start, end = sorted((one, other + 1)) if one != other + 1 else (one, other + 2)
    broker = lived(history)
    plan = Plan(
        "s",
        candidates("live"),
        start=Bound("time", start),
        end=Bound("time", end),
        warm_up=Bound("time", 0) if warm and start > 0 else None,
    )
    made = report(MemoryHistory(broker), plan)
    begin = 0 if plan.warm_up else start
    if begin == 0:  # models learn from the log's start: what is counted is what was said then
        whole = outputs(broker, Plan("s", candidates("live")))
        inside = [
            one for one in whole.outcomes if one.prediction_offset >= 0 and start <= one.observed_at < end
        ]
        late = [one for one in whole.predictions if start <= one.at < end]
        by = {status: sum(one.status == status for one in inside) for status in ("labelled", "expired")}
        # Observations that come after the range's last deadline are not waited for.
        assert made["counted"]["observations"] <= len(late)
        assert made["counted"]["labelled"] <= by["labelled"]
        in_order = sorted(history, key=lambda record: record.at)
        if in_order == history:
            assert made["counted"]["observations"] == len(late)
            assert made["counted"]["labelled"] == by["labelled"]
            if by["labelled"]:
                assert model(made, "live")["metrics"] == approx(model(made, "served")["metrics"])
    else:
        cut = [record for record in history if record.at >= start]
        alone = report(MemoryHistory(lived(cut)), Plan("s", candidates("live"), end=Bound("time", end)))
        assert made["counted"] == alone["counted"]
        assert model(made, "live") == approx(model(alone, "live"))


def test_controls_of_the_past_are_not_replayed() -> None:
    """A freeze, a retired and a new champion of the past do not touch the models that are asked."""
    events: list[Any] = []
    for n in range(200):
        events.append(Observation(f"n{n}", "e", n * 1000, {"a": float(n % 7), "b": 1.0}))
        events.append(Label(f"n{n}", "e", n * 1000 + 500, n % 7 > 3))
    plain = report(MemoryHistory(lived(events)), Plan("s", candidates("tree")))
    events.insert(100, LearningFrozen("f", 0, "live"))
    events.insert(50, ModelDeployed("d2", 0, "tree", 2, TREE))
    noisy = report(MemoryHistory(lived(events)), Plan("s", candidates("tree")))
    assert model(noisy, "tree") == approx(model(plain, "tree"))
    assert {one["name"] for one in noisy["models"] if one["kind"] == "happened"} == {
        "served",
        "live@1",
        "tree@2",
    }


def test_partitions_in_processes_are_partitions_here(tmp_path: Path) -> None:
    contract = msgspec.structs.replace(CONTRACT, partitions=3)
    events: list[Any] = []
    for n in range(300):
        events += [Observation(f"n{n}", f"n{n}", n * 60_000, {"a": float(n % 7), "b": 1.0})] * 1
    for n in range(300):
        events.insert(2 * n + 1, Label(f"n{n}", f"n{n}", n * 60_000 + 500, n % 7 > 3))
    # Pairs stay together: three partitions, two records each in turn.
    order = [
        events[at]
        for block in range(0, 600, 6)
        for at in (block, block + 2, block + 4, block + 1, block + 3, block + 5)
    ]
    log = MemoryHistory(lived(order, contract))
    plan = Plan("s", candidates("live", "tree"), thresholds=[0.4])
    here = report(log, plan, contract)
    assert here["counted"]["labelled"] == 300
    assert report(log, plan, contract, processes=2) == here


def test_thresholds_decide_from_the_score_on() -> None:
    events: list[Any] = []
    for n in range(400):
        events.append(Observation(f"n{n}", "e", n * 1000, {"a": float(n * 37 % 11), "b": float(n % 3)}))
        events.append(Label(f"n{n}", "e", n * 1000 + 500, (n * 37 % 11) + n % 3 > 6))
    broker = lived(events)
    cuts = [0.25, 0.5, 0.8]
    made = report(MemoryHistory(broker), Plan("s", candidates("live"), thresholds=cuts))
    whole = outputs(broker, Plan("s", candidates("live")))
    for entry in model(made, "live")["thresholds"]:
        pairs = [(one.score >= entry["threshold"], one.y) for one in whole.outcomes]
        assert entry["tp"] == sum(said and y for said, y in pairs)
        assert entry["fn"] == sum(not said and bool(y) for said, y in pairs)
        assert entry["fp"] == sum(said and not y for said, y in pairs)
    decided = model(made, "live")
    first = decided["thresholds"][0]
    assert decided["decides_at"] == 0.25
    assert decided["confusion"] == {name: first[name] for name in ("tp", "fp", "fn", "tn")}
    assert decided["metrics"]["recall"] == first["recall"]
    assert model(made, "served")["decides_at"] is None
    assert to_text(0) == made["windows"][0]["from"]
