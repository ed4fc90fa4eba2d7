"""Figures of one column in bounded memory, from values given a run at a time, in order.

Sketches are Apache DataSketches': a t-digest for quantiles, HyperLogLog for distinct values, frequent items for the top
ones. Those three give the same state for the same values in the same order, in any process; the library's KLL does
not (it throws coins seeded by the clock), so a profile made again would differ. Mean and spread are merged run by run
(Chan, Golub, LeVeque 1979), so runs must be cut by the log and not by how it was read (`headrace.history.chunks`).
"""

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import Any

import numpy as np
from datasketches import (
    frequent_items_error_type,
    frequent_strings_sketch,
    hll_sketch,
    tdigest_double,
    tgt_hll_type,
)

from headrace.datasets.measurement import QUANTILES, Category, Numbers

COMPRESSION = 800
"""Of the t-digest: 15 KiB a column; quantiles were within half a percent of rank, closer at the ends."""
LG_TEXTS = 11
"""Values counted are exact up to three quarters of 2 to the power of this."""
LG_REGISTERS = 12
"""Of HyperLogLog: a standard error of 1.6 %."""
TEXT_LENGTH = 100
"""Longer texts are counted by their beginning."""
TOP = 20


class NumberColumn:
    """Numbers: how many, their range, mean, spread and quantiles."""

    def __init__(self) -> None:
        self.count = 0
        self._min = self._max = self._mean = self._squares = 0.0
        self._sketch: Any = tdigest_double(COMPRESSION)

    def add(self, values: Sequence[float]) -> None:
        """The next run; all of them finite."""
        if not values:
            return
        run = np.array(values, dtype=np.float64)
        count, low, high = len(values), float(run.min()), float(run.max())
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(run.mean())
            squares = float(np.square(run - mean).sum())
        if not self.count:
            self._min, self._max, self._mean, self._squares = low, high, mean, squares
        else:
            total = self.count + count
            apart = mean - self._mean
            self._min, self._max = min(low, self._min), max(high, self._max)
            self._squares += squares + apart * apart * (self.count * count / total)
            self._mean += apart * (count / total)
        self.count += count
        self._sketch.update(run)

    def figures(self) -> Numbers | None:
        """What came of them; None if there are none."""
        if not self.count:
            return None
        return Numbers(
            self._min,
            self._max,
            self._mean if isfinite(self._mean) else None,
            sqrt(self._squares / self.count) if isfinite(self._squares) else None,
            {str(q): float(self._sketch.get_quantile(q)) for q in QUANTILES},
        )


class DistinctColumn:
    """Texts: about how many different ones."""

    def __init__(self, lg_registers: int = LG_REGISTERS) -> None:
        self._sketch: Any = hll_sketch(lg_registers, tgt_hll_type.HLL_8)

    def add(self, values: Sequence[str]) -> None:
        """The next run."""
        for value in dict.fromkeys(values):  # in order: the estimate depends on it
            self._sketch.update("=" + value)  # an empty text would not count

    def figure(self) -> int:
        """The estimate."""
        return round(float(self._sketch.get_estimate()))


class TextColumn:
    """Texts: the most frequent ones, with counts."""

    def __init__(self) -> None:
        self.count = 0
        self._sketch: Any = frequent_strings_sketch(LG_TEXTS)

    def add(self, values: Sequence[str]) -> None:
        """The next run."""
        self.count += len(values)
        update = self._sketch.update
        for value in values:
            update(value[:TEXT_LENGTH])

    def top(self, most: int = TOP) -> tuple[list[Category], int]:
        """The most frequent, and by how much their counts may be too high; of equal counts the first by letter."""
        found = self._sketch.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES)
        ordered = sorted(found, key=lambda item: (-item[1], item[0]))[:most]
        error = max((upper - lower for _, _, lower, upper in ordered), default=0)
        return [Category(value, count) for value, count, _, _ in ordered], error
