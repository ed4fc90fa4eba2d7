"""Kafka's rules in one process: topics, partitions, offsets, transactions, redelivery, crashes. For tests and examples.

`MemoryHost` runs the same processors as the Kafka host and keeps the same promises, with nothing outside Python: a
crash drops every processor and whatever was not committed, and the next step recovers from snapshots and the log.
Time is virtual: nothing here reads a clock.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from zlib import crc32

from headrace.history import READ_RECORDS, Bounds
from headrace.processor import BY_KEY, Batch, Message, Outputs, Processor
from headrace.step import Run


class Record(NamedTuple):
    """One stored record; its offset is its place in the partition."""

    key: bytes | None
    value: bytes | None


class MemoryBroker:
    """Topics as lists. Creating is explicit, as on a broker with auto-creation off."""

    def __init__(self) -> None:
        self._topics: dict[str, list[list[Record]]] = {}

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic unless it exists."""
        self._topics.setdefault(topic, [[] for _ in range(partitions)])

    def produce(self, topic: str, messages: Iterable[Message], partition: int = BY_KEY) -> None:
        """Append messages. Raises KeyError if nobody created the topic."""
        partitions = self._topics[topic]
        for message in messages:
            place = partition if partition != BY_KEY else crc32(message["key"] or b"") % len(partitions)
            partitions[place].append(Record(message["key"], message["value"]))

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(self._topics[topic])

    def read(self, topic: str, partition: int, offset: int = 0, limit: int | None = None) -> list[Record]:
        """Records from `offset` on, at most `limit`."""
        end = None if limit is None else offset + limit
        return self._topics[topic][partition][offset:end]

    def values(self, topic: str) -> list[bytes]:
        """All values of a topic, partition by partition; tombstones left out."""
        return [record.value for run in self._topics[topic] for record in run if record.value is not None]


class MemoryHistory:
    """`headrace.history.History` over a memory broker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""
        return self._broker.partitions(topic)

    def bounds(self, topic: str, partition: int) -> Bounds:
        """Everything is kept."""
        return Bounds(0, len(self._broker.read(topic, partition)))

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        """See the protocol."""
        while records := self._broker.read(topic, partition, start, min(READ_RECORDS, end - start)):
            yield batch_of(topic, partition, start, records)
            start += len(records)
            if start >= end:
                return


def batch_of(topic: str, partition: int, start: int, records: list[Record]) -> Batch:
    """Stored records as a batch; `start`: offset of the first."""
    return Batch(
        topic,
        partition,
        range(start, start + len(records)),
        [record.key for record in records],
        [record.value for record in records],
    )


class MemoryHost:
    """Runs one processor per partition of `topics`, exactly once.

    batch_records: most records a step takes from one partition. snapshot_records: records between snapshots, 0 = none.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        factory: Callable[[str, int], Processor],
        topics: Iterable[str],
        *,
        batch_records: int = 100,
        snapshot_records: int = 0,
    ) -> None:
        self._broker = broker
        self._factory = factory
        self._topics = tuple(topics)
        self._batch_records = batch_records
        self._snapshot_records = snapshot_records
        self._committed: dict[tuple[str, int], int] = {}
        self._snapshots: dict[tuple[str, int], tuple[int, bytes]] = {}
        self.runs: dict[tuple[str, int], Run] = {}

    def step(self, topic: str, partition: int, *, crash: bool = False) -> int:
        """Fold one batch of one partition and commit it; returns how many records it had.

        With `crash` the host dies after folding and before committing: outputs vanish, state is dropped, and the same
        records are delivered again.
        """
        place = (topic, partition)
        run = self.runs.get(place)
        if run is None:
            run = self.runs[place] = self._recover(place)
        records = self._broker.read(topic, partition, run.position, self._batch_records)
        if not records:
            return 0
        outputs = run.feed(batch_of(topic, partition, run.position, records))
        if crash:
            self.crash()
            return len(records)
        self._commit(place, run, outputs)
        return len(records)

    def _commit(self, place: tuple[str, int], run: Run, outputs: Outputs) -> None:
        for (name, partition), messages in outputs.items():
            self._broker.produce(name, messages, partition)
        self._committed[place] = max(run.position, self._committed.get(place, 0))
        if self._snapshot_records and run.since_snapshot >= self._snapshot_records:
            self._snapshots[place] = (run.position, run.processor.snapshot())
            run.since_snapshot = 0

    def _recover(self, place: tuple[str, int]) -> Run:
        processor = self._factory(*place)
        position, state = self._snapshots.get(place, (0, b""))
        if state:
            processor.restore(state)
        return Run(processor, position=position, silent_until=self._committed.get(place, 0))

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
        """Lose every processor, as a killed process would."""
        self.runs.clear()
