"""Where a partition's run goes on from: the newest usable snapshot below what is committed, else the log's start.

Both hosts use this, so that a crash ends the same way in memory and on Kafka; they differ in where pointers are read.
The pointer to a snapshot is written by the host in the same transaction as the offsets it belongs to, so a pointer
that a `read_committed` reader sees is never ahead of what was committed with it. Its key names the consumer group, as
scoring and monitor both keep state over one log. Several snapshots are kept (`headrace.snapshots.thinned`): the newest
may be damaged, and time travel wants one not far below any offset.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Protocol, Self

import structlog

import headrace
from headrace.contracts.codec import encode
from headrace.contracts.events import Checkpoint, Snapshot
from headrace.contracts.topics import CHECKPOINTS, stream_of, topic
from headrace.errors import Unusable
from headrace.processor import Outputs, Processor
from headrace.snapshots import thinned
from headrace.step import Run

log = structlog.get_logger("headrace.checkpoints")

Place = tuple[str, int]
"""(topic, partition)"""

CODE = f"headrace {headrace.__version__}"


class Store(Protocol):
    """What is needed of `headrace.snapshots.SnapshotStore`."""

    def within(self, name: str) -> Self: ...
    def put(self, state: bytes) -> tuple[str, int]: ...
    def get(self, digest: str) -> bytes: ...
    def sweep(self, wanted: AbstractSet[str]) -> None: ...


class Checkpoints:
    """The snapshots of one consumer group. `every_records` between two of a partition; 0 takes none.

    pointers: reads what the group has announced of a partition, oldest first; may raise `Transient`.
    """

    def __init__(
        self, group: str, store: Store | None, every_records: int, pointers: Callable[[Place], list[Snapshot]]
    ) -> None:
        self._group = group
        self._store = store if every_records else None
        self._every_records = every_records
        self._pointers = pointers
        self._kept: dict[Place, list[Snapshot]] = {}

    def restore(self, place: Place, make: Callable[[], Processor], committed: int) -> Run | None:
        """The run that goes on from the newest usable snapshot at or below `committed`; None if there is none.

        Raises `Transient` if the pointers cannot be read. Files that no pointer names are removed: they belong to
        transactions that never were.
        """
        self._kept.pop(
            place, None
        )  # what was stored for a transaction that never was is not ours to announce
        if self._store is None or committed <= 0:
            return None
        kept = [one for one in self._pointers(place) if one.offset <= committed]
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
        where = (checkpoints_topic(place), place[1])
        return {where: [{"key": folder_of(self._group, place).encode(), "value": encode(pointer)}]}


def folder_of(group: str, place: Place) -> str:
    """Where a group keeps the snapshots of a partition, below the store's folder; also the key of its pointers."""
    return f"{group}/{place[0]}/{place[1]}"


def checkpoints_topic(place: Place) -> str:
    """The topic that holds the pointers to a partition's snapshots."""
    return topic(CHECKPOINTS, stream_of(place[0]))
