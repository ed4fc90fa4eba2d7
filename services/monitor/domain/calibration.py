"""What scores have meant: how often the answer was yes at each score, learnt from labels, and how sure that is.

Scores are told apart in cells that are finest next to 0 and 1, where models of rare classes and overconfident ones say
everything they have to say. Neighbouring cells are put together in steps of about as many labels each, and a step's
share of positives holds for all its cells. Steps and no fixed curve, as models are wrong in shapes that no curve has;
and no isotonic regression, which was measured too: as it chooses its steps by the labels, it finds models better than
they are, by up to 0.03 of ROC AUC from a few hundred labels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.contracts.statistics import SCORE_BINS

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]

PRIOR = 0.1
"""In each cell, the share of a label by which a score is believed before there is any."""
STEP_LABELS = 25
"""Labels of a step at least."""
STEPS = 20
"""A step has at least one label in so many."""

_HALF = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    15,
    18,
    22,
    27,
    33,
    40,
    50,
    62,
    76,
    94,
    115,
    140,
    170,
    200,
    250,
    300,
    350,
    400,
    450,
)
_EDGES = np.array([*_HALF, SCORE_BINS // 2, *(SCORE_BINS - edge for edge in reversed(_HALF))])
"""Where cells begin and end, in bins of the score histograms; the bin of a score of exactly 1 is in the last cell."""

CELLS = len(_EDGES) - 1
MIDDLES: Numbers = (_EDGES[:-1] + _EDGES[1:]) / (2.0 * SCORE_BINS)
"""The score in the middle of each cell."""
_CELL_OF: Places = np.append(np.repeat(np.arange(CELLS), np.diff(_EDGES)), CELLS - 1)


def cells_of(scores: Numbers) -> Places:
    """The cell of each score, all of which lie in [0, 1]."""
    return _CELL_OF[(scores * SCORE_BINS).astype(np.intp)]


def by_cell(histogram: Mapping[int, int]) -> Numbers:
    """A score histogram's counts in each cell."""
    size = len(histogram)
    places = np.fromiter(histogram.keys(), np.intp, size)
    counts = np.fromiter(histogram.values(), np.float64, size)
    by: Numbers = np.bincount(_CELL_OF[places], counts, CELLS).astype(np.float64)
    return by


class Calibration(NamedTuple):
    """The meaning of scores.

    labels: from how many. share: of positives, in each cell. step: the step that each cell belongs to. variance: of
    each step's share.
    """

    labels: int
    share: Numbers
    step: Places
    variance: Numbers


def learn(positives: Numbers, negatives: Numbers) -> Calibration:
    """From labelled scores, in each cell. No step reaches over a score of 0.5, where most answers turn."""
    seen = positives + negatives
    least = max(float(seen.sum()) / STEPS, STEP_LABELS)
    weights, step, inside = seen + PRIOR, np.zeros(CELLS, np.intp), 0.0
    for cell in range(1, CELLS):
        inside += weights[cell - 1]
        left = weights[cell : CELLS // 2 if cell < CELLS // 2 else CELLS].sum()
        turned = cell == CELLS // 2 or (inside >= least and left >= least)
        step[cell] = step[cell - 1] + turned
        if turned:
            inside = 0.0
    labels = np.bincount(step, weights)
    share = np.bincount(step, positives + PRIOR * MIDDLES) / labels
    return Calibration(int(seen.sum()), share[step], step, share * (1.0 - share) / (labels + 1.0))
