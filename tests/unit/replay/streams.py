"""Made-up streams of every task that lived through scoring, for the tests of what-if replays. Deterministic."""

import random
from typing import Any

from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, Label, ModelDeployed, Observation
from headrace.contracts.stream import Field, LabelSpec, StreamContract, check
from headrace.contracts.topics import LOG, STREAM_TOPICS, topic
from headrace.memory import MemoryBroker, MemoryHistory, MemoryHost
from headrace.replay import plan as plans
from headrace.replay.plan import Candidate, Plan
from headrace.replay.report import document
from headrace.replay.running import Workbench, run_all
from headrace.signing import Keys
from services.scoring.processor import ScoringProcessor

KEYS = Keys(b"k" * 32)
HOUR = 3_600_000
START = 1_357_000_000_000 - 1_357_000_000_000 % HOUR
HOSTILE = "<script>alert('x')</script>\"&"
CLASSES = ["low", HOSTILE, "high"]

SCALED: dict[str, list[Any]] = {
    "binary": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
    "multiclass": [
        "preprocessing.StandardScaler",
        {
            "class": "multiclass.OneVsRestClassifier",
            "parameters": {"classifier": "linear_model.LogisticRegression"},
        },
    ],
    "regression": ["preprocessing.StandardScaler", "linear_model.LinearRegression"],
}
PLAIN: dict[str, Any] = {
    "binary": "naive_bayes.GaussianNB",
    "multiclass": "naive_bayes.GaussianNB",
    "regression": "tree.HoeffdingTreeRegressor",
}


def contract_of(task: Any, partitions: int = 1) -> StreamContract:
    kind = {"binary": "boolean", "multiclass": "string", "regression": "number"}[task]
    label = LabelSpec(type=kind, wait_seconds=6 * 3600)  # type: ignore[arg-type]
    return check(
        StreamContract(
            "s", task, [Field("a", "number"), Field("b", "number")], label=label, partitions=partitions
        )
    )


def events(task: str, count: int, seed: int = 3) -> list[Any]:
    """Observations every ten minutes, labels an hour later, one in ten never."""
    rng = random.Random(seed)
    made: list[tuple[int, int, Any]] = []
    for n in range(count):
        at = START + n * HOUR // 6
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        signal = a - b + rng.gauss(0, 1)
        truth: Any = {
            "binary": signal > 0.4,
            "multiclass": CLASSES[0 if signal < -1 else 1 if signal < 1 else 2],
            "regression": 10 + 3 * signal,
        }[task]
        made.append((at, 0, Observation(f"n{n}", f"n{n}", at, {"a": a, "b": b})))
        if rng.random() < 0.9:
            made.append((at + HOUR, 1, Label(f"n{n}", f"n{n}", at + HOUR, truth)))
    return [one for _, _, one in sorted(made, key=lambda entry: entry[:2])]


def lived(task: str, count: int = 600, partitions: int = 1, model: str = "live") -> MemoryBroker:
    """A stream with a champion and a challenger."""
    broker = MemoryBroker()
    for kind in STREAM_TOPICS:
        broker.create(topic(kind, "s"), partitions)
    head = [
        ContractAdopted("c", 0, 1, contract_of(task, partitions).to_dict()),
        ModelDeployed("d1", 0, model, 1, {"model": SCALED[task]}),
        ModelDeployed("d2", 0, "beside", 4, {"model": PLAIN[task]}, "challenger"),
    ]
    for partition in range(partitions):
        values = [encode(record) for record in [*head, *events(task, count, seed=partition)]]
        broker.produce(topic(LOG, "s"), [{"key": b"k", "value": value} for value in values], partition)
    MemoryHost(broker, ScoringProcessor, [topic(LOG, "s")]).run_until_idle()
    return broker


def asked(task: str, **more: Any) -> Plan:
    """The live model and another, with a name that bites."""
    return Plan(
        "s", [Candidate("live", {"model": SCALED[task]}), Candidate(HOSTILE, {"model": PLAIN[task]})], **more
    )


def report(folder: Any, broker: MemoryBroker, plan: Plan, contract: StreamContract) -> dict[str, Any]:
    """The document of a replay."""
    changed = plans.check(plan, contract)
    bench = Workbench(folder, KEYS)
    read, counted = run_all(MemoryHistory(broker), plan, contract, bench, lambda *_: None, processes=1)
    return document(plan, changed, read, counted, "headrace replay s --model live")
