"""What a watch does when nothing drifts, measured on its own reference: the budget held against what is.

The reference is resampled (in blocks, if its records depend on one another), and watches are run over that. A rate of
one in a million records cannot be counted in a short while, so the alarms are counted at lower thresholds, where they
are frequent, and the straight line of log rate against log threshold is followed to the real one. The exponent of that
line tells most: 1 if evidence grows as the theory has it, smaller if alarms are commoner than they should be. That the
reference is representative cannot be measured on the reference.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.drift.bernoulli import RISES, BernoulliWatch
from services.monitor.domain.drift.data import DataWatch

LADDER = (2_000.0, 8_000.0, 32_000.0)
"""Lower thresholds that are played, as far as they are below the budget."""

BLOCK = 64
"""Records in a block, if they depend on one another. What is rare in the reference then comes again with its block, so
that the rate found is an upper one."""

SIGNIFICANT = 4.0
"""Standard errors of a correlation of neighbours from which records count as dependent."""

FEWEST = 10
"""Alarms at a threshold that make it a point of the line; without two points, theory's line is taken."""


class Measured(msgspec.Struct, frozen=True):
    """The budget, and what was found.

    budget: records for one false alarm as promised; measured: as found, inf if there was no alarm at any threshold.
    exponent: of the rate against the threshold, None with too few alarms to tell; extrapolated: the budget is
    beyond the thresholds that were played. records, alarms: played and counted at each.
    """

    budget: float
    measured: float
    exponent: float | None
    extrapolated: bool
    records: int
    thresholds: list[float]
    alarms: list[int]


def of_signal(
    values: bytes,
    budget: float,
    *,
    factors: Sequence[float] = RISES,
    records: int = 1_000_000,
    seed: int = 0,
) -> Measured:
    """Of a 0/1 signal, from its reference, a byte each."""
    reference = np.frombuffer(values, np.uint8)
    block = BLOCK if _dependent([reference.astype(float)]) else 1
    played = reference[resampled(len(reference), records, block, seed)].tobytes()
    return measure(lambda lower: len(BernoulliWatch(lower, factors=factors).update(played)), records, budget)


def of_fields(
    columns: Mapping[str, Any],
    numeric: Sequence[str],
    categorical: Sequence[str],
    budget: float,
    *,
    records: int = 50_000,
    seed: int = 0,
) -> Measured:
    """Of features, from their reference: columns as for DataWatch.update."""
    held = {name: np.asarray(column) for name, column in columns.items()}
    block = BLOCK if _dependent([held[name] for name in numeric]) else 1
    order = resampled(len(held[(*numeric, *categorical)[0]]), records, block, seed)
    played = {name: column[order] for name, column in held.items()}
    return measure(
        lambda lower: len(DataWatch(numeric, categorical, lower).update(played, records)), records, budget
    )


def _dependent(series: Sequence[NDArray[np.float64]]) -> bool:
    """Whether neighbours in one of the series are more alike than chance has it, extremes cut."""
    for values in series:
        centred = values[np.isfinite(values)]
        centred = (
            np.clip(centred, *np.quantile(centred, [0.05, 0.95])) if len(np.unique(centred)) > 2 else centred
        )
        centred = centred - centred.mean() if len(centred) else centred
        together, alone = centred[1:] @ centred[:-1], centred @ centred
        if alone > 0 and together / alone > SIGNIFICANT / np.sqrt(len(centred)):
            return True
    return False


def resampled(length: int, count: int, block: int, seed: int) -> NDArray[np.int64]:
    """`count` places in a reference of that length: blocks from anywhere in it, in the order drawn."""
    block = min(block, length)
    starts = np.random.default_rng(seed).integers(0, length - block + 1, -(-count // block))
    places: NDArray[np.int64] = (starts[:, None] + np.arange(block)).ravel()[:count]
    return places


def measure(alarms_at: Callable[[float], int], records: int, budget: float) -> Measured:
    """alarms_at: how many alarms there are in `records` played records at a threshold."""
    thresholds = [threshold for threshold in LADDER if threshold < budget] or [budget]
    alarms = [alarms_at(threshold) for threshold in thresholds]
    counted = [(math.log(at), math.log(found)) for at, found in zip(thresholds, alarms, strict=True) if found]
    if not counted:
        return Measured(budget, math.inf, None, thresholds[-1] < budget, records, thresholds, alarms)
    firm = [point for point, found in zip(counted, alarms, strict=False) if found >= FEWEST]
    exponent = _slope(firm) if len(firm) > 1 else None
    last, found = counted[-1]
    falls = (
        1.0 if exponent is None else min(1.0, max(0.0, exponent))
    )  # steeper than theory is not believed that far
    rate = math.exp(found) / records * math.exp(-falls * (math.log(budget) - last))
    return Measured(budget, 1 / rate, exponent, thresholds[-1] < budget, records, thresholds, alarms)


def _slope(points: list[tuple[float, float]]) -> float:
    across, up = np.array(points).T
    return -float(np.polyfit(across, up, 1)[0])
