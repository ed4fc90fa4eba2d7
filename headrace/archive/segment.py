"""Records as Parquet and back: columns `offset`, `key`, `value`, compressed with zstd.

Bytes go in and come out unchanged (nothing is parsed), so a log replayed from here folds as it did from Kafka. Row
groups have a fixed size, so equal records give equal bytes however they were read, and a segment that is written again
after a crash is the same object. The writer keeps one row group of Python objects; the rest is compressed already.
"""

import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

from headrace.archive.chain import Entry, Segment, digest_of
from headrace.errors import Unusable
from headrace.history import READ_RECORDS

ROW_GROUP_RECORDS = 20_000
"""Large enough to compress well, small enough to be held as Python objects."""
ROW_GROUP_BYTES = 8 * 1024 * 1024
"""A row group of large records ends earlier."""
MISSING = "the archive needs the packages obstore and pyarrow: pip install 'headrace[archive]'"

Columns = tuple[Sequence[int], Sequence[bytes | None], Sequence[bytes | None]]
"""offsets, keys, values"""


def arrow() -> tuple[ModuleType, ModuleType]:
    """The modules pyarrow and pyarrow.parquet. Raises `Unusable` if they are not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise Unusable(MISSING) from None
    return pa, parquet


class SegmentWriter:
    """Takes records in rising order of offsets, gives a `Segment`. Full at `most_records` or `most_bytes` (raw)."""

    def __init__(self, most_records: int, most_bytes: int) -> None:
        self._pa, parquet = arrow()
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._sink = io.BytesIO()
        self._schema = self._pa.schema(
            [
                self._pa.field("offset", self._pa.int64(), nullable=False),
                self._pa.field("key", self._pa.binary()),
                self._pa.field("value", self._pa.binary()),
            ]
        )
        self._parquet: Any = parquet.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=["key"],
            column_encoding={"offset": "DELTA_BINARY_PACKED"},
            write_statistics=["offset"],
        )
        self._rows: list[tuple[int, bytes | None, bytes | None]] = []
        self._rows_bytes = 0
        self._last = -1
        self.records = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether the segment should be finished."""
        return self.records >= self._most_records or self.bytes >= self._most_bytes

    def add(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """One record. Raises `Unusable` if offsets do not rise: whoever reads the log is broken."""
        if offset <= self._last:
            raise Unusable(f"the log was read out of order: offset {offset} after {self._last}")
        self._last = offset
        size = len(key or b"") + len(value or b"")
        self._rows.append((offset, key, value))
        self._rows_bytes += size
        self.records += 1
        self.bytes += size
        if len(self._rows) >= ROW_GROUP_RECORDS or self._rows_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self, first: int, end: int) -> Segment:
        """The segment that holds what was committed from `first` up to before `end`; the writer is used up."""
        self._flush()
        self._parquet.close()
        data = self._sink.getvalue()
        return Segment(first, end, self.records, data, digest_of(data))

    def _flush(self) -> None:
        if not self._rows:
            return
        pa = self._pa
        offsets, keys, values = zip(*self._rows, strict=True)
        columns = [
            pa.array(offsets, pa.int64()),
            pa.array(keys, pa.binary()),
            pa.array(values, pa.binary()),
        ]
        self._parquet.write_table(pa.table(columns, schema=self._schema), row_group_size=len(self._rows))
        self._rows.clear()
        self._rows_bytes = 0


def read_segment(where: str, data: bytes, entry: Entry) -> Iterator[Columns]:
    """The records of a segment in portions of at most `READ_RECORDS`.

    Raises `Unusable` naming `where` if it is not what `entry` says: other bytes, other records, or no segment at all.
    """
    if digest_of(data) != entry.segment:
        raise Unusable(
            f"archive segment {where} is damaged: its bytes have another digest than its entry says"
        )
    pa, parquet = arrow()
    found, last = 0, entry.first - 1
    try:
        file: Any = parquet.ParquetFile(pa.BufferReader(data))
        for portion in file.iter_batches(READ_RECORDS, columns=["offset", "key", "value"]):
            offsets, keys, values = (column.to_pylist() for column in portion.columns)
            if offsets[0] <= last or any(after <= before for before, after in pairwise(offsets)):
                raise Unusable(f"archive segment {where} is damaged: its offsets do not rise")
            found, last = found + len(offsets), offsets[-1]
            yield offsets, keys, values
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unusable(f"archive segment {where} cannot be read as Parquet: {error}") from None
    if found != entry.records or last >= entry.end:
        raise Unusable(
            f"archive segment {where} is damaged: {found} records up to offset {last}, "
            f"not {entry.records} below {entry.end}"
        )
