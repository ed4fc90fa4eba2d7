"""Topics, transactions and committed offsets in memory, with the rules of Kafka that a processor's promises stand on.

Kept: offsets rise and have holes (aborted records and the marker that ends a transaction take one each); a reader sees
committed records only and nothing beyond the first open transaction; offsets are committed with the records of their
transaction or not at all; a new transaction of a producer's name ends what an earlier life left open; who has lost a
partition to another member cannot commit for it; committed offsets cannot be read while an open transaction is about to
change them. Left out: replication, retention, compaction, time.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple
from zlib import crc32

from headrace.errors import Transient
from headrace.processor import BY_KEY, Message
from headrace.recovery import Place


class Fenced(Transient):
    """Another has taken over: a partition, or a producer's name. Duty: abort, drop what was folded, start over."""


class Record(NamedTuple):
    """One stored record."""

    offset: int
    key: bytes | None
    value: bytes | None


class _Entry(NamedTuple):
    """What stands at an offset. transaction None: written outside of any. marker: ends a transaction, no record."""

    key: bytes | None
    value: bytes | None
    transaction: "Transaction | None" = None
    marker: bool = False


class Transaction:
    """Records and offsets that become visible together, or never. Made by `MemoryBroker.begin`."""

    def __init__(self, broker: "MemoryBroker", producer: str) -> None:
        self.state: Literal["open", "committed", "aborted"] = "open"
        self.offsets: dict[tuple[str, Place], int] = {}
        """Offsets to be committed, by (group, place)."""
        self._broker = broker
        self._producer = producer
        self._touched: dict[Place, None] = {}

    def produce(self, topic: str, messages: Iterable[Message], partition: int = BY_KEY) -> None:
        """Append records that nobody sees yet. Raises `Fenced` if the transaction was ended by another life."""
        self._still_open()
        for place in self._broker.append(topic, messages, partition, self):
            self._touched[place] = None

    def commit_offset(self, group: str, place: Place, offset: int, generation: int) -> None:
        """Add an input offset. Raises `Fenced` unless `generation` is what the last `claim` of the place returned."""
        self._still_open()
        if generation != self._broker.generation(group, place):
            raise Fenced(f"{place[0]}/{place[1]} belongs to another member of {group} now")
        self.offsets[group, place] = offset

    def commit(self) -> None:
        """Make records and offsets visible at once; again does nothing. Raises `Fenced` if it was aborted."""
        if self.state != "committed":
            self._still_open()
            self._end("committed")
            self._broker.settle_offsets(self.offsets)

    def abort(self) -> None:
        """End it as if nothing had been; does nothing if it has ended already."""
        if self.state == "open":
            self._end("aborted")

    def _end(self, state: Literal["committed", "aborted"]) -> None:
        self.state = state
        self._broker.end_transaction(self._producer, self, self._touched)

    def _still_open(self) -> None:
        if self.state != "open":
            raise Fenced(f"the transaction of {self._producer} was {self.state}")


class MemoryBroker:
    """Topics as lists. Creating is explicit, as on a broker with auto-creation off."""

    def __init__(self) -> None:
        self._topics: dict[str, list[list[_Entry]]] = {}
        self._open: dict[str, Transaction] = {}
        self._committed: dict[tuple[str, Place], int] = {}
        self._generations: dict[tuple[str, Place], int] = {}

    # -- topics -----------------------------------------------------------------------------------------------------

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic unless it exists."""
        self._topics.setdefault(topic, [[] for _ in range(partitions)])

    def produce(self, topic: str, messages: Iterable[Message], partition: int = BY_KEY) -> None:
        """Append messages outside of any transaction. Raises KeyError if nobody created the topic."""
        self.append(topic, messages, partition, None)

    def append(
        self, topic: str, messages: Iterable[Message], partition: int, transaction: Transaction | None
    ) -> list[Place]:
        """Append messages; returns where each went. For `produce`, here and in `Transaction`."""
        partitions = self._topics[topic]
        places = []
        for message in messages:
            number = partition if partition != BY_KEY else crc32(message["key"] or b"") % len(partitions)
            partitions[number].append(_Entry(message["key"], message["value"], transaction))
            places.append((topic, number))
        return places

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(self._topics[topic])

    def end(self, topic: str, partition: int) -> int:
        """The offset that the next record gets."""
        return len(self._topics[topic][partition])

    def read(self, topic: str, partition: int, offset: int = 0, limit: int | None = None) -> list[Record]:
        """Committed records from `offset` on, at most `limit`, none beyond the first open transaction."""
        found: list[Record] = []
        if limit is None or limit > 0:
            for record in self._committed_from(self._topics[topic][partition], offset):
                found.append(record)
                if len(found) == limit:
                    break
        return found

    def values(self, topic: str) -> list[bytes]:
        """All committed values of a topic, partition by partition; tombstones left out."""
        runs = (self.read(topic, partition) for partition in range(self.partitions(topic)))
        return [record.value for run in runs for record in run if record.value is not None]

    def _committed_from(self, entries: list[_Entry], offset: int) -> Iterator[Record]:
        for place in range(offset, len(entries)):
            key, value, transaction, marker = entries[place]
            if transaction is None:
                yield Record(place, key, value)
            elif transaction.state == "open":
                return
            elif transaction.state == "committed" and not marker:
                yield Record(place, key, value)

    # -- transactions and groups ------------------------------------------------------------------------------------

    def begin(self, producer: str) -> Transaction:
        """A new transaction; one that an earlier life of the same name left open is aborted."""
        if producer in self._open:
            self._open[producer].abort()
        made = self._open[producer] = Transaction(self, producer)
        return made

    def is_settled(self) -> bool:
        """Whether no transaction is open."""
        return not self._open

    def time_out(self) -> None:
        """Abort every open transaction, as a broker does after `transaction.timeout.ms`."""
        for transaction in list(self._open.values()):
            transaction.abort()

    def claim(self, group: str, place: Place) -> int:
        """Give the place to whoever asks; returns the generation to commit with. Earlier ones are fenced."""
        generation = self._generations[group, place] = self.generation(group, place) + 1
        return generation

    def generation(self, group: str, place: Place) -> int:
        """How often the place was claimed."""
        return self._generations.get((group, place), 0)

    def committed(self, group: str, place: Place) -> int:
        """Offset of the next record to fold. Raises `Transient` while an open transaction is about to change it."""
        if any((group, place) in transaction.offsets for transaction in self._open.values()):
            raise Transient(f"the offset of {place[0]}/{place[1]} is being committed")
        return self._committed.get((group, place), 0)

    def settle_offsets(self, offsets: dict[tuple[str, Place], int]) -> None:
        """Keep what a transaction committed."""
        self._committed.update(offsets)

    def end_transaction(self, producer: str, transaction: Transaction, places: Iterable[Place]) -> None:
        """Write the markers that end a transaction."""
        for topic, partition in places:
            self._topics[topic][partition].append(_Entry(None, None, transaction, marker=True))
        if self._open.get(producer) is transaction:
            del self._open[producer]
