"""The digest of records: the same however they are read, another if anything is, and it says where."""

import hashlib
import struct
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.datasets.digest import Fault, Mark, PartitionDigest, RecordDigest, compare, most_marks, whole
from headrace.processor import Batch

Record = tuple[int, bytes | None, bytes | None]
texts = st.none() | st.binary(max_size=3)
logs = st.lists(st.tuples(st.integers(1, 3), texts, texts), max_size=60).map(
    lambda rows: [
        (sum(step for step, _, _ in rows[: n + 1]), key, value) for n, (_, key, value) in enumerate(rows)
    ]
)


def batches(records: list[Record], sizes: list[int]) -> list[Batch]:
    """The records in batches of these sizes, over and over."""
    made, place, turn = [], 0, 0
    while place < len(records):
        part = records[place : place + sizes[turn % len(sizes)]]
        made.append(Batch("s.log", 0, *zip(*part, strict=True)))
        place += len(part)
        turn += 1
    return made


def digest(records: list[Record], sizes: list[int] | None = None, **settings: Any) -> PartitionDigest:
    running = RecordDigest(**settings)
    for batch in batches(records, sizes or [7]):
        running.update(batch)
    return running.part(0, 0, 200)


@given(logs, st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 5), st.integers(2, 6))
def test_it_does_not_depend_on_batches(
    records: list[Record], sizes: list[int], every: int, most: int
) -> None:
    found = digest(records, sizes, every=every, most=most)
    assert found == digest(records, [1], every=every, most=most)
    assert len(found.marks) <= most
    assert found.records == len(records)
    # A mark stands after every so many records, and says what the digest was there.
    for number, mark in enumerate(found.marks, 1):
        some = records[: number * found.every]
        assert mark == Mark(some[-1][0], digest(some).digest[:16])
    assert len(found.marks) == len(records) // found.every


def test_it_is_what_the_page_says() -> None:
    """docs/datasets.md says how to make it without Headrace."""
    records: list[Record] = [(4, b"key", b"value"), (7, None, b""), (8, b"", None)]
    said = hashlib.sha256()
    for offset, key, value in records:
        for number, size in ((offset, ">q"), (-1 if key is None else len(key), ">i")):
            said.update(struct.pack(size, number))
        said.update(struct.pack(">i", -1 if value is None else len(value)) + (key or b"") + (value or b""))
    part = digest(records)
    assert part.digest == said.hexdigest()
    assert whole([part]) == hashlib.sha256(f"0:{said.hexdigest()}\n".encode()).hexdigest()


@given(logs, st.data())
def test_another_record_is_found_and_where_it_is_is_named(records: list[Record], data: Any) -> None:
    assume(records)
    measured = digest(records, every=4, most=6)
    place = data.draw(st.integers(0, len(records) - 1))
    offset, key, value = records[place]
    kind = data.draw(st.sampled_from(["key", "value", "offset", "gone", "more"]))
    changed = list(records)
    if kind == "gone":
        del changed[place]
    elif kind == "more":
        assume(place + 1 == len(records) or records[place + 1][0] > offset + 1)
        changed.insert(place + 1, (offset + 1, b"k", b"new"))
        offset += 1
    elif kind == "offset":
        assume(place + 1 == len(records) or records[place + 1][0] > offset + 1)
        changed[place] = (offset + 1, key, value)
    else:
        other = data.draw(texts.filter(lambda new: new != (key if kind == "key" else value)))
        changed[place] = (offset, other, value) if kind == "key" else (offset, key, other)
    assert digest(changed).digest != measured.digest
    fault = compare(measured, batches(changed, [3]))
    assert fault is not None
    assert fault.first <= offset <= fault.last
    assert compare(measured, batches(records, [5])) is None


def test_reading_ends_at_the_first_mark_that_differs() -> None:
    records: list[Record] = [(offset, b"k", b"%d" % offset) for offset in range(100)]
    measured = digest(records, every=10, most=64)
    changed: list[Record] = [*records[:33], (33, b"k", b"!"), *records[34:]]
    read = 0

    def counted() -> Any:
        nonlocal read
        for batch in batches(changed, [5]):
            read += 5
            yield batch

    assert compare(measured, counted()) == Fault(0, 30, 39)
    assert read == 40


@pytest.mark.parametrize("left", [[], [(0, 5)], [(0, 5), (2, 1)]])
def test_partitions_without_a_record_do_not_count(left: list[tuple[int, int]]) -> None:
    def part(number: int, records: int) -> PartitionDigest:
        return PartitionDigest(number, 0, 9, records, "ab" * 32 if records else "cd" * 32, 1, [])

    full = [part(*one) for one in left]
    assert whole([*full, part(7, 0)]) == whole(full[::-1])
    assert whole([*full, part(7, 1)]) != whole(full)


def test_marks_are_bounded_over_all_partitions() -> None:
    assert most_marks(1) == 128
    assert most_marks(1024) == 2
