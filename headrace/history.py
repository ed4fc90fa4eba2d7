"""Reading a log again: what recovery, rebuild, time travel and what-if ask of whoever keeps it.

A history answers for one partition of one topic at a time, in order and without holes: either every record of a range
comes, or `Unusable` says which are gone. It may lie in Kafka (`headrace.kafka.history`), in memory, or in an archive
with the broker's tail behind it; who reads cannot tell.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from headrace.processor import Batch

READ_RECORDS = 5_000
"""Most records of one batch."""
CHUNK_OFFSETS = 256
"""Offsets folded at a time, as live: what is made for them stays in the processor's cache. A chunk begins at a
multiple of this, whatever batches come: sums of floats depend on the order of their terms, and reports on nothing but
the log."""

Chunk = tuple[Sequence[int], Sequence[bytes | None]]
"""Offsets and values."""


class Bounds(NamedTuple):
    """Offsets of a partition: `first` is the oldest that can be read, `end` is after the last committed one."""

    first: int
    end: int


class History(Protocol):
    """What a log holds and held. Raises `Transient` while its keeper is away."""

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""
        ...

    def bounds(self, topic: str, partition: int) -> Bounds:
        """What can be read now."""
        ...

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        """Every record with start <= offset < end, oldest first, in batches of at most `READ_RECORDS`.

        Ends early if the log does. Raises `Unusable` if records from `start` on are gone.
        """
        ...


def gone(topic: str, partition: int, start: int, first: int) -> str:
    """What to say when records are no longer there."""
    return (
        f"{topic}/{partition}: offsets {start} to {first - 1} are gone from Kafka and not in an archive; "
        f"the log can be read from {first} on"
    )


def chunks(batches: Iterable[Batch]) -> Iterator[Chunk]:
    """The records of batches, cut at multiples of `CHUNK_OFFSETS` and nowhere else."""
    offsets: list[int] = []
    values: list[bytes | None] = []
    for batch in batches:
        offsets += batch.offsets
        values += batch.values
        while offsets and offsets[-1] // CHUNK_OFFSETS > offsets[0] // CHUNK_OFFSETS:
            cut = bisect_left(offsets, (offsets[0] // CHUNK_OFFSETS + 1) * CHUNK_OFFSETS)
            yield offsets[:cut], values[:cut]
            offsets, values = offsets[cut:], values[cut:]
    if offsets:
        yield offsets, values
