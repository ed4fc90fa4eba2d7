"""Time travel: every prediction that was ever made is found, computed again, and equal."""

import msgspec
import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import (
    ContractAdopted,
    Label,
    LearningFrozen,
    ModelDeployed,
    ModelPromoted,
    Observation,
    Prediction,
    Snapshot,
)
from headrace.contracts.left_out import LeftOut
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.contracts.topics import LOG, PREDICTIONS, topic
from headrace.errors import Unusable
from headrace.memory import MemoryHistory
from headrace.replay import verify
from headrace.replay.explain import Explainer
from headrace.replay.rebuild import LogRebuilder
from headrace.replay.states import NO_STATES, States
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from tests.laws.test_rebuild_laws import MODEL, TREE, rebuilt
from tests.laws.test_verify_laws import lived

S_LOG = topic(LOG, "s")
CONTRACT = StreamContract(
    "s", "binary", [Field("a", "number"), Field("b", "number")], label=LabelSpec(wait_seconds=1)
)


def eventful() -> list[bytes]:
    """A log with everything in it: two models, a promotion, a freeze, a rebuild, early and missing labels, repeats."""
    log = [
        encode(ContractAdopted("c", 0, 1, CONTRACT.to_dict())),
        encode(ModelDeployed("d1", 0, "tree", 1, TREE)),
        encode(ModelDeployed("d2", 0, "model", 3, MODEL, "challenger")),
    ]
    for index in range(90):
        entity = "xyz"[index % 3]
        value = (index * 37 % 100) / 10 - 5
        seen = encode(Observation(f"i{index}", entity, 100 * index, {"a": value, "b": 1.0}))
        truth = encode(Label(f"i{index}", entity, 100 * index + 50, value > 0))
        if index % 7 == 0:
            log += [truth, seen]  # the label is first
        elif index % 5 == 0:
            log += [seen, seen]  # written twice, never labelled
        else:
            log += [seen, truth]
        if index == 30:
            log.append(encode(ModelPromoted("p", 0, "model")))
        if index == 50:
            log.append(encode(LearningFrozen("f", 0, "model")))
        if index == 70:
            log.append(rebuilt(LeftOut(["x"])))
    return log


@pytest.mark.parametrize("near", [verify.NEAR_OFFSETS, 4])
def test_every_prediction_is_found_and_equal(near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "NEAR_OFFSETS", near)
    log = eventful()
    broker, processor = lived(log)
    history = MemoryHistory(broker)
    explainer = Explainer(history, NO_STATES, LogRebuilder(history))
    stored = [msgspec.json.decode(value, type=Prediction) for value in broker.values(topic(PREDICTIONS, "s"))]
    assert len(stored) == 90
    for said in stored[::4] + stored[-2:]:
        found = explainer.find("s", said.id)
        assert found is not None
        assert (found.partition, found.offset) == (0, said.offset)
        assert explainer.at("s", 0, said.offset) == found
        story = explainer.explain(found, len(log))
        assert story["equal"] is True
        assert story["prediction"] == story["recomputed"] == msgspec.to_builtins(said)
        champion = next(one for one in story["models"] if one["role"] == "champion")
        assert (champion["model"], champion["version"]) == (said.model, said.version)
        assert champion["score"] == said.score
        assert champion["features"]["a"] == found.observation.x["a"]
        index = int(said.id[1:])
        labelled = index % 5 != 0 or index % 7 == 0
        assert (story["label"] is not None) == labelled
        waits = not labelled and index > 77  # nothing in the log is late enough to end its waiting
        status = "labelled" if labelled else "expired"
        assert story["outcome"] is None if waits else story["outcome"]["status"] == status
        today = {one["model"]: one for one in story["today"]["models"]}
        assert today["model"]["role"] == "champion"
        assert today["model"]["learned"] == processor.shard.slots["model"].learned


def test_from_a_snapshot_the_story_is_the_same_and_the_way_shorter(tmp_path) -> None:
    log = eventful()
    broker, _ = lived(log)
    store = SnapshotStore(tmp_path, Keys(b"k" * 32))
    saved = []
    for offset in (40, 120, 160):
        digest, size = store.put(lived(log[:offset])[1].snapshot())
        saved.append(Snapshot(offset, digest, size, "test"))
    read: list[int] = []

    class Counting(MemoryHistory):
        def read(self, name, partition, start, end):
            if name == S_LOG:
                read.append(start)
            return super().read(name, partition, start, end)

    history = Counting(broker)
    known = States(lambda _topic, _partition: saved, lambda _topic, _partition: store)
    for states, begins in ((NO_STATES, 0), (known, 120)):
        explainer = Explainer(history, states, LogRebuilder(history))
        found = explainer.at("s", 0, 150)
        read.clear()
        story = explainer.explain(found, len(log))
        assert story["equal"] is True
        assert read[0] == begins
        if states is NO_STATES:
            plain = story
    assert story == plain
    (tmp_path / saved[1].digest).write_bytes(b"damaged")
    read.clear()
    assert Explainer(history, known, LogRebuilder(history)).explain(found, len(log)) == plain
    assert read[0] == 40


def test_an_id_that_never_was_and_a_place_that_holds_no_observation() -> None:
    log = eventful()
    broker, _ = lived(log)
    history = MemoryHistory(broker)
    explainer = Explainer(history, NO_STATES, LogRebuilder(history))
    assert explainer.find("s", "i") is None
    assert explainer.find("s", 'i1","entity') is None
    for offset in (0, 2, 10_000):
        with pytest.raises(Unusable, match="no observation and no label"):
            explainer.at("s", 0, offset)


def test_the_place_of_a_label_leads_to_its_observation() -> None:
    log = [*eventful(), encode(Label("never", "x", 1, True))]
    broker, _ = lived(log)
    history = MemoryHistory(broker)
    explainer = Explainer(history, NO_STATES, LogRebuilder(history))
    for offset, identity in ((3, "i0"), (6, "i1")):  # a label that came early, and one that came in time
        found = explainer.at("s", 0, offset)
        assert found == explainer.find("s", identity)
        assert found.offset != offset
    with pytest.raises(Unusable, match="label of never"):
        explainer.at("s", 0, len(log) - 1)


def test_a_tampered_prediction_is_told_from_the_true_one() -> None:
    log = eventful()
    broker, _ = lived(log)
    stored = broker._topics[topic(PREDICTIONS, "s")][0]
    true = msgspec.json.decode(stored[44].value, type=Prediction)
    false = msgspec.structs.replace(true, score=0.123)
    stored[44] = stored[44]._replace(value=encode(false))
    history = MemoryHistory(broker)
    explainer = Explainer(history, NO_STATES, LogRebuilder(history))
    story = explainer.explain(explainer.at("s", 0, true.offset), len(log))
    assert story["equal"] is False
    assert story["recomputed"]["score"] == true.score


def test_junk_in_the_log_that_bears_the_id_is_passed_over() -> None:
    log = eventful()
    early = next(place for place, value in enumerate(log) if b'"id":"i7"' in value)
    log.insert(early, b'{"type":"label","id":"i7","y":')
    broker, _ = lived(log)
    history = MemoryHistory(broker)
    explainer = Explainer(history, NO_STATES, LogRebuilder(history))
    story = explainer.explain(explainer.at("s", 0, early + 2), len(log))
    assert story["equal"] is True
    assert story["label"]["id"] == "i7"
