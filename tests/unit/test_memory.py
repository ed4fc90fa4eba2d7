"""The in-memory broker and host keep Kafka's rules: what is visible when, who may commit, where a start goes on."""

import doctest
import json

import pytest

from headrace import memory
from headrace.errors import Transient
from headrace.memory import Crash, Fenced, MemoryBroker, MemoryHistory, MemoryHost, MemorySnapshots
from headrace.processor import Batch, Outputs

PLACE = ("s.log", 0)
OUT = "s.predictions"


def said(*values: bytes) -> list:
    return [{"key": b"k", "value": value} for value in values]


def broker() -> MemoryBroker:
    made = MemoryBroker()
    for name in ("s.log", OUT):
        made.create(name)
    return made


class Counting:
    """Says how many records it has seen, one message a record."""

    def __init__(self, topic: str = "", partition: int = 0) -> None:
        self.count = 0

    def process(self, batch: Batch) -> Outputs:
        messages = []
        for value in batch.values:
            self.count += 1
            messages += said(b"%d:%s" % (self.count, value))
        return {(OUT, 0): messages}

    def snapshot(self) -> bytes:
        return str(self.count).encode()

    def restore(self, state: bytes) -> None:
        self.count = int(state)

    def fingerprints(self) -> dict[str, str]:
        return {}


def test_the_example_in_the_package_runs() -> None:
    assert doctest.testmod(memory).failed == 0


def test_a_transaction_is_seen_when_it_is_committed_and_blocks_what_comes_after() -> None:
    topics = broker()
    transaction = topics.begin("p")
    transaction.produce(OUT, said(b"1"), 0)
    topics.produce(OUT, said(b"2"), 0)
    assert topics.values(OUT) == []
    assert not topics.is_settled()
    transaction.commit()
    transaction.commit()  # an answer that was lost: trying again changes nothing
    assert [(record.offset, record.value) for record in topics.read(OUT, 0)] == [(0, b"1"), (1, b"2")]
    topics.produce(OUT, said(b"3"), 0)
    assert topics.read(OUT, 0)[-1].offset == 3  # the marker took one
    assert topics.is_settled()


def test_what_is_aborted_leaves_a_hole() -> None:
    topics = broker()
    topics.begin("p").produce(OUT, said(b"1", b"2"), 0)
    topics.begin("p").commit()  # a new life ends what the one before left open
    topics.produce(OUT, said(b"3"), 0)
    assert [(record.offset, record.value) for record in topics.read(OUT, 0)] == [(3, b"3")]
    left = topics.begin("q")
    left.produce(OUT, said(b"4"), 0)
    topics.time_out()
    assert topics.is_settled()
    for late in (lambda: left.produce(OUT, said(b"5"), 0), left.commit):
        with pytest.raises(Fenced):
            late()
    assert topics.values(OUT) == [b"3"]


def test_offsets_are_committed_with_the_records_or_not_at_all() -> None:
    topics = broker()
    generation = topics.claim("g", PLACE)
    transaction = topics.begin("p")
    transaction.commit_offset("g", PLACE, 5, generation)
    with pytest.raises(Transient):
        topics.committed("g", PLACE)
    transaction.abort()
    assert topics.committed("g", PLACE) == 0
    transaction = topics.begin("p")
    transaction.commit_offset("g", PLACE, 5, generation)
    transaction.commit()
    assert topics.committed("g", PLACE) == 5


def test_who_has_lost_a_partition_cannot_commit_for_it() -> None:
    topics = broker()
    generation = topics.claim("g", PLACE)
    topics.claim("g", PLACE)
    with pytest.raises(Fenced, match="another member"):
        topics.begin("p").commit_offset("g", PLACE, 5, generation)


def test_a_zombie_emits_nothing_and_starts_over() -> None:
    topics = broker()
    topics.produce("s.log", said(b"a", b"b"), 0)
    zombie, heir = (MemoryHost(topics, Counting, ["s.log"], instance=name) for name in "12")
    zombie.step(*PLACE, limit=1)
    heir.step(*PLACE, limit=1)
    assert zombie.step(*PLACE, limit=1) == 0
    assert zombie.runs == {}
    assert topics.values(OUT) == [b"1:a"]
    assert heir.run_until_idle() == 1
    assert topics.values(OUT) == [b"1:a", b"2:b"]


@pytest.mark.parametrize("point", memory.POINTS)
@pytest.mark.parametrize("failure", [Crash, Transient])
def test_whatever_happens_at_a_point_everything_comes_out_once(point: str, failure: type[Exception]) -> None:
    topics = broker()
    topics.produce("s.log", said(b"a", b"b", b"c"), 0)
    host = MemoryHost(topics, Counting, ["s.log"], snapshot_records=1)
    host.step(*PLACE, limit=1)

    def at(reached: str, place: tuple[str, int]) -> None:
        if reached == point:
            host.at = lambda _point, _place: None
            raise failure("here")

    host.at = at
    assert host.step(*PLACE, limit=1) == 0
    host.run_until_idle()
    assert topics.values(OUT) == [b"1:a", b"2:b", b"3:c"]


@pytest.mark.parametrize(("damaged", "position"), [(0, 3), (1, 2), (2, 1), (3, 0)])
def test_a_start_takes_the_newest_good_snapshot_and_else_the_logs_start(damaged: int, position: int) -> None:
    topics, store = broker(), MemorySnapshots()
    topics.produce("s.log", said(b"a", b"b", b"c"), 0)
    host = MemoryHost(topics, Counting, ["s.log"], batch_records=1, snapshot_records=1, snapshots=store)
    host.run_until_idle()
    for name in list(store.blobs)[3 - damaged :]:
        store.blobs[name] = b"damaged"
    host.crash()
    topics.produce("s.log", said(b"d"), 0)
    starts: list[int] = []
    host.at = lambda _point, place: starts.append(host.runs[place].position)
    host.run_until_idle()
    assert starts[0] == position
    assert topics.values(OUT) == [b"1:a", b"2:b", b"3:c", b"4:d"]


def test_a_snapshot_of_a_transaction_that_never_was_is_not_announced() -> None:
    topics = broker()
    topics.produce("s.log", said(b"a", b"b", b"c"), 0)
    host = MemoryHost(topics, Counting, ["s.log"], snapshot_records=1)

    def fail(point: str, _: tuple[str, int]) -> None:
        if point == "before_commit":
            raise Transient("here")

    host.at = fail
    host.step(*PLACE, limit=2)
    host.at = lambda _point, _place: None
    host.step(*PLACE, limit=1)
    host.run_until_idle()
    announced = json.loads(topics.values("s.checkpoints")[-1])["snapshots"]
    assert [one["offset"] for one in announced] == [1, 3]


def test_history_reads_what_is_committed_holes_and_all() -> None:
    topics = broker()
    topics.begin("p").produce("s.log", said(b"gone"), 0)
    topics.time_out()
    topics.produce("s.log", said(b"a", b"b", b"c"), 0)
    history = MemoryHistory(topics)
    assert tuple(history.bounds(*PLACE)) == (0, 5)
    assert [list(batch.offsets) for batch in history.read(*PLACE, 0, 4)] == [[2, 3]]
    assert [list(batch.values) for batch in history.read(*PLACE, 3, 9)] == [[b"b", b"c"]]
    assert list(history.read(*PLACE, 0, 2)) == []
