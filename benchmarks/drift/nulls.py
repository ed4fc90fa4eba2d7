"""False alarms where nothing drifts: counts, records, and an exact Poisson interval of the rate, against the budget."""

from collections.abc import Callable
from typing import Any

import numpy as np
from river import drift
from river.drift import binary
from scipy.signal import lfilter
from scipy.stats import chi2

from benchmarks.drift import tables
from services.monitor.domain.drift.bernoulli import BOTH, RISES, BernoulliWatch
from services.monitor.domain.drift.concept import ConceptWatch
from services.monitor.domain.drift.concept import binary as binary_of
from services.monitor.domain.drift.data import DataWatch

Say = Callable[..., None]


def interval(alarms: int, records: int, budget: float) -> dict[str, Any]:
    """Alarms for 100,000 records, with a 95 % interval, and how many the budget allows in these records."""
    low = chi2.ppf(0.025, 2 * alarms) / 2 if alarms else 0.0
    high = chi2.ppf(0.975, 2 * alarms + 2) / 2
    scale = 1e5 / records
    return {
        "alarms": alarms,
        "records": records,
        "allowed": round(records / budget, 1),
        "per_100k": round(alarms * scale, 3),
        "interval": [round(float(low * scale), 3), round(float(high * scale), 3)],
        "within": bool(low * scale <= 1e5 / budget),
    }


def autoregressive(phi: float, fields: int, count: int, rng: np.random.Generator) -> Any:
    """Stationary normal series of variance 1 [fields, count]."""
    noise = rng.standard_normal((fields, count + 500))
    return lfilter([np.sqrt(1 - phi * phi)], [1, -phi], noise, axis=1)[:, 500:]


def made_up(seeds: int, count: int, budgets: tuple[float, ...], say: Say) -> dict[str, Any]:
    """Normal series, independent and not, of 1 field and of 50."""
    found: dict[str, Any] = {}
    for phi in (0.0, 0.5, 0.9):
        for fields in (1, 50):
            for budget in budgets:
                names = [f"f{at}" for at in range(fields)]
                alarms = 0
                for seed in range(seeds):
                    series = autoregressive(phi, fields, count, np.random.default_rng(seed))
                    watch = DataWatch(names, [], budget)
                    alarms += len(watch.update(dict(zip(names, series, strict=True)), count))
                name = f"AR {phi}, {fields} fields, 1 in {budget:,.0f}"
                found[name] = interval(alarms, seeds * count, budget)
                say(name, found[name])
    return found


def zero_one(seeds: int, count: int, budgets: tuple[float, ...], say: Say) -> dict[str, Any]:
    """Independent and sticky 0/1 series."""
    found: dict[str, Any] = {}
    for rate, sticky in (
        (0.05, 0.0),
        (0.2, 0.0),
        (0.5, 0.0),
        (0.2, 0.5),
        (0.2, 0.8),
        (0.05, 0.8),
        (0.01, 0.9),
    ):
        for budget in budgets:
            alarms = 0
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                values = _sticky(rate, sticky, count, rng)
                alarms += len(BernoulliWatch(budget, factors=RISES if seed % 2 else BOTH).update(values))
            name = f"rate {rate}, stays with {sticky}, 1 in {budget:,.0f}"
            found[name] = interval(alarms, seeds * count, budget)
            say(name, found[name])
    return found


def _sticky(rate: float, sticky: float, count: int, rng: np.random.Generator) -> bytes:
    """0/1 series in which a record is, with probability `sticky`, as the one before, and else drawn."""
    drawn = rng.random(count) < rate
    stays = rng.random(count) < sticky
    stays[0] = False
    origin = np.maximum.accumulate(np.where(stays, 0, np.arange(count)))
    return drawn[origin].astype(np.uint8).tobytes()


TRUTHS: dict[str, Callable[[Any], Any]] = {
    "calibrated": lambda scores: scores,
    "bent": lambda scores: 0.2 + 0.6 * scores**2,
    "too sure": lambda scores: 0.5 + 0.6 * (scores - 0.5),
}


def scores(seeds: int, count: int, budgets: tuple[float, ...], say: Say) -> dict[str, Any]:
    """Calibration and log loss of models that do not learn, well calibrated and not."""
    found: dict[str, Any] = {}
    for truth, chance in TRUTHS.items():
        for statistic in ("calibration", "log_loss"):
            for budget in budgets:
                alarms = 0
                for seed in range(seeds):
                    rng = np.random.default_rng(seed)
                    said = rng.beta(0.6, 0.6, count)
                    labels = (rng.random(count) < chance(said)).astype(np.uint8).tobytes()
                    watch = ConceptWatch("binary", {statistic: budget})
                    alarms += len(watch.update(binary_of(labels, labels, said)))
                name = f"{truth}, {statistic}, 1 in {budget:,.0f}"
                found[name] = interval(alarms, seeds * count, budget)
                say(name, found[name])
    return found


def real(seeds: int, budgets: tuple[float, ...], blocks: tuple[int, ...], say: Say) -> dict[str, Any]:
    """Real data sets in random order of rows, or of blocks of rows: all fields, and a model's errors."""
    found: dict[str, Any] = {}
    for name, (numeric, categorical) in tables.FIELDS.items():
        columns = tables.columns(name)
        count = len(columns[numeric[0]])
        wrong = _wrong(name)
        for block in blocks:
            for budget in budgets:
                data = errors = 0
                for seed in range(seeds):
                    order = tables.permuted(count, block, np.random.default_rng(seed))
                    length = len(order)
                    watch = DataWatch(numeric, categorical, budget)
                    data += len(watch.update({field: held[order] for field, held in columns.items()}, length))
                    if wrong is not None:
                        errors += len(BernoulliWatch(budget).update(wrong[order].tobytes()))
                place = f"{name}, blocks of {block}, 1 in {budget:,.0f}"
                found[f"{place}: fields"] = interval(data, seeds * length, budget)
                say(place, found[f"{place}: fields"])
                if wrong is not None:
                    found[f"{place}: errors"] = interval(errors, seeds * length, budget)
                    say(place, found[f"{place}: errors"])
    return found


def _wrong(name: str) -> Any:
    if name not in tables.LABELS:
        return None
    labels, answers, _ = tables.judged(name)
    return (labels != answers).astype(np.uint8)


def rivers(seeds: int, count: int, say: Say) -> dict[str, Any]:
    """River's detectors at their defaults on the same series, one field."""
    found: dict[str, Any] = {}
    for phi in (0.0, 0.5, 0.9):
        for make in (drift.ADWIN, drift.PageHinkley):
            alarms = 0
            for seed in range(seeds):
                series = autoregressive(phi, 1, count, np.random.default_rng(seed))[0]
                alarms += _alarms(make(), series.tolist())
            found[f"{make.__name__}, AR {phi}"] = round(alarms / (seeds * count) * 1e5, 2)
            say(f"{make.__name__}, AR {phi}", found[f"{make.__name__}, AR {phi}"])
    for rate, sticky in ((0.2, 0.0), (0.2, 0.5), (0.2, 0.8)):
        for make in (drift.ADWIN, binary.HDDMA, binary.HDDMW, binary.DDM, drift.PageHinkley):
            alarms = 0
            for seed in range(seeds):
                values = _sticky(rate, sticky, count, np.random.default_rng(seed))
                alarms += _alarms(make(), [bool(value) for value in values])
            name = f"{make.__name__}, rate {rate}, stays with {sticky}"
            found[name] = round(alarms / (seeds * count) * 1e5, 2)
            say(name, found[name])
    return found


def _alarms(detector: Any, values: list[Any]) -> int:
    found = 0
    for value in values:
        detector.update(value)
        found += detector.drift_detected
    return found
