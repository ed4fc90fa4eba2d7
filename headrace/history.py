"""Reading a log again: what recovery, rebuild, time travel and what-if ask of whoever keeps it.

A history answers for one partition of one topic at a time, in order and without holes: either every record of a range
comes, or `Unusable` says which are gone. It may lie in Kafka (`headrace.kafka.history`), in memory, or in an archive
with the broker's tail behind it; who reads cannot tell.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from headrace.processor import Batch

READ_RECORDS = 5_000
"""Most records of one batch."""


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
