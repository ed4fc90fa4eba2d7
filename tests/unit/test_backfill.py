"""What a host feeds in place of records that Kafka no longer has, and where it then goes on."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from confluent_kafka import KafkaError

from headrace.errors import Fatal, Transient
from headrace.kafka.backfill import Backfill
from headrace.kafka.host import RETRY_SECONDS, HostSettings, KafkaHost
from headrace.kafka.membership import Membership
from headrace.processor import Batch
from headrace.step import Run
from tests.unit.archive.shortened import TOPIC, ShortenedHistory
from tests.unit.test_host_stop import Still

PLACE = (TOPIC, 0)


class Consumer:
    """A partition that reaches from `first` to `end`; remembers where it was told to go on."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end
        self.given: list[int] = []

    def get_watermark_offsets(self, _partition: Any, _timeout: float) -> tuple[int, int]:
        return self.first, self.end

    def incremental_unassign(self, partitions: list[Any]) -> None:
        assert [partition.partition for partition in partitions] == [0]

    def incremental_assign(self, partitions: list[Any]) -> None:
        self.given += [partition.offset for partition in partitions]


def worked_off(backfill: Backfill, run: Run) -> list[int]:
    """Feed what comes until the consumer has the partition again; the offsets that came."""
    backfill.begin(PLACE)
    offsets: list[int] = []
    for _ in range(100):
        if not backfill:
            return offsets
        for batch in backfill.batches({PLACE: run}, ()).values():
            offsets += batch.offsets
            run.feed(batch)
    raise AssertionError("it does not end")


def test_it_reads_up_to_where_kafka_begins_and_passes_over_markers() -> None:
    past = ShortenedHistory()
    past.append(8, 4)  # offsets 8 to 11 are markers, and Kafka begins among them
    consumer, run = Consumer(10, 40), Run(Still(), position=2, silent_until=5)
    assert worked_off(Backfill(consumer, lambda: past), run) == [2, 3, 4, 5, 6, 7]
    assert consumer.given == [10]
    assert run.position == 10


def test_a_history_that_is_away_is_asked_again_from_where_the_run_stands() -> None:
    class Away(ShortenedHistory):
        def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
            batches = super().read(topic, partition, start, end)
            yield next(batches)
            if start < 6:
                raise Transient("away")
            yield from batches

    past = Away()
    past.append(12, 0)
    consumer, run = Consumer(12, 12), Run(Still(), position=0, silent_until=0)
    assert worked_off(Backfill(consumer, lambda: past), run) == list(range(12))
    assert consumer.given == [12]


def test_a_place_that_has_records_in_hand_or_was_lost_waits() -> None:
    past = ShortenedHistory()
    past.append(12, 0)
    backfill, run = Backfill(Consumer(12, 12), lambda: past), Run(Still(), position=0, silent_until=0)
    backfill.begin(PLACE)
    assert backfill.batches({PLACE: run}, {PLACE}) == {}
    assert backfill.batches({}, ()) == {}
    assert PLACE in backfill
    backfill.drop([PLACE])
    assert backfill.batches({PLACE: run}, ()) == {}


def test_what_nobody_has_ends_the_process() -> None:
    run = Run(Still(), position=3, silent_until=0)
    with pytest.raises(Fatal, match="offsets 3 to 9 are gone"):
        worked_off(Backfill(Consumer(10, 20), None), run)
    past = ShortenedHistory()
    past.append(20, 0)
    past.first = 5
    with pytest.raises(Fatal, match="offsets 3 to 4 are gone"):
        worked_off(Backfill(Consumer(10, 20), lambda: past), run)
    with pytest.raises(Fatal, match="offset 3 is committed, but the log ends at 2"):
        worked_off(Backfill(Consumer(0, 2), lambda: past), run)


class Host(KafkaHost):
    """A host whose client has these messages and no others; remembers how long it waited."""

    def __init__(self, consumer: "Consumer", messages: list[Any]) -> None:
        self.settings = HostSettings("nowhere:1", "group", "one")
        self.waited = 0.0
        self._consumer: Any = consumer
        consumer.consume = lambda count, _: [messages.pop(0) for _ in messages[:count]]  # type: ignore[attr-defined]
        self._transactions: Any = SimpleNamespace(settle=lambda: None)
        self._stop: Any = SimpleNamespace(wait=self.wait)
        self._membership = Membership("b", "g", "c")
        self._carrier = None
        self._meter = MagicMock()
        self._subscribed = frozenset({TOPIC})
        self._rebuild, self._limit = False, 10
        self._runs = {PLACE: Run(Still(), position=3, silent_until=0)}
        self._backfill = Backfill(consumer, Away)
        self.ready = threading.Event()

    def wait(self, seconds: float) -> None:
        self.waited += seconds


class Away(ShortenedHistory):
    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        raise Transient("away")


class Refused:
    """What a consumer says of a partition whose next records are gone."""

    def __init__(self, partition: int) -> None:
        self.partition = lambda: partition

    def topic(self) -> str:
        return TOPIC

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._AUTO_OFFSET_RESET)


def test_a_host_does_not_spin_while_the_history_is_away() -> None:
    host = Host(Consumer(10, 20), [Refused(0)])
    for _ in range(5):
        host._turn()
    assert PLACE in host._backfill
    assert host.waited == 5 * RETRY_SECONDS


def test_a_partition_that_was_revoked_meanwhile_is_not_waited_for() -> None:
    host = Host(Consumer(10, 20), [Refused(1)])
    host._turn()
    assert not host._backfill
    assert host.waited == 0.0
