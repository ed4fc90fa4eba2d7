"""How large a change is: figures of two histograms over the same cells, to be shown beside an alarm.

These are descriptions, not tests of a stream: looked at again and again they would alarm sooner or later. Their sizes
come with the numbers of records behind them, as a distance of .1 is much of 100,000 records and nothing of 50.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from services.monitor.domain.drift.arrays import Floats

Shares = Sequence[float] | Floats

LEAST_SHARE = 1e-6
"""An empty cell counts as this share in a population stability index, which would else be infinite."""


class Effect(msgspec.Struct, frozen=True):
    """A distance between two histograms, and how many records each has.

    size: in the distance's own unit. noise: what its mean would be if both were drawn from one distribution; None where
    there is no simple figure.
    """

    name: str
    size: float
    before: int
    after: int
    noise: float | None = None


def kolmogorov_smirnov(before: Shares, after: Shares) -> Effect:
    """Largest difference of the cumulative shares, 0 to 1; cells are in order. Coarse cells make it smaller, never
    larger.
    """
    first, second, sizes = _shares(before, after)
    size = float(np.abs(np.cumsum(first) - np.cumsum(second)).max())
    # the mean of Kolmogorov's distribution, for continuous values
    noise = 0.8687 * math.sqrt(1 / sizes[0] + 1 / sizes[1])
    return Effect("kolmogorov_smirnov", size, *sizes, noise)


def population_stability_index(before: Shares, after: Shares) -> Effect:
    """The symmetric Kullback-Leibler divergence of the cells' shares, in nats."""
    first, second, sizes = _shares(before, after)
    cells = int(((first > 0) | (second > 0)).sum())
    first, second = np.maximum(first, LEAST_SHARE), np.maximum(second, LEAST_SHARE)
    size = float(((second - first) * np.log(second / first)).sum())
    return Effect("population_stability_index", size, *sizes, (cells - 1) * (1 / sizes[0] + 1 / sizes[1]))


def chi_square(before: Shares, after: Shares) -> Effect:
    """Pearson's statistic of homogeneity; its mean without a difference is the cells' number less one."""
    first, second, sizes = _shares(before, after)
    total = sum(sizes)
    pooled = (first * sizes[0] + second * sizes[1]) / total
    held = pooled > 0
    parts = (first - second)[held] ** 2 / pooled[held]
    size = float(parts.sum() * sizes[0] * sizes[1] / total)
    return Effect("chi_square", size, *sizes, float(held.sum() - 1))


def wasserstein(before: Shares, after: Shares, middles: Shares) -> Effect:
    """How far records must be moved on average, in the field's unit. middles: of the cells, ascending."""
    first, second, sizes = _shares(before, after)
    apart = np.abs(np.cumsum(first) - np.cumsum(second))[:-1]
    return Effect("wasserstein", float((apart * np.diff(np.asarray(middles, float))).sum()), *sizes)


def _shares(before: Shares, after: Shares) -> tuple[Floats, Floats, tuple[int, int]]:
    first, second = np.asarray(before, float), np.asarray(after, float)
    sizes = (int(first.sum()), int(second.sum()))
    if first.shape != second.shape or min(sizes) < 1:
        raise ValueError("two histograms over the same cells, with a record each at least")
    return first / first.sum(), second / second.sum(), sizes
