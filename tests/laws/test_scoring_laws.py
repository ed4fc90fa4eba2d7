"""Laws of scoring on the in-memory host: a crash never changes a byte of what comes out, and the counts add up.

Batches, snapshots, duplicates, memory and hash seeds: `test_every_processor`.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, Label, ModelDeployed, Observation
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, REJECTED, STREAM_TOPICS, topic
from headrace.memory import MemoryBroker, MemoryHost
from headrace.processor import BY_KEY
from services.scoring.processor import ScoringProcessor

LOGISTIC = {
    "model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
    "features": [{"name": "late", "kind": "rate", "of": "label", "by": ["entity"], "window_seconds": 60}],
}
TREE = {"model": [{"class": "tree.HoeffdingTreeClassifier", "parameters": {"grace_period": 5}}]}
LIMITS = Limits(pending=8, remembered=12, early_labels=3)
CONTRACT = StreamContract(
    "s",
    "binary",
    [Field("a", "number"), Field("b", "number")],
    label=LabelSpec(wait_seconds=5),
    limits=LIMITS,
)

ids = st.integers(0, 30).map(lambda n: f"id{n}")
times = st.integers(0, 60_000)
numbers = st.floats(-100, 100).map(lambda value: round(value, 2))
observations = st.builds(
    lambda i, at, a, b: encode(Observation(i, i, at, {"a": a, "b": b})), ids, times, numbers, numbers
)
labels = st.builds(lambda i, at, y: encode(Label(i, i, at, y)), ids, times, st.booleans())
garbage = st.sampled_from(
    [b"", b"{", b"[]", b'{"type":"nonsense"}', b"\xff", encode(Label("id1", "id1", 5, "maybe"))]
)
histories = st.lists(st.one_of(observations, observations, labels, labels, garbage), max_size=80)

HEAD = [
    encode(ContractAdopted("c", 0, 1, CONTRACT.to_dict())),
    encode(ModelDeployed("d1", 0, "logistic", 1, LOGISTIC)),
    encode(ModelDeployed("d2", 0, "tree", 1, TREE, "challenger")),
]

Emitted = dict[str, list[bytes]]
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def broker_with(history: list[bytes]) -> MemoryBroker:
    broker = MemoryBroker()
    for kind in STREAM_TOPICS:
        broker.create(topic(kind, "s"))
    broker.produce(topic(LOG, "s"), [{"key": b"k", "value": value} for value in [*HEAD, *history]], 0)
    return broker


def emitted(broker: MemoryBroker) -> Emitted:
    return {kind.name: broker.values(topic(kind, "s")) for kind in (PREDICTIONS, OUTCOMES, REJECTED)}


def run(history: list[bytes], *, batch: int = 100, snapshot_records: int = 0) -> tuple[Emitted, str]:
    """What comes out, and the champion's fingerprint at the end."""
    broker = broker_with(history)
    host = MemoryHost(
        broker, ScoringProcessor, [topic(LOG, "s")], batch_records=batch, snapshot_records=snapshot_records
    )
    host.run_until_idle()
    return emitted(broker), fingerprint(host)


def fingerprint(host: MemoryHost) -> str:
    processor = host.runs[topic(LOG, "s"), 0].processor
    assert isinstance(processor, ScoringProcessor)
    return "".join(slot.fingerprint() for slot in processor.shard.slots.values())


@slow
@given(histories, st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 20), st.integers(0, 25))
def test_crashes_change_nothing(
    history: list[bytes], crashes: list[bool], batch: int, snapshot_records: int
) -> None:
    broker = broker_with(history)
    host = MemoryHost(
        broker, ScoringProcessor, [topic(LOG, "s")], batch_records=batch, snapshot_records=snapshot_records
    )
    for crash in crashes:
        host.step(topic(LOG, "s"), 0, crash=crash)
    host.crash()
    host.step(topic(LOG, "s"), 0)
    host.run_until_idle()
    assert (emitted(broker), fingerprint(host)) == run(history)


@slow
@given(histories)
def test_each_new_observation_has_one_prediction_and_at_most_one_end(history: list[bytes]) -> None:
    broker = broker_with(history)
    host = MemoryHost(broker, ScoringProcessor, [topic(LOG, "s")])
    host.run_until_idle()
    processor = host.runs[topic(LOG, "s"), 0].processor
    assert isinstance(processor, ScoringProcessor)
    counted = processor.shard.counters
    assert len(broker.values(topic(PREDICTIONS, "s"))) == counted.observations
    assert counted.observations == counted.labelled + counted.expired + processor.shard.pending
    assert processor.shard.pending <= LIMITS.pending
    assert len(broker.values(topic(REJECTED, "s"))) == counted.refused
    ends = counted.labelled + counted.expired + counted.unmatched + counted.second_labels
    assert len(broker.values(topic(OUTCOMES, "s"))) == ends


def test_partitions_are_independent() -> None:
    """Two entities on two partitions: the same outputs as each alone."""
    broker = MemoryBroker()
    for kind in STREAM_TOPICS:
        broker.create(topic(kind, "s"), 2)
    for partition in (0, 1):
        head = [{"key": b"k", "value": value} for value in HEAD]
        broker.produce(topic(LOG, "s"), head, partition)
    for index in range(40):
        for entity in ("x", "y"):
            key = entity.encode()
            event = Observation(f"{entity}{index}", entity, index, {"a": float(index), "b": 1.0})
            broker.produce(topic(LOG, "s"), [{"key": key, "value": encode(event)}], BY_KEY)
            answer = Label(f"{entity}{index}", entity, index, index % 2 == 0)
            broker.produce(topic(LOG, "s"), [{"key": key, "value": encode(answer)}], BY_KEY)
    MemoryHost(broker, ScoringProcessor, [topic(LOG, "s")], batch_records=7).run_until_idle()
    assert len(broker.values(topic(OUTCOMES, "s"))) == 80
