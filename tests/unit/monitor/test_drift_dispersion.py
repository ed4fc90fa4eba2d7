"""The long-run variance of block sums: what dependence makes of it, and what a reference is worth."""

import numpy as np
import pytest

from services.monitor.domain.drift.dispersion import ENOUGH, Dispersion


def regimes(blocks, length, seed=0):
    """A signal that stays for `length` blocks where it is, around 3."""
    levels = np.random.default_rng(seed).normal(3.0, 1.0, -(-blocks // length))
    return np.repeat(levels, length)[:blocks]


@pytest.mark.parametrize("length", [1, 2, 4])
def test_dependence_over_blocks_is_measured_wherever_the_signal_lies(length):
    held = Dispersion(1, 1)
    for value in regimes(20_000, length):
        held.add(np.array([[value]]), np.ones(1))
    variance, _ = held.variance()
    assert variance[0, 0] == pytest.approx(length, rel=0.15)  # a sum of `length` equal values, over `length`


def test_blocks_in_which_a_row_takes_no_part_do_not_part_its_neighbours():
    alone, beside = Dispersion(1, 1), Dispersion(2, 1)
    for value in regimes(400, 4):
        alone.add(np.array([[value]]), np.ones(1))
        beside.add(np.array([[9.0], [value]]), np.array([1.0, 0.0]))
        beside.add(np.array([[9.0], [value]]), np.array([0.0, 1.0]))
    for mine, other in zip(alone.variance(), beside.variance(), strict=True):
        assert mine[0, 0] == other[1, 0]


def test_a_reference_of_a_few_regimes_is_not_worth_what_it_seems():
    seen = [Dispersion(1, 1) for _ in range(40)]
    for seed, held in enumerate(seen):
        for value in regimes(64, 4, seed):
            held.add(np.array([[value]]), np.ones(1))
    worth = [float(held.variance()[1][0, 0]) for held in seen]
    assert sum(one >= ENOUGH for one in worth) <= 2  # sixteen regimes
    for held in seen:
        held.forget(0)
        for value in np.random.default_rng(len(worth)).normal(3.0, 1.0, 64):
            held.add(np.array([[value]]), np.ones(1))
    assert all(held.variance()[1][0, 0] >= ENOUGH for held in seen)


def test_what_never_varies_is_as_steady_as_it_looks():
    held = Dispersion(1, 1)
    for _ in range(40):
        held.add(np.array([[-0.03]]), np.ones(1))
    variance, worth = held.variance()
    assert variance[0, 0] == 0.0
    assert worth[0, 0] == 40.0
