"""Folding again what was folded live finds no difference, and finds every difference that is planted."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from headrace import checkpoint
from headrace.contracts.codec import encode
from headrace.contracts.events import Observation, Snapshot
from headrace.contracts.left_out import LeftOut
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, STREAM_TOPICS, topic
from headrace.memory import MemoryBroker, MemoryHistory, MemoryHost
from headrace.processor import Batch
from headrace.replay import verify
from headrace.replay.rebuild import LogRebuilder
from headrace.replay.states import Start
from headrace.replay.verify import Stretch, Verdict, fold_again
from services.scoring.processor import ScoringProcessor
from tests.laws.test_rebuild_laws import DEPLOYED, HEAD, histories, history, rebuilt

S_LOG = topic(LOG, "s")
slow = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def lived(log: list[bytes]) -> tuple[MemoryBroker, ScoringProcessor]:
    """A log that was scored live."""
    broker = MemoryBroker()
    for kind in STREAM_TOPICS:
        broker.create(topic(kind, "s"))
    broker.produce(S_LOG, [{"key": b"k", "value": value} for value in log], 0)
    rebuilder = LogRebuilder(MemoryHistory(broker))
    host = MemoryHost(broker, lambda name, number: ScoringProcessor(name, number, rebuilder), [S_LOG])
    host.run_until_idle()
    processor = host.runs[S_LOG, 0].processor
    assert isinstance(processor, ScoringProcessor)
    return broker, processor


def verdict_of(broker: MemoryBroker, end: int, **more: Any) -> Verdict:
    return fold_again(MemoryHistory(broker), Stretch("s", 0, end), **more)[0]


@slow
@given(histories, histories)
def test_what_was_scored_live_is_found_again(before: list[bytes], after: list[bytes]) -> None:
    log = [*HEAD, DEPLOYED, *before, rebuilt(LeftOut(["x"])), *after]
    broker, processor = lived(log)
    fingerprints = processor.fingerprints()
    at_end = Snapshot(len(log), "digest", 1, "test", fingerprints)
    verdict = verdict_of(broker, len(log), snapshots=[at_end])
    assert verdict.well, verdict
    assert verdict.models == fingerprints
    assert [one.stored for one in verdict.fingerprints] == list(dict(sorted(fingerprints.items())).values())
    assert verdict.predictions is not None
    assert verdict.predictions.equal == processor.shard.counters.observations
    assert verdict.records == len(log)


def test_a_stretch_from_a_snapshot_is_compared_like_the_whole() -> None:
    log = history(60)
    broker, _ = lived(log)
    shard = checkpoint.loads(lived(log[:70])[1].snapshot())
    middle = lived(log[:100])[1].fingerprints()
    verdict, _ = fold_again(
        MemoryHistory(broker),
        Stretch("s", 0, len(log), Start(70, shard)),
        snapshots=[
            Snapshot(50, "d", 1, "test", {"model@3": "before the start"}),
            Snapshot(100, "d", 1, "test", middle),
        ],
    )
    assert verdict.well
    assert {one.offset for one in verdict.fingerprints} == {100}
    assert verdict.predictions is not None
    assert verdict.predictions.equal == sum(b'"observation"' in value for value in log[70:])


def test_a_fold_up_to_an_event_time_ends_before_the_first_later_record() -> None:
    log = history(60)
    broker, _ = lived(log)
    verdict, shard = fold_again(MemoryHistory(broker), Stretch("s", 0, len(log), at=20))
    assert verdict.end == 3 + 2 * 21
    assert shard.watermark == 20
    assert verdict.models == lived(log[: verdict.end])[1].fingerprints()
    assert verdict.well


def altered(broker: MemoryBroker, name: str, change: Any) -> None:
    """Change what was stored."""
    records = broker._topics[name][0]
    change(records)


def with_score(value: bytes, score: float) -> bytes:
    document = msgspec.json.decode(value)
    document["score"] = score
    return msgspec.json.encode(document)


@pytest.mark.parametrize("name", [PREDICTIONS, OUTCOMES])
@pytest.mark.parametrize("what", ["different", "missing", "superfluous"])
def test_every_planted_difference_is_found(name: Any, what: str) -> None:
    log = history(40)
    broker, _ = lived(log)
    stored = topic(name, "s")

    def change(records: list[Any]) -> None:
        if what == "different":
            records[7] = records[7]._replace(value=with_score(records[7].value, 0.25))
        elif what == "missing":
            del records[7]
        else:
            records.insert(8, records[7])

    where = msgspec.json.decode(broker.read(stored, 0)[7].value or b"")["offset"]
    altered(broker, stored, change)
    verdict = verdict_of(broker, len(log))
    compared = verdict.predictions if name is PREDICTIONS else verdict.outcomes
    other = verdict.outcomes if name is PREDICTIONS else verdict.predictions
    assert compared is not None
    assert other is not None
    assert not verdict.well
    assert other.well
    assert getattr(compared, what) == 1
    assert compared.first_difference == where
    assert compared.equal == 40 - (what != "superfluous")


def test_a_changed_log_is_another_model() -> None:
    """Somebody edits one value in the past: the fingerprint says so, and so does every prediction after it."""
    log = history(40)
    _, processor = lived(log)
    broker, _ = lived(log)
    assert b'"a":' in log[20] or b'"a":' in log[21]
    place = 21 if b'"a":' in log[21] else 20
    record = msgspec.json.decode(log[place], type=Observation, strict=False)
    record.x["a"] = 3.21
    altered(
        broker,
        S_LOG,
        lambda records: records.__setitem__(place, records[place]._replace(value=encode(record))),
    )
    snapshot = Snapshot(len(log), "digest", 1, "test", processor.fingerprints())
    verdict = verdict_of(broker, len(log), snapshots=[snapshot])
    assert [one.stored == one.rebuilt for one in verdict.fingerprints] == [False, False]
    assert verdict.predictions is not None
    assert verdict.predictions.different > 0
    assert verdict.predictions.first_difference == place


def test_what_retention_has_removed_is_unknown_and_not_missing() -> None:
    log = history(40)
    broker, _ = lived(log)
    kept = 15

    class Trimmed(MemoryHistory):
        def bounds(self, name: str, partition: int) -> Any:
            first = kept if name == topic(PREDICTIONS, "s") else 0
            return super().bounds(name, partition)._replace(first=first)

    verdict, _ = fold_again(Trimmed(broker), Stretch("s", 0, len(log)))
    assert verdict.predictions is not None
    assert verdict.well
    assert (verdict.predictions.unknown, verdict.predictions.equal) == (kept, 40 - kept)


def test_a_stretch_reads_what_was_stored_of_it_and_not_all_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a check of a bounded stretch would read for ever on a long log."""
    monkeypatch.setattr(verify, "NEAR_OFFSETS", 8)
    log = history(200)
    broker, _ = lived(log)
    read: dict[str, int] = {}

    class Counting(MemoryHistory):
        def read(self, name: str, partition: int, start: int, end: int) -> Iterator[Batch]:
            for batch in super().read(name, partition, start, min(end, start + 8)):
                read[name] = read.get(name, 0) + len(batch.offsets)
                yield batch
            if end > start + 8:
                yield from self.read(name, partition, start + 8, end)

    begin = len(log) - 40
    start = Start(begin, checkpoint.loads(lived(log[:begin])[1].snapshot()))
    verdict, _ = fold_again(Counting(broker), Stretch("s", 0, len(log), start))
    assert verdict.well
    assert verdict.predictions is not None
    assert verdict.predictions.equal == 20
    assert read[topic(PREDICTIONS, "s")] < 100
    assert read[topic(OUTCOMES, "s")] < 100


def test_what_is_missing_at_the_start_of_a_stretch_is_not_excused_by_retention_before_it() -> None:
    log = history(40)
    broker, _ = lived(log)
    begin = 43  # before the 21st observation

    class Trimmed(MemoryHistory):
        def bounds(self, name: str, partition: int) -> Any:
            return super().bounds(name, partition)._replace(first=5 if name != S_LOG else 0)

    altered(broker, topic(PREDICTIONS, "s"), lambda records: records.__delitem__(20))
    start = Start(begin, checkpoint.loads(lived(log[:begin])[1].snapshot()))
    verdict, _ = fold_again(Trimmed(broker), Stretch("s", 0, len(log), start))
    assert verdict.predictions is not None
    assert (verdict.predictions.missing, verdict.predictions.unknown) == (1, 0)
    assert verdict.predictions.first_difference == begin
