"""The profile of a log: the same however it is read, and what a plain count and numpy say of the same records."""

import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.events import ContractAdopted, Label, Observation
from headrace.contracts.left_out import Below, LeftOut
from headrace.contracts.stream import Field, LabelSpec, Limits
from headrace.datasets.columns import TextColumn
from headrace.datasets.measure import measure
from headrace.datasets.measurement import Category, Measurement, Stretch, bounded, decode, encode
from headrace.datasets.profiler import Profiler
from headrace.datasets.source import Source
from headrace.history import chunks
from headrace.testing import builders
from tests.unit.datasets.logs import Kept, Log, at_offsets, events, values

NEVER = 10**15


def measured(*parts: list[Kept], batch: int = 1000, left_out: LeftOut | None = None) -> Measurement:
    log = Log(*parts, batch=batch)
    below = () if left_out is None else (Below(left_out),)
    stretches = [Stretch(number, *log.bounds("", number), None, below) for number in range(len(parts))]
    return measure(Source(log), "s", stretches, NEVER)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 900), st.sampled_from([0, 2, 5]))
def test_batches_of_1_7_and_1000_give_the_same_to_the_last_bit(seed: int, count: int, hole: int) -> None:
    first, second = (at_offsets(values(events(seed + n, count)), hole=hole) for n in range(2))
    found = [encode(measured(first, second, batch=size)) for size in (1, 7, 1000)]
    assert found[0] == found[1] == found[2]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3000))
def test_the_figures_are_those_of_numpy(seed: int, count: int) -> None:
    made = events(seed, count)
    observed: dict[str, Observation] = {}
    for one in made:
        if isinstance(one, Observation):
            observed.setdefault(one.id, one)
    number, text, flag, personal = measured(at_offsets(values(made))).profile.fields
    n = np.array([one.x["n"] for one in observed.values()])
    assert number.numbers is not None
    assert (number.count, number.missing) == (len(n), 0)
    assert (number.numbers.min, number.numbers.max) == (n.min(), n.max())
    assert number.numbers.mean == pytest.approx(n.mean(), rel=1e-12, abs=1e-12)
    assert number.numbers.std == pytest.approx(n.std(), rel=1e-9, abs=1e-12)
    for q, value in number.numbers.quantiles.items():
        rank = (n < value).mean(), (n <= value).mean()
        slack = 0.0075 + 1.0 / len(n)
        assert rank[0] - slack <= float(q) <= rank[1] + slack
    t = Counter(one.x["t"] for one in observed.values())
    assert {one.value: one.count for one in text.top} == t
    assert [one.count for one in text.top] == sorted(t.values(), reverse=True)
    assert (text.distinct, text.top_error, text.numbers) == (len(t), 0, None)
    b = Counter(str(one.x["b"]).lower() for one in observed.values() if "b" in one.x)
    assert {one.value: one.count for one in flag.top} == b
    assert (flag.count, flag.missing) == (b.total(), len(observed) - b.total())
    # Of a personal field how many and how different, but none of its values.
    assert (personal.count, personal.top, personal.numbers) == (len(observed), [], None)
    assert personal.distinct == pytest.approx(len({one.x["m"] for one in observed.values()}), rel=0.06)


def test_quality_is_what_happened() -> None:
    """Each kind of trouble once."""
    contract = builders.contract(label=LabelSpec(wait_seconds=10))
    made: list[Any] = [
        builders.adopted(contract),
        builders.deployed(),
        builders.observation("a", at=1000),
        builders.observation("b", at=2000),
        builders.observation("a", at=2000),  # a duplicate
        builders.label("b", True, at=2500),
        builders.label("b", False, at=2600),  # a second label: ignored
        builders.label("early", False, at=2700),
        builders.observation("early", at=2400),  # late: event time went back by 300 ms
        b"no record at all",
        builders.label("nobody", True, at=2800),
        builders.observation("far", at=13_000),  # a expires
        builders.label("a", True, at=13_001),  # and its label is too late
        Label("far", "far", 13_002, "maybe"),  # no label of a binary stream
        builders.observation("waiting", at=13_003),
        builders.label("later", True, at=13_004),  # its observation may come behind the range: not in it
    ]
    found = measured(at_offsets(values(made)))
    quality = msgspec.structs.asdict(found.quality)
    del quality["rejected"]
    assert quality == {
        "records": 16,
        "left_out": 0,
        "controls": 2,
        "refused": 2,
        "observations": 5,
        "duplicates": 1,
        "labels": 6,
        "matched": 2,
        "unmatched": 2,
        "ignored": 2,
        "corrected": 0,
        "expired": 1,
        "waiting": 2,
        "late": 1,
        "latest_ms": 300,
    }
    label = found.profile.label
    assert label.count == 2
    assert {one.value: one.count for one in label.balance} == {"true": 1, "false": 1}
    assert label.delay_ms is not None
    assert (label.delay_ms.min, label.delay_ms.max) == (300.0, 500.0)
    assert (found.profile.first_at, found.profile.last_at) == (1000, 13_004)


def test_a_range_begins_under_the_contract_that_was_in_force() -> None:
    records = at_offsets(
        values([builders.adopted(), *(builders.observation(f"o{n}", at=n) for n in range(9))])
    )
    log = Log(records)
    begun = measure(Source(log), "s", [Stretch(0, 3, 8, builders.adopted())], NEVER)
    assert begun.quality.observations == 5
    assert [field.count for field in begun.profile.fields] == [5, 5]
    unknown = measure(Source(log), "s", [Stretch(0, 3, 8)], NEVER)
    assert (unknown.quality.observations, unknown.quality.refused) == (0, 5)


def test_a_field_is_missing_from_where_its_contract_is_in_force() -> None:
    wider = builders.contract(version=2, fields=[*builders.contract().fields, Field("c", "string")])
    made = [
        builders.adopted(),
        builders.observation("x", at=1),
        builders.adopted(wider),
        builders.observation("y", at=2),
    ]
    fields = measured(at_offsets(values(made))).profile.fields
    assert [(one.name, one.count, one.missing) for one in fields] == [("a", 2, 0), ("b", 2, 0), ("c", 0, 1)]


def test_what_is_left_out_is_neither_counted_nor_in_the_digest() -> None:
    made = events(3, 400)
    left_out = LeftOut(["e3"], ["file"])
    kept = [
        (offset, key, value)
        for (offset, key, value), one in zip(at_offsets(values(made)), made, strict=True)
        if isinstance(one, ContractAdopted) or not (one.entity == "e3" or one.source == "file")
    ]
    found, without = measured(at_offsets(values(made)), left_out=left_out), measured(kept)
    assert found.quality.left_out == len(made) - len(kept) > 0
    assert found.digest == without.digest
    assert found.profile == without.profile
    assert "file" not in {one.value for one in found.profile.sources}


def test_a_regression_has_numbers_instead_of_a_balance() -> None:
    made: list[Any] = [builders.adopted(builders.contract(task="regression", label=LabelSpec(type="number")))]
    for n in range(10):
        made += [builders.observation(f"o{n}", at=n), builders.label(f"o{n}", float(n), at=n)]
    label = measured(at_offsets(values(made))).profile.label
    assert label.balance == []
    assert label.numbers is not None
    assert (label.numbers.mean, label.numbers.max) == (4.5, 9.0)


def test_values_that_do_not_fit_are_counted_apart() -> None:
    made = [
        builders.adopted(),
        builders.observation("x", {"a": "text", "b": True}),
        builders.observation("y"),
    ]
    a, b = measured(at_offsets(values(made))).profile.fields
    assert (a.count, a.unfit, a.numbers and a.numbers.max) == (2, 1, 1.0)
    assert (b.count, b.unfit) == (2, 1)


def test_memory_does_not_grow_with_the_log() -> None:
    """All texts, entities and ids are different: the worst there is."""
    contract = builders.contract(
        fields=[Field("n", "number"), Field("t", "string")],
        limits=Limits(pending=100, remembered=200, early_labels=10),
    )
    profiler = Profiler()
    profiler.begin(builders.adopted(contract))

    def fed(start: int, count: int) -> int:
        for offset in range(start, start + count, 256):
            some = [
                builders.observation(f"o{n}", {"n": float(n), "t": f"text-{n}"}, entity=f"e{n}", at=n)
                for n in range(offset, offset + 256)
            ]
            profiler.feed(range(offset, offset + 256), values(some))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        fed(0, 256 * 20)
        warm = fed(256 * 20, 256 * 40)
        assert fed(256 * 60, 256 * 200) < warm + 200_000
    finally:
        tracemalloc.stop()
    profiler.end()
    [_, text] = profiler.profile().fields
    assert text.count == 256 * 260
    assert text.distinct == pytest.approx(text.count, rel=0.06)
    assert text.top_error >= max((one.count for one in text.top), default=1) - 1
    assert len(text.top) <= 20


def test_a_wide_contract_is_profiled_in_part_and_says_so() -> None:
    profiler = Profiler(most_fields=3)
    profiler.begin(builders.adopted(builders.contract(fields=[Field(f"f{n}", "number") for n in range(5)])))
    profiler.feed([0], values([builders.observation("x", {f"f{n}": 1.0 for n in range(5)})]))
    profiler.end()
    profile = profiler.profile()
    assert [field.name for field in profile.fields] == ["f0", "f1", "f2"]
    assert profile.unprofiled == 2


def test_a_measurement_that_is_too_large_gives_up_its_rarest_categories() -> None:
    found = measured(at_offsets(values(events(1, 300))))
    assert decode(encode(found)) == found
    assert bounded(found, 10**6) == found
    small = bounded(found, len(encode(found)) - 1)
    assert len(encode(small)) < len(encode(found))
    assert [one.value for one in small.profile.fields[1].top] == [
        one.value for one in found.profile.fields[1].top[:4]
    ]
    assert small.digest == found.digest


def test_counts_of_texts_are_exact_up_to_a_number_of_different_ones() -> None:
    column = TextColumn()
    column.add([f"t{n}" for n in range(1535)] * 2 + ["often"] * 9)
    assert column.top(2) == ([Category("often", 9), Category("t0", 2)], 0)
    column.add([f"u{n}" for n in range(5000)])
    [often, _], error = column.top(2)
    assert 9 <= often.count <= 9 + error
    assert error > 0


HASHED = """
from headrace.datasets.columns import DistinctColumn
column = DistinctColumn()
for start in range(0, 200_000, 200):
    column.add([f"t{number}" for number in range(start, start + 200)])
print(column.figure())
"""


def test_estimates_do_not_depend_on_the_hash_seed() -> None:
    """An estimate depends on the order of the values, and that of a set on the process."""
    found = {
        subprocess.run(
            [sys.executable, "-c", HASHED],
            check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_chunks_are_what_makes_batches_not_matter() -> None:
    """Planted: fed as they come, the last bits of the mean depend on the batches."""
    records = at_offsets(values(events(5, 600)))

    def mean(batch: int, cut: bool) -> Any:
        profiler = Profiler()
        profiler.begin(None)
        read = Log(records, batch=batch).read("s.log", 0, 0, 10**6)
        for offsets, some in chunks(read) if cut else ((one.offsets, one.values) for one in read):
            profiler.feed(offsets, some)
        profiler.end()
        return profiler.profile().fields[0].numbers

    assert mean(7, True) == mean(1000, True)
    assert mean(7, False) != mean(1000, False)
