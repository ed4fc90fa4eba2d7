"""Runs processors over a `MemoryBroker` as the Kafka host runs them over Kafka: fold, produce, commit, all or nothing.

A step folds one batch of one partition and commits its outputs, its offset and the pointer to a snapshot in one
transaction. At named points of a step a test may make the process die (`Crash`), the transaction fail (`Transient`), or
anything else happen, such as another host taking the partition over. Where a start goes on from is decided by
`headrace.recovery`, as on Kafka.
"""

import hashlib
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

import msgspec

from headrace import signing
from headrace.contracts.events import Checkpoint, Snapshot
from headrace.errors import Transient, Unusable
from headrace.memory.broker import MemoryBroker, Transaction
from headrace.memory.history import batch_of
from headrace.processor import Outputs, Processor
from headrace.recovery import Checkpoints, Place, checkpoints_topic, folder_of
from headrace.signatures import LEAST_SECRET_BYTES
from headrace.snapshots import opened
from headrace.step import Run

POINTS = ("before_fold", "after_fold", "after_outputs", "after_snapshot", "before_commit", "after_commit")
"""Where a step can be disturbed, in order. after_snapshot: the state is stored, its pointer is not committed (only in
steps that take one). after_commit: it happened, and nobody has been told."""

_decode = msgspec.json.Decoder(Checkpoint).decode
_KEYS = signing.Keys(bytes(LEAST_SECRET_BYTES))


class Crash(Exception):
    """Raised at a point of a step: the process dies there. Whatever it had in memory is gone."""


class MemorySnapshots:
    """A `SnapshotStore` without a disk: signed states in `blobs`, by folder and digest."""

    def __init__(
        self,
        keys: signing.Keys = _KEYS,
        blobs: dict[str, bytes] | None = None,
        folder: str = "",
    ) -> None:
        self.blobs = {} if blobs is None else blobs
        self._keys = keys
        self._folder = folder

    def within(self, name: str) -> "MemorySnapshots":
        """The store in a folder below this one."""
        return MemorySnapshots(self._keys, self.blobs, f"{self._folder}{name}/")

    def put(self, state: bytes) -> tuple[str, int]:
        """Store a state; returns (digest, size in bytes)."""
        blob = signing.sign(self._keys, state)
        digest = hashlib.sha256(blob).hexdigest()
        self.blobs[self._folder + digest] = blob
        return digest, len(blob)

    def get(self, digest: str) -> bytes:
        """The state. Raises `Unusable` if it is missing, damaged, or not by a trusted key."""
        blob = self.blobs.get(self._folder + digest)
        if blob is None:
            raise Unusable(f"snapshot {digest[:12]} is missing")
        return opened(self._keys, digest, blob)

    def sweep(self, wanted: AbstractSet[str]) -> None:
        """Remove every state of this folder that is not wanted."""
        here = [name for name in self.blobs if name.startswith(self._folder)]
        for name in here:
            if name.removeprefix(self._folder) not in wanted:
                del self.blobs[name]


class MemoryHost:
    """Runs one processor per partition of `topics`, exactly once.

    batch_records: most records a step takes from one partition. snapshot_records: records between snapshots, 0 = none;
    their pointers go to `S.checkpoints`, which is made if nobody did. group: whose offsets these are. instance: this
    host among those that share the group. stateless: a start relives nothing.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        factory: Callable[[str, int], Processor],
        topics: Iterable[str],
        *,
        batch_records: int = 100,
        snapshot_records: int = 0,
        group: str = "memory",
        instance: str = "0",
        snapshots: MemorySnapshots | None = None,
        stateless: bool = False,
    ) -> None:
        self._broker = broker
        self._factory = factory
        self._topics = tuple(topics)
        if snapshot_records:
            for name in self._topics:
                broker.create(checkpoints_topic((name, 0)), broker.partitions(name))
        self._batch_records = batch_records
        self._group = group
        self._producer = f"{group}-{instance}"
        self._checkpoints = Checkpoints(
            group,
            MemorySnapshots() if snapshots is None else snapshots,
            snapshot_records,
            self._pointers,
        )
        self._stateless = stateless
        self._generations: dict[Place, int] = {}
        self._started = False
        self.runs: dict[Place, Run] = {}
        self.at: Callable[[str, Place], None] = lambda _point, _place: None
        """Called with each of `POINTS` that a step passes, and the place."""

    # -- steps ------------------------------------------------------------------------------------------------------

    def step(self, topic: str, partition: int, *, crash: bool = False, limit: int | None = None) -> int:
        """Fold one batch of one partition and commit it; returns how many records it had.

        0 also if the step came to nothing: the process died or the transaction failed, and the same records will be
        delivered again. With `crash` it dies after folding. limit: most records, if fewer than `batch_records`.
        """
        place = (topic, partition)
        try:
            return self._step(place, min(limit or self._batch_records, self._batch_records), crash)
        except Crash:
            self.crash()
        except Transient:
            self.runs.pop(place, None)
        return 0

    def _step(self, place: Place, limit: int, crash: bool) -> int:
        if not self._started:
            self._broker.begin(self._producer).abort()  # ends what an earlier life left open
            self._started = True
        run = self.runs.get(place)
        if run is None:
            run = self.runs[place] = self._recover(place)
        records = self._broker.read(*place, run.position, limit)
        if not records:
            return 0
        self.at("before_fold", place)
        outputs = run.feed(batch_of(*place, records))
        self.at("after_fold", place)
        if crash:
            raise Crash
        if run.position > run.silent_until:
            self._commit(place, run, outputs)
        return len(records)

    def _commit(self, place: Place, run: Run, outputs: Outputs) -> None:
        transaction = self._broker.begin(self._producer)
        try:
            _produce(transaction, outputs)
            self.at("after_outputs", place)
            if self._checkpoints.is_due(run):
                pointer = self._checkpoints.store(place, run)
                self.at("after_snapshot", place)
                _produce(transaction, pointer)
            transaction.commit_offset(self._group, place, run.position, self._generations[place])
            self.at("before_commit", place)
            transaction.commit()
            self.at("after_commit", place)
        except Transient:
            transaction.abort()
            raise
        run.silent_until = run.position

    def run_until_idle(self) -> int:
        """Step over all partitions in turn until nothing is left; returns how many records were folded."""
        total = 0
        while True:
            moved = sum(
                self.step(topic, partition)
                for topic in self._topics
                for partition in range(self._broker.partitions(topic))
            )
            total += moved
            if not moved:
                return total

    def crash(self) -> None:
        """Lose every processor, as a killed process would; its open transaction stays until the next step's start."""
        self.runs.clear()
        self._started = False

    # -- recovery ---------------------------------------------------------------------------------------------------

    def _recover(self, place: Place) -> Run:
        """The run that goes on from what is committed."""
        self._generations[place] = self._broker.claim(self._group, place)
        committed = self._broker.committed(self._group, place)
        restored = self._checkpoints.restore(place, lambda: self._factory(*place), committed)
        if restored is not None:
            return restored
        start = committed if self._stateless else 0
        return Run(self._factory(*place), position=start, silent_until=committed)

    def _pointers(self, place: Place) -> list[Snapshot]:
        key = folder_of(self._group, place).encode()
        announced = [
            record for record in self._broker.read(checkpoints_topic(place), place[1]) if record.key == key
        ]
        return _decode(announced[-1].value or b"").snapshots if announced else []


def _produce(transaction: Transaction, outputs: Outputs) -> None:
    for (name, partition), messages in outputs.items():
        transaction.produce(name, messages, partition)
