"""How soon a shift in one field of 50 is seen, at one false alarm in 100,000 records for all of them; and how fast it
is.
"""

from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np

from benchmarks.drift.nulls import autoregressive
from services.monitor.domain.drift.bernoulli import BernoulliWatch
from services.monitor.domain.drift.concept import WEIGHTS, ConceptWatch, binary
from services.monitor.domain.drift.data import DataWatch

FIELDS = 50
BEGINS = 20_000
LASTS = 20_000
BUDGET = 100_000.0


def _shift(by: float) -> Callable[[Any], None]:
    def change(series: Any) -> None:
        series[0, BEGINS:] += by

    return change


def _scale(by: float) -> Callable[[Any], None]:
    def change(series: Any) -> None:
        series[0, BEGINS:] *= by

    return change


def _correlate(by: float) -> Callable[[Any], None]:
    def change(series: Any) -> None:
        series[0, BEGINS:] = by * series[1, BEGINS:] + np.sqrt(1 - by * by) * series[0, BEGINS:]

    return change


def _lose(share: float) -> Callable[[Any], None]:
    def change(series: Any) -> None:
        series[0, BEGINS:][np.random.default_rng(1).random(LASTS) < share] = np.nan

    return change


def _gamma(series: Any) -> None:
    """Mean and variance stay, the shape changes."""
    series[0, BEGINS:] = np.random.default_rng(1).exponential(size=LASTS) - 1.0


CHANGES: dict[str, Callable[[Any], None]] = {
    "shift 0.25 sd": _shift(0.25),
    "shift 0.5 sd": _shift(0.5),
    "shift 1 sd": _shift(1.0),
    "scale x 1.5": _scale(1.5),
    "exponential, same mean and sd": _gamma,
    "1 % missing": _lose(0.01),
    "5 % missing": _lose(0.05),
    "correlation 0 to 0.3": _correlate(0.3),
    "correlation 0 to 0.6": _correlate(0.6),
    "correlation 0 to 0.9": _correlate(0.9),
}


def measure(seeds: int, say: Callable[..., None]) -> dict[str, Any]:
    """Delay in records to the first alarm that names the field that changed; alarms before that, and on others."""
    names = [f"f{at}" for at in range(FIELDS)]
    found: dict[str, Any] = {}
    for phi in (0.0, 0.9):
        for name, change in CHANGES.items():
            if phi and name.startswith(("exponential", "1 %", "5 %")):
                continue
            delays, wrong, off = [], 0, []
            for seed in range(seeds):
                series = autoregressive(phi, FIELDS, BEGINS + LASTS, np.random.default_rng(1_000 + seed))
                change(series)
                watch = DataWatch(names, [], BUDGET)
                alarms = watch.update(dict(zip(names, series, strict=True)), BEGINS + LASTS)
                right = [
                    alarm for alarm in alarms if "f0" in alarm.subject.split(" x ") and alarm.index >= BEGINS
                ]
                delays += [right[0].index + 1 - BEGINS] if right else []
                off += [abs(right[0].since - BEGINS)] if right else []
                wrong += len(alarms) - len(right)
            place = f"AR {phi}, {name}"
            found[place] = {
                "seen": len(delays),
                "of": seeds,
                "delay_mean": round(float(np.mean(delays))) if delays else None,
                "delay_p90": round(float(np.quantile(delays, 0.9))) if delays else None,
                "dated_within_median": round(float(np.median(off))) if off else None,
                "false": wrong,
                "records": seeds * (BEGINS + LASTS),
            }
            say(place, found[place])
    return found | {"speed": speed(say)}


def speed(say: Callable[..., None]) -> dict[str, float]:
    """Processor time alone, batches of 1,000."""
    count, batch = 100_000, 1_000
    rng = np.random.default_rng(0)
    names = [f"f{at}" for at in range(FIELDS)]
    series = dict(zip(names, rng.standard_normal((FIELDS, count)), strict=True))
    scores = rng.random(count)
    labels = (rng.random(count) < scores).astype(np.uint8)
    wrong = (labels != (scores > 0.5)).astype(np.uint8).tobytes()
    answers = (scores > 0.5).astype(np.uint8).tobytes()
    fields, everything = (
        DataWatch(names, [], BUDGET),
        ConceptWatch("binary", dict.fromkeys(WEIGHTS["binary"], 1e6)),
    )
    errors = BernoulliWatch(1e6)
    text = labels.tobytes()

    def piece(start: int) -> dict[str, Any]:
        return {name: held[start : start + batch] for name, held in series.items()}

    found = {
        "fields_per_second": count / _timed(lambda at: fields.fields.update(piece(at), batch), count, batch),
        "pairs_per_second": count / _timed(lambda at: _pairs(fields).update(piece(at), batch), count, batch),
        "error_us": _timed(lambda at: errors.update(wrong[at : at + batch]), count, batch) / count * 1e6,
        "concept_us": _timed(
            lambda at: everything.update(
                binary(text[at : at + batch], answers[at : at + batch], scores[at : at + batch])
            ),
            count,
            batch,
        )
        / count
        * 1e6,
    }
    say("speed", found)
    return {name: round(value, 2) for name, value in found.items()}


def _pairs(watch: DataWatch) -> Any:
    return watch.pairs


def _timed(step: Callable[[int], Any], count: int, batch: int) -> float:
    begun = process_time()
    for at in range(0, count, batch):
        step(at)
    return process_time() - begun
