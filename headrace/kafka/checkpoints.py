"""A host's snapshots: stored as files, announced on `S.checkpoints`, found again at the next start.

The pointer to a snapshot is written by the host in the same transaction as the offsets it belongs to, so a pointer
that a `read_committed` reader sees is never ahead of what was committed with it. Its key names the consumer group, as
scoring and monitor both keep state over one log. Several snapshots are kept (`headrace.snapshots.thinned`): the newest
may be damaged, and time travel wants one not far below any offset.
"""

from collections.abc import Callable

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import headrace
from headrace.contracts.codec import encode
from headrace.contracts.events import Checkpoint, Snapshot
from headrace.contracts.topics import CHECKPOINTS, stream_of, topic
from headrace.errors import Transient, Unusable
from headrace.kafka.admin import LASTING, client_settings, is_fatal
from headrace.processor import Outputs, Processor
from headrace.snapshots import SnapshotStore, thinned
from headrace.step import Run

log = structlog.get_logger("headrace.checkpoints")

Place = tuple[str, int]
"""(topic, partition)"""

CODE = f"headrace {headrace.__version__}"
READ_SECONDS = 30.0

_decode = msgspec.json.Decoder(Checkpoint).decode


class Checkpoints:
    """The snapshots of one consumer group. `every_records` between two of a partition; 0 takes none."""

    def __init__(self, bootstrap: str, group: str, store: SnapshotStore | None, every_records: int) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._store = store if every_records else None
        self._every_records = every_records
        self._kept: dict[Place, list[Snapshot]] = {}

    def restore(self, place: Place, make: Callable[[], Processor], committed: int) -> Run | None:
        """The run that goes on from the newest usable snapshot at or below `committed`; None if there is none.

        Raises `Transient` if the pointers cannot be read. Files that no pointer names are removed: they belong to
        transactions that never were.
        """
        if self._store is None or committed <= 0:
            return None
        kept = [one for one in pointers(self._bootstrap, self._group, place) if one.offset <= committed]
        store = self._store.within(folder_of(self._group, place))
        store.sweep({one.digest for one in kept})
        self._kept[place] = usable = list(kept)
        for saved in reversed(kept):
            processor = make()
            try:
                processor.restore(store.get(saved.digest))
            except Unusable as reason:
                log.warning(
                    "snapshot refused",
                    topic=place[0], partition=place[1], offset=saved.offset, reason=str(reason),
                )  # fmt: skip
                usable.remove(saved)
                continue
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
        store = self._store.within(folder_of(self._group, place))
        before = self._kept.get(place, [])
        try:
            digest, size = store.put(run.processor.snapshot())
        except OSError as error:
            log.warning("snapshot not stored", topic=place[0], partition=place[1], error=str(error))
            return {}
        saved = Snapshot(run.position, digest, size, CODE, run.processor.fingerprints())
        # What was thinned out last time goes only now: until then the last committed pointer may still name it.
        store.sweep({one.digest for one in (*before, saved)})
        self._kept[place] = kept = thinned([*before, saved])
        pointer = Checkpoint(place[1], kept)
        where = (_checkpoints_topic(place), place[1])
        return {where: [{"key": _key(self._group, place), "value": encode(pointer)}]}


def pointers(bootstrap: str, group: str, place: Place) -> list[Snapshot]:
    """The snapshots that a group has announced of a partition, oldest first. Raises `Transient` if unreadable."""
    where = _checkpoints_topic(place)
    key = _key(group, place)
    latest: bytes | None = None
    consumer = Consumer(
        {
            **client_settings(bootstrap, f"checkpoints-{where}"),
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
            message = consumer.poll(READ_SECONDS)
            if message is None:
                raise Transient(f"{where}/{place[1]} was not read to its end in {READ_SECONDS:.0f} s")
            error = message.error()
            if error is None:
                if message.key() == key and message.value() is not None:
                    latest = message.value()
            elif error.code() == KafkaError._PARTITION_EOF:
                break
            elif is_fatal(error) or error.code() in LASTING:
                raise Transient(f"{where}/{place[1]}: {error.str()}") from KafkaException(error)
    finally:
        consumer.close()
    try:
        return _decode(latest).snapshots if latest is not None else []
    except msgspec.MsgspecError as error:
        log.warning("checkpoint not understood", topic=where, partition=place[1], error=str(error))
        return []


def folder_of(group: str, place: Place) -> str:
    """Where a group keeps the snapshots of a partition, below the store's folder."""
    return f"{group}/{place[0]}/{place[1]}"


def _key(group: str, place: Place) -> bytes:
    return folder_of(group, place).encode()


def _checkpoints_topic(place: Place) -> str:
    return topic(CHECKPOINTS, stream_of(place[0]))
