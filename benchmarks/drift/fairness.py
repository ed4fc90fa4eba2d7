"""Bias that begins at a known record, in replays of Adult and COMPAS; and the same replays with nothing changed.

COMPAS: the published score, five or more is a positive answer; by date of screening. Adult: a logistic regression that
predicts each row before it learns it. From the middle on something is done to one group. An alarm that names the group
after that finds it; any other group's alarm, and any before, is false. COMPAS is short: it is replayed, shuffled, three
times over, without the screenings from April 2014 on: of those it holds only people who reoffended (Barenstein 2019,
arXiv 1906.04711), which the replay as it is must find.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.drift import tables
from services.monitor.domain.drift.bias import BiasWatch

BUDGET = 100_000.0

Columns = tuple[Any, Any, Any]


WHOLE_BEFORE = "2014-04-01"
"""Screenings of COMPAS from then on are of people who reoffended."""


def compas() -> tuple[Columns, dict[str, Any], int]:
    """Groups, labels, answers; the published rates from them; and how many rows come before WHOLE_BEFORE."""
    rows = tables.raw("compas_by_date")
    groups = np.array([row["race"] for row in rows], object)
    labels = np.array([row["two_year_recid"] == "1" for row in rows], np.uint8)
    answers = np.array([int(row["decile_score"]) >= 5 for row in rows], np.uint8)
    rates = {}
    for group in ("African-American", "Caucasian"):
        there = groups == group
        y, said = labels[there], answers[there]
        rates[group] = {
            "n": int(there.sum()),
            "fpr": round(float(said[y == 0].mean()) * 100, 2),
            "fnr": round(float(1 - said[y == 1].mean()) * 100, 2),
            "ppv": round(float(y[said == 1].mean()), 3),
        }
    whole = sum(row["compas_screening_date"] < WHOLE_BEFORE for row in rows)
    return (groups, labels, answers), rates, whole


def cut(columns: Columns, count: int) -> Columns:
    """The first rows."""
    groups, labels, answers = columns
    return groups[:count], labels[:count], answers[:count]


def adult() -> Columns:
    """Groups by sex, labels, answers of a model."""
    labels, answers, _ = tables.judged("adult")
    return tables.columns("adult")["sex"], labels, answers


def flipped(columns: Columns, group: str, what: str, share: float, begins: int, rng: Any) -> Columns:
    """From `begins` on, that share of the group's positive answers (or labels) is made negative."""
    groups, labels, answers = columns
    kept = {"answers": answers.copy(), "labels": labels.copy()}
    place = (groups == group) & (np.arange(len(groups)) >= begins) & (kept[what] == 1)
    place &= rng.random(len(groups)) < share
    kept[what][place] = 0
    return groups, kept["labels"], kept["answers"]


def replay(columns: Columns, field: str) -> Any:
    """Alarms of a watch over the columns."""
    groups, labels, answers = columns
    return BiasWatch(field, BUDGET).update(list(groups), labels.tobytes(), answers.tobytes())


def measure(seeds: int, say: Callable[..., None]) -> dict[str, Any]:
    """By data set, group, what is changed and by how much."""
    scores, rates, whole = compas()
    found: dict[str, Any] = {"compas_rates": rates}
    say(rates)
    sets = {
        "adult": (adult(), "sex", ("Female", "Male"), 1),
        "compas": (scores, "race", ("African-American", "Caucasian"), 3),
    }
    for name, (held, field, groups, times) in sets.items():
        columns = held
        alarms = replay(columns, field)
        found[f"{name}, as it is"] = {
            "records": len(columns[0]),
            "alarms": [_told(alarm) for alarm in alarms],
        }
        say(name, found[f"{name}, as it is"])
        if name == "compas":
            columns = cut(columns, whole)
            alarms = replay(columns, field)
            found["compas, before April 2014"] = {
                "records": whole,
                "alarms": [_told(alarm) for alarm in alarms],
            }
            say(found["compas, before April 2014"])
        silent, records = 0, 0
        shuffles = [_shuffled(columns, times, np.random.default_rng(seed)) for seed in range(seeds)]
        for shuffle in shuffles:
            silent += len(replay(shuffle, field))
            records += len(shuffle[0])
        found[f"{name}, shuffled"] = {
            "alarms": silent,
            "records": records,
            "allowed": round(records / BUDGET, 2),
        }
        say(name, found[f"{name}, shuffled"])
        for group in groups:
            for what in ("answers", "labels"):
                for share in (0.2, 0.5):
                    place = f"{name}, {group}, {share:.0%} of positive {what} taken away"
                    found[place] = _changed(shuffles, field, group, what, share)
                    say(place, found[place])
    return found


def _changed(shuffles: list[Columns], field: str, group: str, what: str, share: float) -> dict[str, Any]:
    delays, subjects, wrong, dated = [], [], 0, []
    for seed, columns in enumerate(shuffles):
        begins = len(columns[0]) // 2
        moved = flipped(columns, group, what, share, begins, np.random.default_rng(seed))
        alarms = replay(moved, field)
        right = [alarm for alarm in alarms if alarm.index >= begins and alarm.group == f"{field}={group}"]
        wrong += len(alarms) - len(right)
        if right:
            delays.append(right[0].index + 1 - begins)
            dated.append(abs(right[0].since - begins))
            subjects.append(right[0].subject)
    return {
        "seen": len(delays),
        "of": len(shuffles),
        "delay_mean": round(float(np.mean(delays))) if delays else None,
        "dated_within_median": round(float(np.median(dated))) if dated else None,
        "metrics": {subject: subjects.count(subject) for subject in sorted(set(subjects))},
        "false": wrong,
    }


def _shuffled(columns: Columns, times: int, rng: Any) -> Columns:
    order = np.concatenate([rng.permutation(len(columns[0])) for _ in range(times)])
    groups, labels, answers = (held[order] for held in columns)
    return groups, labels, answers


def _told(alarm: Any) -> str:
    change = f"{alarm.before:.3f} to {alarm.after:.3f}"
    return f"{alarm.group} {alarm.subject} at {alarm.index} since {alarm.since}: {change}"
