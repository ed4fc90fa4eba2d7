"""A digest of log records that is the same wherever they are read from, and that finds what is no longer the same.

Per partition one sha256 runs over every record: offset (8 bytes), length of the key and of the value (4 bytes each, -1
for none; all big-endian), key, value. Where the records came from, how they were batched and compressed is not in it.
On the way the digest so far is noted now and then, so that whoever reads again can say where the records begin to
differ. The notes are bounded: when there are too many, every second one goes.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from headrace.processor import Batch

FIRST_EVERY = 1_024
"""Records between two notes, to begin with."""
MOST_MARKS = 128
"""Notes of all partitions together; of each at least two."""
MARK_DIGITS = 16

_head = struct.Struct(">qii").pack


class Mark(msgspec.Struct, frozen=True):
    """The digest (its first digits) of a partition's records up to and with `offset`."""

    offset: int
    digest: str


class PartitionDigest(msgspec.Struct, frozen=True):
    """The records of a partition with start <= offset < end: how many belong, their sha256, a mark after `every`."""

    partition: int
    start: int
    end: int
    records: int
    digest: str
    every: int
    marks: list[Mark]


class Fault(NamedTuple):
    """Where records are not those that were measured: somewhere in offsets first <= offset <= last."""

    partition: int
    first: int
    last: int


def whole(parts: Iterable[PartitionDigest]) -> str:
    """sha256 over a line `PARTITION:DIGEST` for each partition, in order, of which a record belongs."""
    lines = sorted((part.partition, part.digest) for part in parts if part.records)
    return hashlib.sha256("".join(f"{number}:{digest}\n" for number, digest in lines).encode()).hexdigest()


def most_marks(partitions: int) -> int:
    """Notes that each of so many partitions may have."""
    return max(2, MOST_MARKS // max(partitions, 1))


class RecordDigest:
    """Digest of one partition's records, given in order. most: its marks at most; None as many as there are."""

    def __init__(self, every: int = FIRST_EVERY, most: int | None = None) -> None:
        self.every = every
        self.records = 0
        self.marks: list[Mark] = []
        self._most = most
        self._hash = hashlib.sha256()

    def update(self, batch: Batch) -> None:
        """The next records."""
        start, count = 0, len(batch.offsets)
        while start < count:
            stop = min(count, start + self.every - self.records % self.every)
            part = slice(start, stop)
            self._hash.update(_encoded(batch.offsets[part], batch.keys[part], batch.values[part]))
            self.records += stop - start
            start = stop
            if self.records % self.every == 0:
                self._mark(batch.offsets[stop - 1])

    def part(self, partition: int, start: int, end: int) -> PartitionDigest:
        """What came of a partition's range."""
        return PartitionDigest(
            partition, start, end, self.records, self._hash.hexdigest(), self.every, list(self.marks)
        )

    def _mark(self, offset: int) -> None:
        self.marks.append(Mark(offset, self._hash.hexdigest()[:MARK_DIGITS]))
        if self._most is not None and len(self.marks) > self._most:
            self.marks = self.marks[1::2]
            self.every *= 2


def compare(measured: PartitionDigest, batches: Iterable[Batch]) -> Fault | None:
    """Hold records that were read again against what was measured; None if they are the same.

    Reads no further than to the first mark that differs.
    """
    again = RecordDigest(measured.every)
    held = 0
    for batch in batches:
        again.update(batch)
        for found in again.marks[held:]:
            if held >= len(measured.marks) or found != measured.marks[held]:
                return _fault(measured, held)
            held += 1
    return None if again.part(0, 0, 0).digest == measured.digest else _fault(measured, held)


def _fault(measured: PartitionDigest, held: int) -> Fault:
    """Behind the last mark that is held, up to the one after it."""
    marks = measured.marks
    first = marks[held - 1].offset + 1 if held else measured.start
    last = marks[held].offset if held < len(marks) else measured.end - 1
    return Fault(measured.partition, first, last)


def _encoded(offsets: Iterable[int], keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> bytes:
    parts: list[bytes] = []
    for offset, key, value in zip(offsets, keys, values, strict=True):
        parts += (
            _head(offset, -1 if key is None else len(key), -1 if value is None else len(value)),
            key or b"",
            value or b"",
        )
    return b"".join(parts)
