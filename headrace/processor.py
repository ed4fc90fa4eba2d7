"""The Processor protocol: what a host runs and a service writes.

A processor is pure state over one partition of one topic: a batch of records in, messages out, nothing else. Hosts
(`headrace.kafka.host`, `headrace.memory`) own offsets, transactions, redelivery and time; because a processor knows
none of these, the same object runs live, in recovery, in replay and in tests. Batches are columns (struct of arrays),
as building one object per record costs as much as a light model's prediction.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypedDict

BY_KEY = -1
"""Partition of an output that the host chooses by hashing the key (murmur2, as Java clients do)."""


class Message(TypedDict):
    """One record to be produced; `key` None spreads over partitions, `value` None is a tombstone."""

    key: bytes | None
    value: bytes | None


class Batch(NamedTuple):
    """Consecutive records of one partition, oldest first; all columns have the same length.

    Offsets rise but need not be dense (transaction markers take offsets too).
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]


Outputs = dict[tuple[str, int], list[Message]]
"""Messages by (topic, partition); partition `BY_KEY` lets the host choose by key."""


class Processor(Protocol):
    """State over one partition. Deterministic: outputs depend on the records so far, never on batch borders."""

    def process(self, batch: Batch) -> Outputs:
        """Fold the batch and return what to emit, in order.

        Never raises for bad records (it emits rejects); any exception means the batch was not folded and the
        host must rebuild the processor before it goes on.
        """
        ...

    def snapshot(self) -> bytes:
        """The whole state as bytes, such that `restore` then gives a processor that continues identically."""
        ...

    def restore(self, state: bytes) -> None:
        """Become the processor that wrote `state`. Raises `Unusable` if it is damaged or from other code."""
        ...

    def fingerprints(self) -> dict[str, str]:
        """Digests of what a rebuild from the log must arrive at, by name; empty if there is nothing to compare.

        Kept with every snapshot. Equal states give equal digests in any process, whatever batches led there.
        """
        ...
