"""Laws of undoing: a rebuilt model is what the log without some records makes of it, handed over exactly once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace import checkpoint
from headrace.contracts.codec import encode
from headrace.contracts.events import (
    ContractAdopted,
    Label,
    LearningFrozen,
    ModelDeployed,
    ModelRebuilt,
    Observation,
    Outcome,
    Prediction,
)
from headrace.contracts.left_out import LeftOut, OffsetRange, TimeRange
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, STREAM_TOPICS, topic
from headrace.errors import Fatal
from headrace.fold.slot import ModelSlot
from headrace.memory import MemoryBroker, MemoryHistory, MemoryHost
from headrace.replay.rebuild import LogRebuilder
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.scoring.processor import ScoringProcessor

S_LOG = topic(LOG, "s")
MODEL = {
    "model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
    "features": [{"name": "late", "kind": "rate", "of": "label", "by": ["entity"], "window_seconds": 60}],
}
TREE = {"model": [{"class": "tree.HoeffdingTreeClassifier", "parameters": {"grace_period": 5}}]}
CONTRACT = StreamContract(
    "s", "binary", [Field("a", "number"), Field("b", "number")], label=LabelSpec(wait_seconds=10_000)
)
HEAD = [
    encode(ContractAdopted("c", 0, 1, CONTRACT.to_dict())),
    encode(ModelDeployed("d1", 0, "tree", 1, TREE)),
]
DEPLOYED = encode(ModelDeployed("d2", 0, "model", 3, MODEL, "challenger"))

LEARNT = encode(ModelDeployed("d2", 0, "model", 3, MODEL, "challenger", learnt=True))

ids = st.integers(0, 25).map(lambda n: f"id{n}")
entities = st.sampled_from(["x", "y", "z"])
sources = st.sampled_from(["", "good", "bad"])
times = st.integers(0, 60_000)
numbers = st.floats(-100, 100).map(lambda value: round(value, 2))
observations = st.builds(
    lambda i, e, at, a, b, s: encode(Observation(i, e, at, {"a": a, "b": b}, s)),
    ids, entities, times, numbers, numbers, sources,
)  # fmt: skip
labels = st.builds(
    lambda i, e, at, y, s: encode(Label(i, e, at, y, s)), ids, entities, times, st.booleans(), sources
)
good_labels = st.builds(
    lambda i, e, at, y: encode(Label(i, e, at, y, "good")), ids, entities, times, st.booleans()
)
histories = st.lists(st.one_of(observations, observations, labels, labels), max_size=50)
left_outs = st.one_of(
    st.just(LeftOut(entities=["x"])),
    st.just(LeftOut(sources=["bad"])),
    st.tuples(st.integers(0, 60), st.integers(1, 30)).map(
        lambda span: LeftOut(offsets=[OffsetRange(0, span[0], span[0] + span[1])])
    ),
    st.tuples(times, st.integers(1, 30_000)).map(
        lambda span: LeftOut(times=[TimeRange(span[0], span[0] + span[1])])
    ),
)
slow = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Folded:
    """A whole log, folded on the in-memory host."""

    def __init__(
        self,
        log: list[bytes],
        *,
        batch: int = 100,
        snapshot_records: int = 0,
        crashes: int = 0,
        store: SnapshotStore | None = None,
    ) -> None:
        broker = MemoryBroker()
        for kind in STREAM_TOPICS:
            broker.create(topic(kind, "s"))
        broker.produce(S_LOG, [{"key": b"k", "value": value} for value in log], 0)
        rebuilder = LogRebuilder(MemoryHistory(broker), store)
        host = MemoryHost(
            broker,
            lambda name, partition: ScoringProcessor(name, partition, rebuilder),
            [S_LOG],
            batch_records=batch,
            snapshot_records=snapshot_records,
        )
        for _ in range(crashes):
            host.step(S_LOG, 0)
            host.step(S_LOG, 0, crash=True)
        host.run_until_idle()
        self.predictions = broker.values(topic(PREDICTIONS, "s"))
        outcomes = [msgspec.json.decode(value, type=Outcome) for value in broker.values(topic(OUTCOMES, "s"))]
        self.ended = [(one.id, one.status, one.y) for one in outcomes]
        self.shard = host.runs[S_LOG, 0].processor.shard  # type: ignore[attr-defined]  # a ScoringProcessor

    @property
    def slot(self) -> ModelSlot:
        return self.shard.slots["model"]

    def said(self, since: int) -> list[tuple[int, float | None]]:
        """(offset, score) of the model's answers to what was observed from an offset on."""
        decoded = [msgspec.json.decode(value, type=Prediction) for value in self.predictions]
        return [
            (one.offset, answer.score)
            for one in decoded
            if one.offset >= since
            for answer in one.challengers
            if answer.model == "model"
        ]


def rebuilt(left_out: LeftOut, name: str = "r1", version: int = 4) -> bytes:
    return encode(ModelRebuilt(name, 0, "model", version, left_out))


def physically(log: list[bytes], left_out: LeftOut, below: int) -> list[bytes]:
    """The log with the left-out records below an offset made unreadable, every other where it was."""

    def gone(offset: int, value: bytes) -> bool:
        if offset >= below or not (b'"observation"' in value or b'"label"' in value[:20]):
            return False
        record: Any = msgspec.json.decode(value)
        return (
            record["entity"] in left_out.entities
            or record.get("source", "") in (left_out.sources or ["-"])
            or any(span.start <= record["at"] < span.end for span in left_out.times)
            or any(part.start <= offset < part.end for part in left_out.offsets)
        )

    return [b"" if gone(offset, value) else value for offset, value in enumerate(log)]


@slow
@given(histories, histories, histories)
def test_with_nothing_left_out_the_model_is_the_one_that_was(
    before: list[bytes], between: list[bytes], after: list[bytes]
) -> None:
    log = [*HEAD, *before, DEPLOYED, *between]
    plain = Folded([*log, b"", *after])
    again = Folded([*log, rebuilt(LeftOut()), *after])
    assert again.slot.fingerprint() == plain.slot.fingerprint()
    assert again.said(0) == plain.said(0)
    assert (again.slot.learned, again.slot.version, plain.slot.version) == (plain.slot.learned, 4, 3)
    assert checkpoint.dumps(again.slot.metrics) == checkpoint.dumps(plain.slot.metrics)


@slow
@given(histories, histories, histories, left_outs)
def test_a_rebuilt_model_is_that_of_the_log_without_the_records(
    before: list[bytes], between: list[bytes], after: list[bytes], left_out: LeftOut
) -> None:
    log = [*HEAD, *before, DEPLOYED, *between]
    end = len(log)
    # What comes later is learnt whoever sent it; but an observation that was left out stays known to the live shard.
    seen = {value.split(b'"')[7] for value in log if b'"observation"' in value}
    fresh = [value if value.split(b'"')[7] not in seen else b"" for value in after]
    undone = Folded([*log, rebuilt(left_out), *fresh])
    never = Folded([*physically(log, left_out, end), b"", *fresh])
    assert undone.slot.fingerprint() == never.slot.fingerprint()
    assert undone.said(end) == never.said(end)
    assert undone.slot.learned == never.slot.learned


def test_when_the_first_label_is_left_out_the_second_counts() -> None:
    """Both came before their observation; which of them waits for it is another matter without the first."""
    first, second = (encode(Label("i", "x", 0, y, source)) for y, source in ((True, "bad"), (False, "")))
    seen = encode(Observation("i", "x", 0, {"a": 1.0, "b": 1.0}))
    left_out = LeftOut(sources=["bad"])
    log = [*HEAD, DEPLOYED, first, second]
    undone = Folded([*log, rebuilt(left_out), seen])
    never = Folded([*physically(log, left_out, len(log)), b"", seen])
    assert undone.slot.learned == never.slot.learned == 1
    assert undone.slot.fingerprint() == never.slot.fingerprint()


def test_the_label_that_counts_now_is_waited_for_as_any_other() -> None:
    wait = CONTRACT.label.wait_seconds * 1000
    older = encode(Label("older", "x", 0, True))
    first, second = (encode(Label("i", "x", 5, y, source)) for y, source in ((True, "bad"), (False, "")))
    past_older, past_both = (
        encode(Observation(name, "x", wait + at, {"a": 1.0, "b": 1.0})) for name, at in (("o1", 1), ("o2", 6))
    )
    log = [*HEAD, DEPLOYED, older, first, second, past_older, rebuilt(LeftOut(sources=["bad"])), past_both]
    assert Folded(log).ended[-2:] == [("i", "ignored", True), ("i", "unmatched", False)]


@slow
@given(st.lists(st.one_of(observations, good_labels), max_size=60), histories, st.integers(1, 4))
@example(
    [
        encode(Label("early", "x", 0, True, "good")),
        encode(Observation("seen", "x", 0, {"a": 1.0, "b": 1.0}, "bad")),
        encode(Label("seen", "x", 0, True, "good")),
    ],
    [encode(Observation("early", "x", 0, {"a": 1.0, "b": 1.0}))],
    1,
)
def test_labels_that_were_not_left_out_are_kept_for_every_model(
    before: list[bytes], after: list[bytes], early_labels: int
) -> None:
    """Without their observations more labels wait in the fold that is made again, so its bound ends others there."""
    bounded = msgspec.structs.replace(CONTRACT, limits=Limits(early_labels=early_labels))
    head = [encode(ContractAdopted("c", 0, 1, bounded.to_dict())), HEAD[1], DEPLOYED]
    undone = Folded([*head, *before, rebuilt(LeftOut(sources=["bad"])), *after])
    plain = Folded([*head, *before, b"", *after])
    assert undone.ended == plain.ended
    assert undone.shard.slots["tree"].fingerprint() == plain.shard.slots["tree"].fingerprint()


@slow
@given(histories, histories, left_outs)
def test_labels_that_come_after_the_hand_over_are_learnt_once(
    between: list[bytes], after: list[bytes], left_out: LeftOut
) -> None:
    """Observations before it, labels behind it: the rebuilt model learns what the log without the records would."""
    log = [*HEAD, DEPLOYED, *[value for value in between if b'"observation"' in value]]
    late = [value for value in after if b'"label"' in value[:20]]
    undone = Folded([*log, rebuilt(left_out), *late])
    never = Folded([*physically(log, left_out, len(log)), b"", *late])
    assert undone.slot.fingerprint() == never.slot.fingerprint()
    assert undone.slot.learned == never.slot.learned


@slow
@given(histories, histories, left_outs)
def test_what_came_while_the_model_was_frozen_is_learnt(
    before: list[bytes], between: list[bytes], left_out: LeftOut
) -> None:
    frozen = encode(LearningFrozen("f", 0, "model"))
    stopped = Folded([*HEAD, DEPLOYED, *before, frozen, *between, rebuilt(left_out)])
    never = Folded([*HEAD, DEPLOYED, *before, b"", *between, rebuilt(left_out)])
    assert stopped.slot.fingerprint() == never.slot.fingerprint()
    assert not stopped.slot.frozen


@slow
@given(histories, histories, left_outs, st.integers(1, 20), st.integers(0, 25), st.integers(0, 9))
def test_batches_crashes_and_snapshots_change_nothing(
    between: list[bytes], after: list[bytes], left_out: LeftOut, batch: int, snapshots: int, crashes: int
) -> None:
    log = [*HEAD, DEPLOYED, *between, rebuilt(left_out), *after, rebuilt(LeftOut(["y"]), "r2", 5), *after]
    once = Folded(log)
    again = Folded(log, batch=batch, snapshot_records=snapshots, crashes=crashes)
    assert again.predictions == once.predictions
    assert again.shard.fingerprints() == once.shard.fingerprints()
    assert [below.offset for below in once.slot.left_out] == [3 + len(between), 4 + len(between) + len(after)]


@slow
@given(histories, histories)
def test_one_that_learnt_before_is_the_one_that_stood_there_from_the_start(
    before: list[bytes], after: list[bytes]
) -> None:
    stood = Folded([*HEAD, DEPLOYED, *before, b"", *after])
    learnt = Folded([*HEAD, b"", *before, LEARNT, *after])
    end = len(HEAD) + 2 + len(before)
    assert learnt.slot.fingerprint() == stood.slot.fingerprint()
    assert learnt.said(end) == stood.said(end)
    assert learnt.said(0) == learnt.said(end)  # nobody asked it before
    assert (learnt.slot.learned, learnt.slot.role, learnt.slot.since) == (
        stood.slot.learned, "challenger", end - 1,
    )  # fmt: skip
    assert checkpoint.dumps(learnt.slot.metrics) == checkpoint.dumps(stood.slot.metrics)


@slow
@given(histories, histories, left_outs)
def test_one_may_have_learnt_the_log_without_some_records(
    before: list[bytes], after: list[bytes], left_out: LeftOut
) -> None:
    told = {value.split(b'"')[7] for value in before}
    fresh = [value for value in after if value.split(b'"')[7] not in told]
    deployed = encode(ModelDeployed("d2", 0, "model", 3, MODEL, "challenger", learnt=True, without=left_out))
    learnt = Folded([*HEAD, b"", *before, deployed, *fresh])
    log = [*HEAD, DEPLOYED, *before, b""]
    stood = Folded([*physically(log, left_out, len(log)), *fresh])
    assert learnt.slot.fingerprint() == stood.slot.fingerprint()
    assert learnt.said(len(log)) == stood.said(len(log))
    undone = Folded([*HEAD, b"", *before, deployed, rebuilt(LeftOut(["y"])), *fresh])
    never = Folded([*physically(physically(log, left_out, len(log)), LeftOut(["y"]), len(log)), b"", *fresh])
    assert undone.slot.fingerprint() == never.slot.fingerprint()


@slow
@given(histories, histories, left_outs)
def test_what_it_learnt_before_can_be_undone(
    before: list[bytes], between: list[bytes], left_out: LeftOut
) -> None:
    log = [*HEAD, b"", *before, LEARNT, *between]
    undone = Folded([*log, rebuilt(left_out)])
    never = Folded([*physically([*HEAD, DEPLOYED, *before, b"", *between], left_out, len(log)), b""])
    assert undone.slot.fingerprint() == never.slot.fingerprint()
    again = Folded([*log, rebuilt(left_out), rebuilt(LeftOut(), "r2", 5)])
    assert again.slot.fingerprint() == undone.slot.fingerprint()


@slow
@given(histories, histories, st.integers(1, 20), st.integers(0, 25), st.integers(0, 9))
def test_batches_crashes_and_snapshots_change_nothing_for_one_that_learnt_before(
    before: list[bytes], after: list[bytes], batch: int, snapshots: int, crashes: int
) -> None:
    log = [*HEAD, *before, LEARNT, *after, rebuilt(LeftOut(["y"]))]
    once = Folded(log)
    again = Folded(log, batch=batch, snapshot_records=snapshots, crashes=crashes)
    assert again.predictions == once.predictions
    assert again.shard.fingerprints() == once.shard.fingerprints()


def test_one_that_learns_before_is_prepared_beside_the_shard(tmp_path: Path) -> None:
    log = [HEAD[0], HEAD[1], *history(200)[3:]]

    def store() -> SnapshotStore:
        return SnapshotStore(tmp_path, Keys(b"k" * 32))

    plain, all_of_it = counted(lambda: None, [*log, LEARNT])
    counted(store, [*log, LEARNT])
    other_id = encode(ModelDeployed("d9", 0, "model", 7, MODEL, learnt=True))
    prepared, none = counted(store, [*log, other_id])
    assert (all_of_it, none) == (len(log), 0)
    assert prepared.slot.fingerprint() == plain.slot.fingerprint()
    assert (prepared.slot.version, prepared.slot.role) == (7, "champion")


def history(count: int) -> list[bytes]:
    """Observations and labels from two entities, one of which lies."""
    log = [*HEAD, DEPLOYED]
    for index in range(count):
        entity = "x" if index % 3 == 0 else "y"
        value = (index * 37 % 100) / 10 - 5
        log.append(encode(Observation(f"i{index}", entity, index, {"a": value, "b": 1.0})))
        log.append(encode(Label(f"i{index}", entity, index, (value > 0) != (entity == "x"))))
    return log


def counted(store: Callable[[], SnapshotStore | None], log: list[bytes]) -> tuple[Folded, int]:
    """Fold a log; how many records its rebuilds read."""
    read = 0

    class Counting(MemoryHistory):
        def read(self, topic: str, partition: int, start: int, end: int) -> Any:
            nonlocal read
            for batch in super().read(topic, partition, start, end):
                read += len(batch.offsets)
                yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.MemoryHistory", Counting)
        return Folded(log, store=store()), read


CRASHES = b"\x80\x05\x8f(K\x01" + b"\x85" * 2_000_000 + b"\x90."
"""A state that ends whoever loads it: the hash of a tuple, two million deep."""


def test_a_shortcut_saves_the_reading_and_one_that_is_damaged_or_harmful_costs_only_time(
    tmp_path: Path,
) -> None:
    log = history(300)
    undo = [*log, rebuilt(LeftOut(["x"]))]

    def store() -> SnapshotStore:
        return SnapshotStore(tmp_path, Keys(b"k" * 32))

    plain, all_of_it = counted(lambda: None, undo)
    first, again = counted(store, undo)
    prepared, none = counted(store, undo)
    assert (all_of_it, again, none) == (len(log), len(log), 0)
    longer, the_rest = counted(store, [*log, *history(310)[len(log) :], rebuilt(LeftOut(["x"]))])
    assert the_rest == 20
    assert longer.slot.fingerprint() != plain.slot.fingerprint()
    (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
    kept.write_bytes(kept.read_bytes()[:-1])
    damaged, everything = counted(store, undo)
    assert everything == len(log)
    (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
    kept.unlink()
    store().within(str(kept.parent.relative_to(tmp_path))).put(CRASHES)
    harmful, everything = counted(store, undo)
    assert everything == len(log)
    for one in (first, prepared, damaged, harmful):
        assert one.slot.fingerprint() == plain.slot.fingerprint()


def test_undoing_poison_gives_the_better_model_back() -> None:
    """A third of the labels are lies, of one entity: without it the model is as if it had never lied."""
    log = history(600)

    def sure(folded: Folded) -> float:
        """P(positive) where the truth is positive."""
        score = folded.slot.answer(folded.slot.served({"a": 4.0, "b": 1.0}, "y", 600))[1]
        assert score is not None
        return score

    honest = sure(Folded(physically(log, LeftOut(["x"]), len(log))))
    assert sure(Folded([*log, rebuilt(LeftOut(["x"]))])) == honest
    assert sure(Folded(log)) < honest - 0.1


def test_a_host_that_cannot_read_the_log_again_ends_rather_than_go_another_way() -> None:
    broker = MemoryBroker()
    for kind in STREAM_TOPICS:
        broker.create(topic(kind, "s"))
    log = [*history(3), rebuilt(LeftOut(["x"]))]
    broker.produce(S_LOG, [{"key": b"k", "value": value} for value in log], 0)
    with pytest.raises(Fatal, match="read it again"):
        MemoryHost(broker, ScoringProcessor, [S_LOG]).run_until_idle()
