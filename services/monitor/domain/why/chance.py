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

    @property
    def spread(self) -> Floats:
        """Over how many blocks a cell's records are spread, as it were: of those in one nobody knows how they vary."""
        squares = (self.block_counts * self.block_counts).sum(0)
        found: Floats = self.counts**2 / np.maximum(squares, 1.0)
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

    def share_pulls(self) -> Floats:
        """How far each block pulls a cell's share from where it is [blocks, cells]; they sum to 0."""
        sizes = self.block_counts.sum(1, keepdims=True)
        found: Floats = (self.block_counts - sizes * self.shares) / self.total
        return found


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
    """The variance of a figure that is a sum of what each block pulls it [blocks, ...].

    Blocks that are alike to their neighbours are too short, so what neighbours have in common counts too.
    """
    blocks = len(pulls)
    squares = (pulls * pulls).sum(0)
    shared = (pulls[1:] * pulls[:-1]).sum(0)
    found: Floats = (squares + np.maximum(shared, 0.0)) * (blocks / max(1, blocks - 1))
    return found


def apart(pulls: tuple[Floats, Floats], alone: tuple[Floats, Floats], totals: tuple[float, float]) -> Floats:
    """The variance of the difference of a figure between two sides.

    pulls: of each side's blocks. alone: the variance of each, if records were independent. totals: records. Blocks of
    the shorter side may be too short to show how long its records depend on each other; so it is taken to depend as
    much as the longer side does.
    """
    own = [np.maximum(between(pull), one) for pull, one in zip(pulls, alone, strict=True)]
    long = int(totals[1] > totals[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        dispersion = np.nan_to_num(own[long] / alone[long], nan=1.0, posinf=1.0)
    short = np.maximum(own[1 - long], alone[1 - long] * dispersion)
    found: Floats = own[long] + short
    return found


def pooled(first: Side, second: Side) -> Floats:
    """The variance of the difference of two sides' means by cell, if records were independent and nothing had moved."""
    with np.errstate(invalid="ignore", divide="ignore"):
        counts = first.counts + second.counts
        means = (first.sums + second.sums) / counts
        variance = np.maximum((first.squares + second.squares) / counts - means**2, 0.0)
        found: Floats = variance * (1 / first.counts + 1 / second.counts)
    return found


def alone(one: Side) -> Floats:
    """The variance of each cell's mean, if records were independent; NaN in an empty cell."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.maximum(one.squares / one.counts - one.means**2, 0.0) / one.counts
    return found


def means_apart(first: Side, second: Side) -> Floats:
    """The variance of the difference of each cell's mean."""
    blocked = apart(
        (first.residuals(), second.residuals()), (alone(first), alone(second)), (first.total, second.total)
    )
    found: Floats = np.maximum(blocked, pooled(first, second))
    return found


def contrasts_apart(first: Side, second: Side) -> Floats:
    """The variance of the difference of how each cell's mean lies to that of all others."""
    others = first.rest(), second.rest()
    blocked = apart(
        (first.residuals() - others[0].residuals(), second.residuals() - others[1].residuals()),
        (alone(first) + alone(others[0]), alone(second) + alone(others[1])),
        (first.total, second.total),
    )
    found: Floats = np.maximum(blocked, pooled(first, second) + pooled(*others))
    return found


def shares_apart(first: Side, second: Side) -> tuple[Floats, Floats]:
    """The variance of the difference of each cell's share; and the same, if records were independent."""
    both = (first.counts + second.counts) / (first.total + second.total)
    singles = both * (1 - both) / first.total, both * (1 - both) / second.total
    pulls = first.share_pulls(), second.share_pulls()
    return apart(pulls, singles, (first.total, second.total)), singles[0] + singles[1]


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
