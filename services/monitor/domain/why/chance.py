"""What chance alone does to a mean, a share, a difference: standard errors that know of dependence, and a limit.

Records of a stream depend on their neighbours, so each side of a change is cut into blocks of neighbours, and what
blocks do is what counts: the standard error is the larger of that between blocks and that of independent records. Who
looks at many places sees one stand out by chance; so the limit is that of the largest of so many looks (Bonferroni).
"""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.drift.arrays import Floats

BLOCKS = 32
"""Blocks of each side, if there are as many records."""
ALPHA = 0.05
"""Chance that anything at all is told although nothing moved."""

Cells = NDArray[np.intp]


class Side(NamedTuple):
    """The records of one side by cell [cells] and by block and cell [blocks, cells]. sums, squares: of their values."""

    counts: Floats
    sums: Floats
    squares: Floats
    block_counts: Floats
    block_sums: Floats

    @property
    def total(self) -> float:
        """Records."""
        return float(self.counts.sum())

    @property
    def shares(self) -> Floats:
        """Of the cells."""
        found: Floats = self.counts / self.total
        return found

    @property
    def means(self) -> Floats:
        """Of the cells' values; NaN in an empty one."""
        with np.errstate(invalid="ignore"):
            found: Floats = self.sums / self.counts
        return found

    def rest(self) -> "Side":
        """For each cell, the records of all others."""
        return Side(
            self.counts.sum() - self.counts,
            self.sums.sum() - self.sums,
            self.squares.sum() - self.squares,
            self.block_counts.sum(1, keepdims=True) - self.block_counts,
            self.block_sums.sum(1, keepdims=True) - self.block_sums,
        )

    def residuals(self) -> Floats:
        """How far each block pulls a cell's mean from where it is [blocks, cells]; they sum to 0."""
        means = np.nan_to_num(self.means)
        found: Floats = (self.block_sums - self.block_counts * means) / np.maximum(self.counts, 1.0)
        return found

    def share_variance(self) -> Floats:
        """Of the cells' shares, by blocks."""
        sizes = self.block_counts.sum(1, keepdims=True)
        return between((self.block_counts - sizes * self.shares) / self.total)


def side(cells: Cells, values: Floats, width: int) -> Side:
    """cells, values: of the records, in order; width: how many cells there are."""
    blocks = min(BLOCKS, max(1, len(cells)))
    block = np.arange(len(cells)) * blocks // max(1, len(cells))
    flat = block * width + cells
    counted = np.bincount(flat, minlength=blocks * width).reshape(blocks, width).astype(float)
    summed = np.bincount(flat, values, minlength=blocks * width).reshape(blocks, width).astype(float)
    squares = np.bincount(cells, values * values, minlength=width).astype(float)
    return Side(counted.sum(0), summed.sum(0), squares, counted, summed)


def between(pulls: Floats) -> Floats:
    """The variance of a figure that is a sum of what each block pulls it [blocks, ...]."""
    blocks = len(pulls)
    found: Floats = (pulls * pulls).sum(0) * (blocks / max(1, blocks - 1))
    return found


def pooled(first: Side, second: Side) -> Floats:
    """The variance of the difference of two sides' means by cell, if records were independent."""
    with np.errstate(invalid="ignore", divide="ignore"):
        counts = first.counts + second.counts
        means = (first.sums + second.sums) / counts
        variance = np.maximum((first.squares + second.squares) / counts - means**2, 0.0)
        found: Floats = variance * (1 / first.counts + 1 / second.counts)
    return found


def limit(looks: int, blocks: int = BLOCKS) -> float:
    """Standard errors beyond which not one of so many looks lies by chance, at `ALPHA`. Student's, for few blocks."""
    normal = NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, looks)))
    free = max(2.0, blocks - 1.0)
    first = (normal**3 + normal) / (4 * free)
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / (96 * free * free)
    return normal + first + second


def standardised(chi_square: float, freedom: float) -> float:
    """A chi-square statistic as standard errors (Wilson and Hilferty)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(((chi_square / freedom) ** (1 / 3) - (1 - spread)) / sqrt(spread))
