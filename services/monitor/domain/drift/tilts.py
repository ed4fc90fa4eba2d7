"""The alternatives that are looked for: what a changed field would do to its cells.

A tilt is a weight for each cell; under the alternative a cell's probability is multiplied by exp(weight) and all are
scaled to sum to 1. For numbers: location and scale (the first two orthogonal polynomials of the rank), each in both
directions and several sizes; for categories: each frequent one more, or less; for both: more or fewer missing, and
values the reference has not. An alternative that could not be told from no change within the budget is left out: its
evidence would only count records.
"""

import math

import numpy as np

from services.monitor.domain.drift.arrays import Floats
from services.monitor.domain.drift.cells import ABOVE, COUNT, MISSING, OTHERS, UNSEEN, Layout

ALTERNATIVES = 16

LOCATIONS = (0.2, 0.5, 1.0)
SCALES = (0.25, 0.7)
"""Sizes: roughly the shift in standard deviations, and twice the change of the logarithm of the scale."""

FREQUENT = 4
"""Categories that are looked at for becoming rarer."""

SHORTENED = 4 / 3
"""As in bernoulli.py."""

FEW = 2
"""Alternatives on one or two cells are about these cells' odds, others about the whole distribution."""

SHORTEST = 0.05
LARGEST = 3.0
"""A polynomial shorter than this (before it is scaled) is none; its values are cut at the other."""

MORE = math.log(3.0)
MUCH_MORE = math.log(20.0)
FIRST_TIME = math.log(400.0)
"""Of what a long reference has not, so that it is thought to be very rare."""


def build(layout: Layout, shares: Floats, *, rising: bool = False) -> tuple[Floats, list[str]]:
    """Tilts [ALTERNATIVES, COUNT] of one field and their names; rows that are all zero are not used.

    shares: of the cells in the reference. rising: a larger value is worse, nothing else is looked for.
    """
    rows: list[tuple[str, Floats]] = []
    if layout.numeric:
        first, second = _polynomials(layout, shares)
        rows += [("location", first * size) for size in LOCATIONS]
        if not rising:
            rows += [("location", first * -size) for size in LOCATIONS]
            rows += [("scale", second * (sign * size)) for size in SCALES for sign in (1, -1)]
            rows += [("outside", _one(0, size) + _one(ABOVE, size)) for size in (MUCH_MORE, FIRST_TIME)]
    else:
        for at in range(min(len(layout.known), OTHERS)):
            if at < FREQUENT:
                rows.append((f"category={layout.known[at]}", _one(at, -math.log(2.0))))
            if at < FREQUENT + 2:
                rows.append((f"category={layout.known[at]}", _one(at, math.log(2.0))))
        rows.append(("rare", _one(OTHERS, MORE)))
        rows += [("unseen", _one(UNSEEN, size)) for size in (MUCH_MORE, FIRST_TIME)]
    if not rising:
        rows += [("missing", _one(MISSING, size)) for size in (-MORE, MORE, FIRST_TIME)]
    tilts = np.zeros((ALTERNATIVES, COUNT))
    for at, (_, row) in enumerate(rows):
        tilts[at] = row
    return tilts, [name for name, _ in rows] + [""] * (ALTERNATIVES - len(rows))


def few(tilts: Floats) -> Floats:
    """1 for alternatives on at most FEW cells, else 0.

    These are rare, so that the reference says little of how they cluster; they do at least as the field's location.
    """
    found: Floats = ((tilts != 0).sum(-1) <= FEW).astype(float)
    return found


def shortened(tilts: Floats, power: Floats) -> Floats:
    """Factors on tilts [..., alternatives] under dependence: a rare cell that comes in bursts is no normal variable.

    tilts: [..., alternatives, COUNT]; power: one over the dispersion. Tilts over most cells stay as they are.
    """
    size = np.abs(tilts).max(-1)
    allowed = np.maximum(math.log(2.0), size * SHORTENED * power * power)
    found: Floats = np.where((few(tilts) > 0) & (size > allowed), allowed / np.maximum(size, 1e-9), 1.0)
    return found


def _polynomials(layout: Layout, shares: Floats) -> tuple[Floats, Floats]:
    """First and second orthonormal polynomial of the rank over the inner cells; zeros where there is none.

    Beyond the reference they go on as at its edge. Values are cut, as a cell that nearly nothing falls into has large
    ones.
    """
    found = np.zeros((2, COUNT))
    inner = slice(1, max(1, len(layout.edges)))
    inside = shares[inner] / max(float(shares[inner].sum()), 1e-12)
    ranks = np.cumsum(inside) - inside / 2
    basis = [np.ones_like(inside)]
    for power in (1, 2):
        candidate = (ranks - 0.5) ** power
        for known in basis:
            candidate = candidate - known * (inside * candidate * known).sum()
        length = math.sqrt(float((inside * candidate * candidate).sum()))
        if length < SHORTEST**power:
            break
        basis.append(candidate / length)
        found[power - 1, inner] = np.clip(basis[-1], -LARGEST, LARGEST)
        found[power - 1, 0], found[power - 1, ABOVE] = found[power - 1, 1], found[power - 1, inner.stop - 1]
    return found[0], found[1]


def _one(cell: int, weight: float) -> Floats:
    row = np.zeros(COUNT)
    row[cell] = weight
    return row
