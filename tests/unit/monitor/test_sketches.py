"""Sketches: the same numbers give the same sketch, and its quantiles are those of the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.statistics import Sketch
from services.monitor.domain import sketches

CHANCE = np.random.default_rng(11)
DISTRIBUTIONS = {
    "normal": CHANCE.normal(0, 1, 30_000),
    "prices": CHANCE.lognormal(3, 2, 30_000),
    "kelvin": CHANCE.normal(290, 5, 30_000),
    "times": 1.7e12 + CHANCE.uniform(0, 3.6e6, 30_000),
    "outlier": np.concatenate((CHANCE.normal(0, 1, 29_999), [1e300])),
}


def sketch_of(*runs):
    made = Sketch()
    for run in runs:
        sketches.add(made, np.array(run, np.float64))
    return made


@settings(deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_the_same_numbers_give_the_same_sketch_in_any_order_and_merged_in_any_way(few, rng):
    many = [rng.choice([rng.gauss(0, 1), float(rng.randrange(-99, 99))]) for _ in range(rng.randrange(500))]
    whole = sketch_of([*few, *many])
    assert sum(whole.buckets.values()) == len(few) + len(many)
    assert len(whole.buckets) <= sketches.BUCKETS
    shuffled = [*few, *many]
    rng.shuffle(shuffled)
    cut = rng.randrange(len(shuffled))
    assert sketch_of(shuffled[:cut], shuffled[cut:]) == whole
    merged, other = sketch_of(shuffled[cut:]), sketch_of(shuffled[:cut])
    sketches.merge(merged, other)
    assert merged == whole
    assert list(merged.buckets) == list(whole.buckets)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_are_off_by_less_than_half_a_percent_of_the_ranks(name):
    values = DISTRIBUTIONS[name]
    made = sketch_of(values)
    for q in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        found = sketches.quantile(made, q)
        assert np.mean(values <= found) == pytest.approx(q, abs=0.005)


def test_few_different_numbers_are_told_exactly():
    made = sketch_of([3.0] * 50 + [-0.0] * 30 + [0.0] * 20 + [-1e-300])
    assert {sketches.bounds(made, bucket): count for bucket, count in made.buckets.items()} == {
        (-1e-300, -1e-300): 1, (0.0, 0.0): 50, (3.0, 3.0): 50,
    }  # fmt: skip
    assert [sketches.quantile(made, q) for q in (0.0, 0.4, 0.9, 1.0)] == [-1e-300, 0.0, 3.0, 3.0]
    assert sketches.quantile(Sketch(), 0.5) is None
