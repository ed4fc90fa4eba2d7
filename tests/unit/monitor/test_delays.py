"""Delay buckets: every delay has one bucket, buckets are in order and narrow, quantiles are near the exact ones."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.statistics import Delay
from services.monitor.domain import delays


@given(st.integers(0, 1 << 45))
def test_a_delay_lies_in_its_bucket_which_is_at_most_an_eighth_wide(delay):
    low, high = delays.bucket_range(delays.bucket(delay))
    assert low <= delay < high
    assert high - low <= max(1, low / 8)


def test_buckets_join_without_a_gap():
    edges = [delays.bucket_range(index) for index in range(300)]
    assert edges[0][0] == 0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))


def test_quantiles_are_within_a_bucket_of_the_exact_ones():
    rng = random.Random(3)
    exact = sorted(int(rng.lognormvariate(14, 1)) for _ in range(5_000))
    delay = Delay()
    for value in exact:
        delays.add(delay, value)
    for share in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
        assert delays.quantile_ms(delay, share) == pytest.approx(exact[round(share * 4_999)], rel=0.13)
    assert delay.sum_ms == sum(exact)


def test_a_label_older_than_its_observation_is_counted_as_early():
    delay = Delay()
    delays.add(delay, -5_000)
    assert (delay.count, delay.early, delay.sum_ms, delay.buckets) == (1, 1, -5_000, {0: 1})
    assert delays.quantile_ms(Delay(), 0.5) is None
