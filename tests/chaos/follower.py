"""Readers of committed records: one that reads all the while, and one that reads everything afterwards.

Plain confluent_kafka. The one that reads meanwhile is a client like any other, so the faults of the broker and of its
port hit it too; librdkafka mends that by itself, and what it delivers must nevertheless be what a later reader sees.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

Place = tuple[str, int]
"""(topic, partition)"""


class Record(NamedTuple):
    """A committed record. written: when its producer made it, seen: when it was read, seconds since 1970."""

    offset: int
    key: bytes | None
    value: bytes | None
    written: float
    seen: float


Logs = dict[Place, list[Record]]


class Quiet:
    """Where librdkafka's own lines go."""

    def log(self, *_: Any) -> None:
        """Torn connections are expected here."""


def _consumer(bootstrap: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "client.id": "checker",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "socket.timeout.ms": 10_000,
            "log.connection.close": False,
            "logger": Quiet(),
        }
    )


def places(bootstrap: str, topics: Sequence[str]) -> list[Place]:
    """All partitions of the topics."""
    reader = _consumer(bootstrap, "chaos-places")
    try:
        known = reader.list_topics(timeout=20).topics
        return [(name, number) for name in topics for number in sorted(known[name].partitions)]
    finally:
        reader.close()


class Follower:
    """Reads from the start, on a thread, until stopped."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        self.logs: Logs = {place: [] for place in places(bootstrap, topics)}
        self._bootstrap = bootstrap
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def ends(self, topic: str) -> dict[int, int]:
        """For each partition the offset after the last record read."""
        return {
            partition: (records[-1].offset + 1 if records else 0)
            for (name, partition), records in self.logs.items()
            if name == topic
        }

    def stop(self) -> Logs:
        """End; returns everything read."""
        self._stopping.set()
        self._thread.join(20)
        return self.logs

    def _run(self) -> None:
        reader = _consumer(self._bootstrap, "chaos-follower")
        reader.assign([TopicPartition(*place, 0) for place in self.logs])
        while not self._stopping.is_set():
            _take(reader, self.logs, 0.1)
        reader.close()


def read_all(bootstrap: str, topics: Sequence[str], timeout_seconds: float = 60.0) -> Logs:
    """Everything that is committed now. Raises TimeoutError if the end is not reached in time."""
    logs: Logs = {place: [] for place in places(bootstrap, topics)}
    reader = _consumer(bootstrap, "chaos-after")
    try:
        reader.assign([TopicPartition(*place, 0) for place in logs])
        open_places = set(logs)
        deadline = time.monotonic() + timeout_seconds
        while open_places:
            open_places -= _take(reader, logs, 0.2)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{open_places} were not read to their ends in {timeout_seconds} s")
        return logs
    finally:
        reader.close()


def committed(bootstrap: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """What a consumer group has committed, by partition; -1 while the broker cannot say or nothing was."""
    reader = _consumer(bootstrap, group)
    try:
        asked = [TopicPartition(topic, number) for number in range(partitions)]
        return {found.partition: found.offset for found in reader.committed(asked, timeout=10)}
    except KafkaException:
        return dict.fromkeys(range(partitions), -1)
    finally:
        reader.close()


def _take(reader: Consumer, logs: Logs, seconds: float) -> set[Place]:
    """Sort what comes into its partition; returns the partitions whose end was reached."""
    batch = reader.consume(2000, seconds)
    now = time.time()
    fresh: dict[Place, list[Record]] = defaultdict(list)
    ended: set[Place] = set()
    for message in batch:
        place, error = (message.topic(), message.partition()), message.error()
        if error is None:
            written = message.timestamp()[1] / 1000
            fresh[place].append(Record(message.offset(), message.key(), message.value(), written, now))
        elif error.code() == KafkaError._PARTITION_EOF:
            ended.add(place)
    for place, records in fresh.items():
        logs[place].extend(records)
    return ended
