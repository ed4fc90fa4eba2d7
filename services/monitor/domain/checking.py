"""What the monitor's watches do when nothing drifts, on a stream's own reference: promised and measured, side by side.

Watches are played over the resampled reference (`drift.selfcheck`) as they run live: the same fields, the same share
of the budget. It takes seconds of a processor, so it is done on demand. A reference that does not hold what the stream
does looks fine here: whether it is representative cannot be measured on itself.
"""

from typing import Literal

import msgspec
import numpy as np

from services.monitor.domain.detecting import features
from services.monitor.domain.drift import concept, selfcheck
from services.monitor.domain.drift.budget import Budget
from services.monitor.domain.drift.pace import DAY_MS
from services.monitor.domain.finding import share
from services.monitor.domain.tolerance import Tolerance
from services.monitor.domain.why.stretch import SERVED, Stretch

FEWEST = 512
"""Records of a reference, without which there is nothing to resample."""


class Check(msgspec.Struct, frozen=True):
    """One kind of watches. promised, measured: records for one false alarm; measured None: not one, at any threshold.

    model: whose errors. records: of the reference, from first_offset to last_offset; needed: for a whole one. exponent:
    of the rate against the threshold: 1 as in theory, smaller if alarms are commoner; None: too few to tell.
    extrapolated: the budget lies beyond the thresholds that were played. alarms: in `played` records, at each of
    `thresholds`.
    """

    what: Literal["fields", "errors"]
    model: str
    records: int
    needed: int
    first_offset: int
    last_offset: int
    promised: float
    measured: float | None
    kept: bool
    exponent: float | None
    extrapolated: bool
    played: int
    thresholds: list[float]
    alarms: list[int]


def of_fields(stretch: Stretch, tolerance: Tolerance) -> Check | None:
    """The first observations of a stretch as the reference of its features; None if they are too few."""
    facts = stretch.facts
    numeric, categorical = features(facts, tolerance)
    count = min(tolerance.reference.records, len(stretch.offsets))
    if count < FEWEST or not (numeric or categorical) or not tolerance.watches("data"):
        return None
    columns = {name: stretch.numbers.get(name, np.full(count, np.nan))[:count] for name in numeric}
    texts = {
        name: np.array(list(stretch.texts.get(name, [None] * count))[:count], object) for name in categorical
    }
    budget = share(_budget(stretch, tolerance), "data", {"": 1.0})[""]
    measured = selfcheck.of_fields({**columns, **texts}, numeric, categorical, budget)
    return _check("fields", "", stretch.offsets[:count].tolist(), measured, tolerance.reference.records)


def of_errors(stretch: Stretch, tolerance: Tolerance) -> Check | None:
    """The first outcomes of who answered last, as the reference of its errors; None if they are too few."""
    model = next((name for name in reversed(stretch.top) if name), SERVED)
    wrong = stretch.voices[model].wrong if model in stretch.voices else np.empty(0)
    known = np.flatnonzero(np.isfinite(wrong))[: tolerance.reference.records]
    if stretch.facts.task == "regression" or len(known) < FEWEST or not tolerance.watches("concept"):
        return None
    budget = share(_budget(stretch, tolerance), "concept", concept.WEIGHTS[stretch.facts.task])["error"]
    measured = selfcheck.of_signal(wrong[known].astype(np.uint8).tobytes(), budget)
    return _check("errors", model, stretch.offsets[known].tolist(), measured, tolerance.reference.records)


def _budget(stretch: Stretch, tolerance: Tolerance) -> Budget:
    """One in days is taken at the pace of the stretch."""
    passed = int(stretch.at[-1] - stretch.at[0])
    return tolerance.budget(len(stretch.at) * DAY_MS / passed if passed > 0 else None)


def _check(
    what: Literal["fields", "errors"],
    model: str,
    offsets: list[int],
    found: selfcheck.Measured,
    needed: int,
) -> Check:
    measured = found.measured if np.isfinite(found.measured) else None
    return Check(
        what, model, len(offsets), needed, offsets[0], offsets[-1], found.budget, measured,
        measured is None or measured >= found.budget, found.exponent, found.extrapolated, found.records,
        found.thresholds, found.alarms,
    )  # fmt: skip
