"""The values of one field, in tallies that merge.

Sums of floats are added one by one in the log's order (`np.add.accumulate` does that, `np.sum` does not), so that they
come out the same however the records were batched. Texts are told apart up to a bound, those that came first.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from headrace.contracts.statistics import FieldTally
from services.monitor.domain import sketches
from services.monitor.domain.columns import TEXT_LENGTH

VALUES_KEPT = 50
"""Texts of a field told apart in one window; more, and longer ones than `TEXT_LENGTH`, are counted as `other`."""
NEW_KEPT = 20
"""New texts of a field that a window names."""
LARGEST = 1e150
"""Distances are held within this, so that a sum of squares stays finite (JSON knows no infinity)."""

Numbers = NDArray[np.float64]


def add_numbers(tally: FieldTally, values: Numbers) -> None:
    """Count finite numbers."""
    if not values.size:
        return
    least, greatest = float(values.min()), float(values.max())
    if tally.count == 0 or tally.least is None or tally.greatest is None:
        tally.origin, tally.least, tally.greatest = float(values[0]), least, greatest
    else:
        tally.least, tally.greatest = min(tally.least, least), max(tally.greatest, greatest)
    distances = values - tally.origin
    if max(-least, greatest, abs(tally.origin)) > LARGEST / 2:
        distances = np.clip(distances, -LARGEST, LARGEST)
    tally.count += int(values.size)
    tally.sum = _added(tally.sum, distances)
    tally.squares = _added(tally.squares, distances * distances)
    sketches.add(tally.sketch, values)


def add_texts(tally: FieldTally, counts: Mapping[str, int]) -> None:
    """Count texts, given in the order in which they came first."""
    values = tally.values
    for text, count in counts.items():
        tally.count += count
        if text in values:
            values[text] += count
        elif len(values) < VALUES_KEPT and len(text) <= TEXT_LENGTH:
            values[text] = count
        else:
            tally.other += count


def merge(into: FieldTally, other: FieldTally) -> None:
    """Add what another tally has counted."""
    into.mistyped += other.mistyped
    into.other += other.other
    into.new += [text for text in other.new if text not in into.new][: NEW_KEPT - len(into.new)]
    if other.least is None or other.greatest is None:
        add_texts(into, other.values)
        into.count += other.other
        return
    if into.least is None or into.greatest is None:
        into.origin, into.least, into.greatest = other.origin, other.least, other.greatest
    shift = min(max(other.origin - into.origin, -LARGEST), LARGEST)
    n = other.count
    into.sum += other.sum + n * shift
    into.squares += other.squares + 2.0 * shift * other.sum + n * shift * shift
    into.least, into.greatest = min(into.least, other.least), max(into.greatest, other.greatest)
    into.count += n
    sketches.merge(into.sketch, other.sketch)


def mean(tally: FieldTally) -> float | None:
    """Of a field of numbers; None without any."""
    return tally.origin + tally.sum / tally.count if tally.least is not None else None


def variance(tally: FieldTally) -> float | None:
    """Of the population; None without numbers."""
    if tally.least is None:
        return None
    return max(tally.squares - tally.sum * tally.sum / tally.count, 0.0) / tally.count


def _added(before: float, values: Numbers) -> float:
    return float(np.add.accumulate(np.concatenate(((before,), values)))[-1])
