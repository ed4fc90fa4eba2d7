"""Errors of a GaussianNB that is reset at each alarm, on streams with known drifts: delay against false alarms.

As drift.md of the reference measurements did it. An alarm within the stream's window after a drift finds it; every
other alarm is false, second ones for the same drift too. The River detectors are at their defaults.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from river import drift, naive_bayes
from river.drift import binary

from benchmarks.drift.streams import DRIFTS, WINDOW, Row, generated, stored
from services.monitor.domain.drift import concept
from services.monitor.domain.drift.bernoulli import BernoulliWatch


class Errors:
    """Headrace, errors alone."""

    def __init__(self, budget: float) -> None:
        self.watch = BernoulliWatch(budget)

    def moved(self, wrong: bool, _y: bool, _score: float) -> bool:
        return bool(self.watch.update(b"\1" if wrong else b"\0"))


class Everything:
    """Headrace: errors, log loss and calibration share the budget."""

    def __init__(self, budget: float) -> None:
        weights = concept.WEIGHTS["binary"]
        self.watch = concept.ConceptWatch(
            "binary", {name: budget * sum(weights.values()) / weight for name, weight in weights.items()}
        )

    def moved(self, wrong: bool, y: bool, score: float) -> bool:
        labels = bytes([y])
        return bool(self.watch.update(concept.binary(labels, bytes([y != wrong]), np.array([score]))))


class Rivers:
    """One of River's."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def moved(self, wrong: bool, _y: bool, _score: float) -> bool:
        self.detector.update(wrong)
        return self.detector.drift_detected


DETECTORS: dict[str, Callable[[], Any]] = {
    "Headrace, errors, 1 in 100,000": lambda: Errors(1e5),
    "Headrace, errors, 1 in 10,000": lambda: Errors(1e4),
    "Headrace, errors, 1 in 1,000,000": lambda: Errors(1e6),
    "Headrace, errors + log loss + calibration, 1 in 100,000": lambda: Everything(1e5),
    "ADWIN": lambda: Rivers(drift.ADWIN()),
    "HDDM_A": lambda: Rivers(binary.HDDMA()),
    "HDDM_W": lambda: Rivers(binary.HDDMW()),
    "PageHinkley": lambda: Rivers(drift.PageHinkley()),
    "DDM": lambda: Rivers(binary.DDM()),
}


def measure(seeds: int, names: list[str], say: Callable[..., None]) -> dict[str, Any]:
    """By stream and detector: drifts found, mean delay in records, false alarms for 100,000 records."""
    found: dict[str, Any] = {}
    for name, drifts in DRIFTS.items():
        runs = [stored(name), *(generated(name, seed) for seed in range(seeds))]
        found[name] = {}
        for detector in names:
            scores = [scored(alarms(rows, DETECTORS[detector]()), name) for rows in runs]
            hits = sum(len(delays) for delays, _ in scores)
            total = sum(sum(delays) for delays, _ in scores)
            first = scores[0][0]
            found[name][detector] = {
                "streams": len(runs),
                "found": hits,
                "drifts": len(runs) * len(drifts),
                "delay": round(total / hits, 1) if hits else None,
                "stored_found": len(first),
                "stored_delay": round(sum(first) / len(first), 1) if first else None,
                "stored_false": scores[0][1],
                "false_per_100k": round(sum(false for _, false in scores) / sum(map(len, runs)) * 1e5, 2),
            }
            say(name, detector, found[name][detector])
    return found


def alarms(rows: list[Row], detector: Any) -> list[int]:
    """Records at which the detector alarmed; the model begins anew there."""
    model, found = naive_bayes.GaussianNB(), []
    for at, (x, y) in enumerate(rows):
        said = model.predict_proba_one(x)
        score = said.get(True, 0.0) if said else 0.5
        answer = max(said, key=said.get) if said else None
        model.learn_one(x, y)
        if detector.moved(answer != y, y, score):
            found.append(at)
            model = naive_bayes.GaussianNB()
    return found


def scored(alarms: list[int], name: str) -> tuple[list[int], int]:
    """Delays of the drifts that were found, and how many alarms were false."""
    delays = []
    for begun in DRIFTS[name]:
        hits = [at - begun for at in alarms if begun <= at < begun + WINDOW[name]]
        delays += hits[:1]
    return delays, len(alarms) - len(delays)
