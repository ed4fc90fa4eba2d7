"""What the quality of answers must be before their labels are known, if scores mean what they have meant.

The method is known as confidence-based performance estimation: every score says, through the calibration learnt from
labels, how probable a positive is, and so how probable the answer is right. All figures here are functions of the
positives' share in each cell of scores, so one gradient gives both parts of the variance: labels fall by chance even if
their probabilities are known (the window's part), and the probabilities are known from so many labels only (the
calibration's part). Log loss is not among the figures: it hangs on scores next to 0 and 1, which a cell holds together.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np

from services.monitor.domain.calibration import MIDDLES, Calibration, Numbers

ESTIMATED = ("accuracy", "brier", "roc_auc")
"""Figures that are estimated, by the names they have when they are measured."""
Z = 1.959963984540054
"""95 % of a normal distribution lie within +- this."""


class Asked(NamedTuple):
    """Answers whose labels are not known. scores: how many in each cell; yes: answers that are positive."""

    scores: Numbers
    yes: int


class Estimate(NamedTuple):
    """A figure, and its variance."""

    value: float
    variance: float

    def interval(self, more: float = 0.0) -> tuple[float, float]:
        """95 %, within [0, 1]. more: a variance that is not known from the labels' number."""
        reach = Z * sqrt(self.variance + more)
        return max(self.value - reach, 0.0), min(self.value + reach, 1.0)


def estimate(asked: Asked, calibration: Calibration) -> dict[str, Estimate]:
    """The figures of at least one answer. An answer is taken to be yes where the score is among the highest."""
    n, share = asked.scores, calibration.share
    total = float(n.sum())
    above = total - np.cumsum(n)
    yes = np.clip(asked.yes - above, 0.0, n)
    no = n - yes
    found = {
        "accuracy": (float(yes @ share + no @ (1.0 - share)) / total, (yes - no) / total),
        "brier": (
            float(n @ (share * (1.0 - MIDDLES) ** 2 + (1.0 - share) * MIDDLES**2)) / total,
            n * (1.0 - 2.0 * MIDDLES) / total,
        ),
        "roc_auc": _roc_auc(n, share),
    }
    return {name: Estimate(value, _variance(n, slope, calibration)) for name, (value, slope) in found.items()}


def _roc_auc(n: Numbers, share: Numbers) -> tuple[float, Numbers]:
    """Of expected positives and negatives, ties half; and how it moves with each cell's share."""
    positives, negatives = n * share, n * (1.0 - share)
    p, q = float(positives.sum()), float(negatives.sum())
    lower = np.cumsum(negatives) - 0.5 * negatives
    higher = p - np.cumsum(positives) + 0.5 * positives
    area = float(positives @ lower) / (p * q)
    return area, n * ((lower - higher) / (p * q) - area * (1.0 / p - 1.0 / q))


def _variance(n: Numbers, slope: Numbers, calibration: Calibration) -> float:
    """Of a figure that moves by `slope` with each cell's share."""
    share = calibration.share
    moved = np.divide(slope, n, out=np.zeros_like(slope), where=n > 0)
    by_chance = float(n @ (moved * moved * share * (1.0 - share)))
    by_step = np.bincount(calibration.step, slope, len(calibration.variance))
    return by_chance + float((by_step * by_step) @ calibration.variance)
