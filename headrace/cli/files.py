"""Rows of a file that nobody prepared: CSV, JSON lines or Parquet, plain or gzipped, one dict a row.

A missing value is an absent key. CSV gives text (the contract turns it into types), the others give values. Files are
read as they are sent, never whole, so their size does not matter.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from headrace.errors import Unusable

Row = dict[str, Any]
Form = Literal["csv", "jsonl", "parquet"]

SUFFIXES: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SNIFFED_BYTES = 64 * 1024
COUNTED_BYTES = 1024 * 1024
FIELD_LIMIT = 1024 * 1024


def form_of(path: Path) -> Form:
    """How the file is written, by its name. Raises `Unusable` naming what can be read."""
    suffix = (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()
    if suffix not in SUFFIXES:
        raise Unusable(
            f"{path.name}: cannot tell what it is; name it {', '.join(SUFFIXES)} (or one of them + .gz)"
        )
    return SUFFIXES[suffix]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows in order. Raises `Unusable` for a file that is not there or not what its name says."""
    form = form_of(path)
    try:
        if form == "parquet":
            yield from _parquet(path)
        else:
            with _opened(path) as file:
                yield from _csv(path, file) if form == "csv" else _jsonl(path, file)
    except (OSError, EOFError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None


def columns_of(path: Path) -> list[str]:
    """The column names: of a CSV's header, of Parquet's schema, of the first JSON line. May be empty."""
    if form_of(path) == "parquet":
        return list(_parquet_file(path).schema_arrow.names)
    if form_of(path) == "csv":
        try:
            with _opened(path) as file:
                return _header(path, file)[0]
        except (OSError, EOFError) as error:
            raise Unusable(f"{path} cannot be read: {error}") from None
    return list(next(read_rows(path), {}))


def count_rows(path: Path) -> int:
    """About how many rows there are (never fewer; a line break inside quotes counts too)."""
    if form_of(path) == "parquet":
        return int(_parquet_file(path).metadata.num_rows)
    lines = 0
    try:
        with _opened(path) as file:
            while chunk := file.read(COUNTED_BYTES):
                lines += chunk.count(b"\n")
    except (OSError, EOFError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None
    return lines + 1


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as raw:
        if path.suffix == ".gz":
            with gzip.open(raw) as file:
                yield cast(BinaryIO, file)
        else:
            yield raw


def _header(path: Path, file: BinaryIO) -> tuple[list[str], "Iterator[list[str]]"]:
    csv.field_size_limit(FIELD_LIMIT)
    start = file.read(SNIFFED_BYTES)
    file.seek(0)
    first = start.split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    # Counting in the header is steadier than csv.Sniffer, which guesses from the data and is wrong on short columns.
    delimiter = max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
    text = io.TextIOWrapper(cast(io.BufferedReader, file), encoding="utf-8-sig", errors="replace", newline="")
    rows = csv.reader(text, delimiter=delimiter)
    names = [name.strip() for name in next(rows, [])]
    if not names or all(not name for name in names):
        raise Unusable(f"{path.name}: the first line must name the columns")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise Unusable(f"{path.name}: columns named twice: {', '.join(twice)}")
    return names, rows


def _csv(path: Path, file: BinaryIO) -> Iterator[Row]:
    names, rows = _header(path, file)
    try:
        for row in rows:
            if row:
                # A short line misses its last values; what is beyond the header has no name and cannot be used.
                yield {name: value for name, value in zip(names, row, strict=False) if name and value != ""}
    except csv.Error as error:
        raise Unusable(f"{path.name}: not a CSV: {error}") from None


def _jsonl(path: Path, file: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unusable(f"{path.name}: line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise Unusable(f"{path.name}: line {number} is not a JSON object")
        yield {name: value for name, value in row.items() if value is not None}


def _parquet(path: Path) -> Iterator[Row]:
    for batch in _parquet_file(path).iter_batches(batch_size=4_096):
        for row in batch.to_pylist():
            yield {name: _plain(value) for name, value in row.items() if value is not None}


def _parquet_file(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise Unusable("reading Parquet needs pyarrow; run: pip install 'headrace[files]'") from None
    import pyarrow

    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise Unusable(f"{path} cannot be read as Parquet: {error}") from None


def _plain(value: Any) -> Any:
    """What JSON has no word for: times become RFC 3339 text, decimals numbers, bytes text."""
    if isinstance(value, datetime | date):
        text = value.isoformat()
        return text if not isinstance(value, datetime) or value.tzinfo else f"{text}Z"
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value
