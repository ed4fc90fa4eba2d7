"""How much more block sums vary than they would if records were independent, for many signals at once.

Autocorrelation is what breaks drift detectors: with a correlation of .9 between neighbours the sum of 64 values
varies 16 times as much as that of independent ones, and everything looks like drift. So the long-run variance is
measured: variance of block sums plus the covariances of blocks up to six apart, running sums only.
"""

import math

import msgspec
import numpy as np

from services.monitor.domain.drift.arrays import Floats, Packed, pack, unpack

LAGS = 6
ENOUGH = 16.0
"""Independent blocks that a reference is worth before it is used: dependence over many blocks takes longer to learn."""

DEPENDENT = 1.0
LONGER = 4.0
"""From so many standard errors of the correlation of neighbouring blocks on, a block is worth so much less: how far the
dependence reaches is not known yet, and a reference of a few regimes looks steadier than the stream is.
"""

ROUNDING = 1e-9
"""Of the mean square: a variance below is none."""

WEIGHTS = np.array([1.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5])
"""Of the variance and of each lag's covariance. Flat, then falling: Bartlett's would lose much of what lies four
apart.
"""


class DispersionState(msgspec.Struct):
    """Running sums of one family of signals."""

    blocks: Packed
    sums: Packed
    products: Packed
    first: Packed
    recent: Packed


class Dispersion:
    """Long-run variance of block sums. Signals form rows [rows, width]; a row may be forgotten by itself."""

    def __init__(self, rows: int, width: int) -> None:
        self.blocks = np.zeros(rows)
        self.sums = np.zeros((rows, width))
        self.products = np.zeros((LAGS + 1, rows, width))
        self.first = np.zeros((LAGS, rows, width))
        self.recent = np.zeros((LAGS, rows, width))

    def add(self, values: Floats, rows: Floats) -> None:
        """Another block: values less their expectation [rows, width]; `rows` is 1 for rows that take part, else 0.

        For those that do not, no time passes: what came before stays next to what comes.
        """
        if not rows.any():
            return
        part = slice(None) if rows.all() else rows > 0  # a slice copies nothing
        early = np.flatnonzero((rows > 0) & (self.blocks < LAGS))
        self.first[self.blocks[early].astype(int), early] = values[early]
        values, recent = values[part], self.recent[:, part]
        self.blocks[part] += 1.0
        self.sums[part] += values
        self.products[0, part] += values * values
        self.products[1:, part] += recent * values
        self.recent[1:, part] = recent[:-1]
        self.recent[0, part] = values

    def forget(self, row: int) -> None:
        """Begin a row anew."""
        self.blocks[row] = 0.0
        self.sums[row] = 0.0
        self.products[:, row] = 0.0
        self.first[:, row] = self.recent[:, row] = 0.0

    def variance(self) -> tuple[Floats, Floats]:
        """Variance of a block's sum in the long run, one standard error above the estimate, and what it rests on.

        Both [rows, width]; the second is how many independent blocks would have told as much.
        """
        blocks = np.maximum(self.blocks, 2.0)[:, None]
        moments = self._around_mean(blocks)
        around = np.maximum(np.tensordot(WEIGHTS[1:], moments[1:], 1), 0.0)
        alone = moments[0]
        worth = blocks * np.divide(alone, alone + around, out=np.ones_like(alone), where=alone + around > 0)
        worth[moments[1] * np.sqrt(blocks) > DEPENDENT * alone] /= LONGER
        return (alone + around) * (1.0 + np.sqrt(2.0 / blocks)), worth

    def _around_mean(self, blocks: Floats) -> Floats:
        """Variance and covariances by lag [LAGS + 1, rows, width].

        A covariance has as many products less than there are blocks as its lag says, so that each factor lacks some of
        the values: the first or the last ones. Far from zero, and with few blocks, that is not to be neglected.
        Of values that are all the same it is 0, not what rounding leaves.
        """
        mean = self.sums / blocks
        lacking = np.zeros(self.products.shape)
        lacking[1:] = np.cumsum(self.first + self.recent, 0)
        lags = np.arange(LAGS + 1.0)[:, None, None]
        found: Floats = (self.products - mean * (2.0 * self.sums - lacking - (blocks - lags) * mean)) / blocks
        found[:, found[0] <= ROUNDING * self.products[0] / blocks] = 0.0
        return found

    def state(self) -> DispersionState:
        """All of it."""
        return DispersionState(*(pack(getattr(self, name)) for name in DispersionState.__struct_fields__))

    def resume(self, state: DispersionState) -> None:
        """Go on from there."""
        for name in DispersionState.__struct_fields__:
            setattr(self, name, unpack(getattr(state, name)))


def worth_watching(information: Floats, threshold: Floats) -> Floats:
    """1 where an alternative gives its evidence well within the records of one false alarm, else 0.

    information: mean log likelihood ratio a record under the alternative. Where it is next to nothing, the ratio is
    always 1, and a Shiryaev-Roberts sum would count records until it alarms.
    """
    needed = 10.0 * np.log(threshold)
    found: Floats = (information * threshold > needed).astype(float)
    return found


def enough(ratio: float, threshold: float) -> bool:
    """As worth_watching, for one."""
    return ratio * threshold > 10.0 * math.log(threshold)
