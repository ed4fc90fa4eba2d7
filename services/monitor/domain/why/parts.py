"""What carries a change of the loss: for each field, more records where it is large, or a larger loss where they are.

A mean loss is a sum over the cells of any field: share of records times their loss. So its change splits without a
remainder into shares that changed (times how the cell's loss lies to the mean) and losses that changed (times the
cell's share), each taken midway between before and after. Told of a cell is only what lies beyond chance for the
largest of all cells of all fields; of a loss that grew, only where it grew otherwise than elsewhere: a model that is
worse everywhere is worse in every cell, and naming them all would say nothing.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from services.monitor.domain.drift.arrays import Floats
from services.monitor.domain.why.chance import (
    Side,
    alone,
    between,
    contrasts_apart,
    limit,
    means_apart,
    shares_apart,
    side,
)
from services.monitor.domain.why.sorting import Sorted, gathered
from services.monitor.domain.why.stretch import Flags

How = Literal["more records", "fewer records", "worse", "better"]

PARTS_TOLD = 20
FEWEST = 20
"""Records on each side, with which a cell's loss is compared."""
SPREAD = 4
"""Blocks that those must be spread over."""
FEWEST_LABELS = 50
"""Labelled records on each side, with which anything is said of the loss."""


class Part(msgspec.Struct, frozen=True):
    """A cell of a field that carries some of the change. carried: of the mean loss; error: its standard error.

    before, after: share of the records. loss_before, loss_after: their mean loss, None if there are none.
    """

    field: str
    cell: str
    how: How
    carried: float
    error: float
    before: float
    after: float
    loss_before: float | None
    loss_after: float | None


class Split(msgspec.Struct, frozen=True):
    """A field's whole split: shifted (other shares of records) and worse (other losses) are the change together."""

    field: str
    shifted: float
    worse: float


class LossChange(msgspec.Struct, frozen=True):
    """A mean loss before and after. error: standard error of the change. sure: it is beyond chance."""

    name: str
    before: float
    after: float
    change: float
    error: float
    before_count: int
    after_count: int
    sure: bool


def changed(name: str, loss: Floats, after: Flags) -> LossChange | None:
    """How the loss changed; None if too little of it is known."""
    known = np.isfinite(loss)
    first, second = loss[known & ~after], loss[known & after]
    if min(len(first), len(second)) < FEWEST_LABELS:
        return None
    sides = [side(np.zeros(len(one), np.intp), one, 1) for one in (first, second)]
    error = float(np.sqrt(means_apart(*sides)[0]))
    change = float(second.mean() - first.mean())
    return LossChange(
        name, float(first.mean()), float(second.mean()), change, error, len(first), len(second),
        bool(abs(change) > limit(1) * error),
    )  # fmt: skip


def carried(fields: Mapping[str, Sorted], loss: Floats, after: Flags) -> tuple[list[Part], list[Split]]:
    """Parts beyond chance, the largest first, at most `PARTS_TOLD`; and every field's split in the order given.

    fields: by name, cells of all records. loss: NaN if it is not known.
    """
    known = np.isfinite(loss)
    values, late = loss[known], after[known]
    if min(int(late.sum()), int((~late).sum())) < FEWEST_LABELS:
        return [], []
    cut = {name: gathered(one, known) for name, one in fields.items()}
    looks = 2 * sum(len(one.names) for one in cut.values() if len(one.names) > 1)
    parts: list[Part] = []
    splits: list[Split] = []
    for name, one in cut.items():
        if len(one.names) < 2:
            continue
        width = len(one.names)
        first = side(one.codes[~late], values[~late], width)
        second = side(one.codes[late], values[late], width)
        found, split = _split(name, one.names, first, second, limit(looks))
        parts += found
        splits.append(split)
    return sorted(parts, key=lambda part: -abs(part.carried))[:PARTS_TOLD], splits


def _split(field: str, names: list[str], first: Side, second: Side, far: float) -> tuple[list[Part], Split]:
    p, q = first.shares, second.shares
    # A side with next to no records in a cell says nothing of its loss there: the other side speaks for both.
    known = _known(first), _known(second)
    joint = (first.sums + second.sums) / (first.counts + second.counts)
    m = np.where(known[0], first.means, np.where(known[1], second.means, joint))
    n = np.where(known[1], second.means, m)
    middle = (first.sums.sum() / first.total + second.sums.sum() / second.total) / 2
    above, share = (m + n) / 2 - middle, (p + q) / 2
    shifted = (q - p) * above
    # What is left of a cell's contribution; of one that is known on both sides that is its share times n - m.
    worse = second.sums / second.total - first.sums / first.total - (q - p) * middle - shifted
    shifted_error = _shift_error(first, second, above, known)
    worse_error, apart = _worse(first, second)
    parts: list[Part] = []
    for place, cell in enumerate(names):
        told = (float(p[place]), float(q[place]), _mean(first, place), _mean(second, place))
        if abs(shifted[place]) > far * shifted_error[place]:
            how: How = "more records" if q[place] > p[place] else "fewer records"
            parts.append(Part(field, cell, how, float(shifted[place]), float(shifted_error[place]), *told))
        enough = known[0][place] and known[1][place]
        single = np.sign(apart[place]) == np.sign(n[place] - m[place]) and abs(apart[place]) > far
        if enough and single and abs(n[place] - m[place]) > far * worse_error[place]:
            how = "worse" if n[place] > m[place] else "better"
            error = float(share[place] * worse_error[place])
            parts.append(Part(field, cell, how, float(worse[place]), error, *told))
    return parts, Split(field, float(shifted.sum()), float(worse.sum()))


def _known(one: Side) -> Flags:
    found: Flags = (one.counts >= FEWEST) & (one.spread >= SPREAD)
    return found


def _shift_error(first: Side, second: Side, above: Floats, known: tuple[Flags, Flags]) -> Floats:
    """Of (q - p) x above: both are estimates. inf where there is nothing to compare with."""
    both = (first.counts + second.counts) / (first.total + second.total)
    shares = shares_apart(first, second)[0]
    levels = np.where(
        known[0] & known[1],
        (_level(first) + _level(second)) / 4,
        np.where(known[0], _level(first), _level(second)),
    )
    with np.errstate(invalid="ignore"):
        found: Floats = np.sqrt(
            above**2 * shares + (second.shares - first.shares) ** 2 * (1 - both) ** 2 * levels
        )
    return np.nan_to_num(found, nan=np.inf, posinf=np.inf)


def _level(one: Side) -> Floats:
    """Variance of a cell's mean loss less that of all others; inf where one of them is empty."""
    rest = one.rest()
    blocked = between(one.residuals() - rest.residuals())
    return np.nan_to_num(np.maximum(alone(one) + alone(rest), blocked), nan=np.inf, posinf=np.inf)


def _worse(first: Side, second: Side) -> tuple[Floats, Floats]:
    """Standard error of each cell's change of loss; and how far that lies from the change elsewhere, in such errors."""
    others = first.rest(), second.rest()
    error = np.sqrt(means_apart(first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = (second.means - first.means) - (others[1].means - others[0].means)
        found = apart / np.sqrt(contrasts_apart(first, second))
    return np.nan_to_num(error, nan=np.inf), np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


def _mean(one: Side, place: int) -> float | None:
    return float(one.means[place]) if one.counts[place] else None
