"""A host's snapshots: stored as files, announced on `S.checkpoints`, found again at the next start.

The pointer to a snapshot is written by the host in the same transaction as the offsets it belongs to, so a pointer
that a `read_committed` reader sees is never ahead of what was committed with it. Its key names the consumer group, as
scoring and monitor both keep state over one log.
"""

from collections import deque
from collections.abc import Callable

import msgspec
import structlog
from confluent_kafka import Consumer, TopicPartition

import headrace
from headrace.contracts.codec import encode
from headrace.contracts.events import Checkpoint
from headrace.contracts.topics import CHECKPOINTS, stream_of, topic
from headrace.errors import Unusable
from headrace.kafka.admin import client_settings
from headrace.processor import Outputs, Processor
from headrace.snapshots import SnapshotStore
from headrace.step import Run

log = structlog.get_logger("headrace.checkpoints")

Place = tuple[str, int]
"""(topic, partition)"""

CODE = f"headrace {headrace.__version__}"
KEPT = 3
"""Snapshots kept and tried before the log's start: the newest may be damaged."""

_decode = msgspec.json.Decoder(Checkpoint).decode


class Checkpoints:
    """The snapshots of one consumer group. `every_records` between two of a partition; 0 takes none."""

    def __init__(self, bootstrap: str, group: str, store: SnapshotStore | None, every_records: int) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._store = store if every_records else None
        self._every_records = every_records
        self._stored: dict[Place, deque[str]] = {}

    def restore(self, place: Place, make: Callable[[], Processor], committed: int) -> Run | None:
        """The run that goes on from the newest usable snapshot at or below `committed`; None if there is none."""
        if self._store is None or committed <= 0:
            return None
        for saved in self._newest_first(place, committed):
            processor = make()
            try:
                processor.restore(self._store.get(saved.digest))
            except Unusable as reason:
                log.warning("snapshot refused", topic=place[0], partition=place[1], reason=str(reason))
                continue
            self._stored.setdefault(place, deque([saved.digest]))
            return Run(processor, position=saved.offset, silent_until=committed)
        return None

    def is_due(self, run: Run, *, at_once: bool = False) -> bool:
        """Whether `run` should be stored now; `at_once` asks for any progress since the last time."""
        least = 1 if at_once else self._every_records
        return self._store is not None and not run.recovering and run.since_snapshot >= least

    def store(self, place: Place, run: Run) -> Outputs:
        """Store the state; returns the pointer, to be produced in the transaction that commits `run.position`.

        A full disk costs the snapshot, nothing else.
        """
        assert self._store is not None
        run.since_snapshot = 0
        try:
            digest, size = self._store.put(run.processor.snapshot())
        except OSError as error:
            log.warning("snapshot not stored", topic=place[0], partition=place[1], error=str(error))
            return {}
        stored = self._stored.setdefault(place, deque())
        stored.append(digest)
        while len(stored) > KEPT + 1:  # one more than is needed: the newest is not committed yet
            self._store.drop(stored.popleft())
        pointer = Checkpoint(place[1], run.position, digest, size, CODE)
        return {(_checkpoints_topic(place), place[1]): [{"key": self._key(place), "value": encode(pointer)}]}

    def _key(self, place: Place) -> bytes:
        return f"{self._group}/{place[0]}/{place[1]}".encode()

    def _newest_first(self, place: Place, at_most: int) -> list[Checkpoint]:
        where = _checkpoints_topic(place)
        found: deque[Checkpoint] = deque(maxlen=KEPT)
        consumer = Consumer(
            {
                **client_settings(self._bootstrap, f"checkpoints-{where}"),
                "group.id": "headrace.checkpoints",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,  # the broker holds an empty answer back this long, at every start
            }
        )
        try:
            consumer.assign([TopicPartition(where, place[1], 0)])
            while True:
                message = consumer.poll(10.0)
                if (
                    message is None or message.error() is not None
                ):  # the end of the partition comes as an error
                    return list(reversed(found))
                value = message.value()
                if value is None or message.key() != self._key(place):
                    continue
                saved = _decode(value)
                if saved.offset <= at_most:
                    found.append(saved)
        finally:
            consumer.close()


def _checkpoints_topic(place: Place) -> str:
    return topic(CHECKPOINTS, stream_of(place[0]))
