"""A memory broker's log, read again as rebuild, time travel and what-if read it."""

from collections.abc import Iterator, Sequence

from headrace.history import READ_RECORDS, Bounds
from headrace.memory.broker import MemoryBroker, Record
from headrace.processor import Batch


class MemoryHistory:
    """`headrace.history.History` over a memory broker, which keeps everything."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""
        return self._broker.partitions(topic)

    def bounds(self, topic: str, partition: int) -> Bounds:
        """From the first record to the last that is committed."""
        records = self._broker.read(topic, partition)
        return Bounds(0, records[-1].offset + 1 if records else 0)

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        """See the protocol."""
        while records := self._broker.read(topic, partition, start, READ_RECORDS):
            wanted = [record for record in records if record.offset < end]
            if wanted:
                yield batch_of(topic, partition, wanted)
            if len(wanted) < len(records):
                return
            start = records[-1].offset + 1


def batch_of(topic: str, partition: int, records: Sequence[Record]) -> Batch:
    """Stored records, one at least, as a batch."""
    offsets, keys, values = zip(*records, strict=True)
    return Batch(topic, partition, offsets, keys, values)
