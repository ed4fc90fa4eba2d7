"""Volume: how often it alarms where nothing changes but the time of day, and how soon less (or more) is seen.

Made-up streams are Poisson with a profile by hour of the week, or with days that depend on one another as weather does;
`bike` has the rentals of two years of Capital Bikeshare as records: season, growth and weather are in them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.drift.tables import raw
from services.monitor.domain.drift.volume import APART, HOUR_MS, REFERENCE, WEEK, VolumeWatch

Floats = np.ndarray[Any, np.dtype[np.float64]]
Say = Callable[..., None]

WARM = APART + REFERENCE
DAY = 24
YEARS = 20
CHANGES = {"a tenth": 0.1, "half": 0.5, "four fifths": 0.8, "a tenth more": 1.1, "twice": 2.0}
"""Of what came before, from then on."""
AFTER_DAYS = 60
DAYS_OF_BUDGET = (60.0, 600.0, 6_000.0)
"""Days for one false alarm of volume alone."""


def cycle(hours: int, hourly: float) -> Floats:
    """Mean records an hour: by day ten times as many as by night, on weekends a third."""
    hour = np.arange(hours)
    day = np.where((hour % DAY >= 7) & (hour % DAY < 19), 1.8, 0.2)
    found: Floats = hourly * day * np.where(hour // DAY % 7 >= 5, 1 / 3, 1.0)
    return found


def weather(hours: int, spread: float, phi: float, rng: np.random.Generator) -> Floats:
    """A factor for each day: log-normal, the correlation of neighbours being phi."""
    days = hours // DAY + 1
    level = np.zeros(days)
    for day in range(1, days):
        level[day] = phi * level[day - 1] + np.sqrt(1 - phi * phi) * rng.standard_normal()
    found: Floats = np.exp(spread * np.repeat(level, DAY)[:hours])
    return found


SERIES: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "constant, 20 an hour": lambda hours, _: np.full(hours, 20.0),
    "day and night, 2 an hour": lambda hours, _: cycle(hours, 2.0),
    "day and night, 100 an hour": lambda hours, _: cycle(hours, 100.0),
    "and days differ by 20 %": lambda hours, rng: cycle(hours, 100.0) * weather(hours, 0.2, 0.0, rng),
    "and days of .7, by 20 %": lambda hours, rng: cycle(hours, 100.0) * weather(hours, 0.2, 0.7, rng),
}


def alarms(counts: Floats, days: float) -> list[int]:
    """Hours at which there is an alarm, at one false alarm in so many days."""
    whole = counts.astype(int)
    times = np.repeat(np.arange(len(whole)) * HOUR_MS, whole)
    watch = VolumeWatch(days * DAY * float(counts.mean()))
    return [int(times[alarm.index]) // HOUR_MS for alarm in watch.update(times)]


def bike() -> Floats:
    """Rentals by hour, two years; hours without a row had none."""
    rows = raw("bike_hour")
    first = np.datetime64(rows[0]["dteday"])
    hours = [
        int((np.datetime64(row["dteday"]) - first) / np.timedelta64(1, "h")) + int(row["hr"]) for row in rows
    ]
    found = np.zeros(max(hours) + 1)
    found[hours] = [float(row["cnt"]) for row in rows]
    return found


def measure(seeds: int, say: Say) -> dict[str, Any]:
    """False alarms in years of every series, and delays in days by change."""
    found: dict[str, Any] = {"null": {}, "seen": {}, "bike": {}}
    hours = YEARS * 365 * DAY
    for name, means in SERIES.items():
        rng = np.random.default_rng(7)
        counts = rng.poisson(means(hours, rng)).astype(float)
        for days in DAYS_OF_BUDGET:
            got = len(alarms(counts, days))
            allowed = (hours - WARM) / DAY / days
            found["null"][f"{name}, 1 in {days:.0f} days"] = {"alarms": got, "allowed": round(allowed, 1)}
            say("null", name, days, got, round(allowed, 1))
        for change, factor in CHANGES.items():
            found["seen"][f"{name}, {change}"] = seen(means, factor, seeds)
            say("seen", name, change, found["seen"][f"{name}, {change}"])
    rentals = bike()
    for days in DAYS_OF_BUDGET:
        found["bike"][f"as it is, 1 in {days:.0f} days"] = [at // DAY for at in alarms(rentals, days)]
    for days in DAYS_OF_BUDGET:
        got = sum(len(alarms(shuffled(rentals, seed), days)) for seed in range(2 * seeds))
        allowed = 2 * seeds * (len(rentals) - WARM) / DAY / days
        found["bike"][f"weeks shuffled, 1 in {days:.0f} days"] = {
            "alarms": got,
            "allowed": round(allowed, 1),
        }
    say("bike", found["bike"])
    return found


def shuffled(counts: Floats, seed: int) -> Floats:
    """Its weeks in another order: no season, but weeks unlike each other."""
    weeks = counts[: len(counts) // WEEK * WEEK].reshape(-1, WEEK)
    return np.random.default_rng(seed).permutation(weeks).ravel()


def seen(means: Callable[[int, np.random.Generator], Floats], factor: float, seeds: int) -> dict[str, Any]:
    """At one in 600 days: runs in which the change is seen within AFTER_DAYS, after how many days (median)."""
    delays = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        begins = WARM + 30 * DAY
        mean = means(begins + AFTER_DAYS * DAY, rng)
        mean[begins:] *= factor
        after = [at for at in alarms(rng.poisson(mean).astype(float), DAYS_OF_BUDGET[1]) if at >= begins]
        delays += [(after[0] - begins) / DAY] if after else []
    return {"seen": len(delays), "of": seeds, "days": float(np.median(delays)) if delays else None}
