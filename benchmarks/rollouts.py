"""How often a rollout's test is wrong, and how many labels it needs, on real flights in random order.

Each run draws flights of the year, shuffles them, and lets two models predict and learn them; the test sees the paired
losses one at a time and may stop at any. Nulls: the same forest with two seeds. Differences: models that do differ, and
a test of fixed size at the same error rate that would find that difference nine times in ten; its size comes from the
mean and deviation of the differences over all runs, so it knows what nobody knows beforehand.

    python -m benchmarks.rollouts                   200 null runs, 40 of each difference
"""

import argparse
import json
import random
from collections.abc import Callable
from statistics import NormalDist, fmean, median
from typing import Any

import numpy as np
from rich.console import Console
from river import dummy, forest, naive_bayes

from benchmarks.workload import Labelled, labelled, river_model
from services.registry.domain.evidence import Evidence, weigh

ERROR_RATE = 0.05
POWER = 0.9
WARM_UP = 1_000
"""Labels that both models learn before any count, as in a rollout."""

say = Console(stderr=True).print

Make = Callable[[int], Any]


def logistic(_: int) -> Any:
    """The README's logistic regression."""
    return river_model("logistic")


def hoeffding(_: int) -> Any:
    """The README's tree."""
    return river_model("tree")


DIFFERENCES: dict[str, tuple[Make, Make]] = {
    "prior -> logistic regression": (lambda _: dummy.PriorClassifier(), logistic),
    "Hoeffding tree -> logistic regression": (hoeffding, logistic),
    "naive Bayes -> Hoeffding tree": (lambda _: naive_bayes.GaussianNB(), hoeffding),
    "logistic regression -> forest of 3": (
        logistic,
        lambda seed: forest.ARFClassifier(n_models=3, seed=seed),
    ),
}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nulls", type=int, default=200)
    parser.add_argument("--null-labels", type=int, default=3_000 + WARM_UP)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--labels", type=int, default=12_000)
    asked = parser.parse_args()
    rows = labelled(300_000)
    found: dict[str, Any] = {"error_rate": ERROR_RATE, "null": null(rows, asked.nulls, asked.null_labels)}
    say(found["null"])
    for name, (first, second) in DIFFERENCES.items():
        found[name] = difference(rows, first, second, asked.runs, asked.labels)
        say(name, found[name])
    print(json.dumps(found))


def null(rows: list[Labelled], runs: int, labels: int) -> dict[str, Any]:
    """How often one of two equal forests is called better, or worse."""
    verdicts = []
    for run in range(runs):
        drawn = random.Random(run).sample(rows, labels)
        one, other = (forest.ARFClassifier(n_models=3, seed=2 * run + which) for which in (0, 1))
        verdicts.append(weigh(Evidence(), paired(drawn, one, other), ERROR_RATE, ERROR_RATE)[1])
    return {
        "runs": runs,
        "labels": labels,
        "called_better": verdicts.count("better") / runs,
        "called_worse": verdicts.count("worse") / runs,
    }


def difference(rows: list[Labelled], first: Make, second: Make, runs: int, labels: int) -> dict[str, Any]:
    """Labels until the verdict, and those of a test of fixed size."""
    everything, took, verdicts = [], [], []
    for run in range(runs):
        drawn = random.Random(run).sample(rows, labels)
        swings = paired(drawn, first(run), second(run))
        everything.append(swings)
        evidence, verdict = weigh(Evidence(), swings, ERROR_RATE, ERROR_RATE)
        verdicts.append(verdict or "undecided")
        if verdict is not None:
            took.append(evidence.labels)
    pooled = np.concatenate(everything)
    mean, deviation = float(pooled.mean()), float(pooled.std())
    quantile = NormalDist().inv_cdf
    fixed = ((quantile(1 - ERROR_RATE) + quantile(POWER)) * deviation / mean) ** 2
    return {
        "runs": runs,
        "mean_difference": round(mean, 5),
        "deviation": round(deviation, 4),
        "verdicts": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
        "labels": {"mean": round(fmean(took)), "median": round(median(took))} if took else None,
        "labels_of_fixed_size": round(fixed),
        "ratio": round(fmean(took) / fixed, 2) if took else None,
    }


def paired(rows: list[Labelled], first: Any, second: Any) -> Any:
    """Brier score of the first model minus that of the second, event by event, predicted before it is learnt.

    Those of the warm-up are left out.
    """
    found = np.empty(len(rows))
    for place, row in enumerate(rows):
        losses = [_brier(model.predict_proba_one(row.x), row.y) for model in (first, second)]
        found[place] = losses[0] - losses[1]
        first.learn_one(row.x, row.y)
        second.learn_one(row.x, row.y)
    return found[WARM_UP:]


def _brier(said: dict[bool, float], y: bool) -> float:
    return (said.get(True, 0.0) - y) ** 2 if said else 1.0


if __name__ == "__main__":
    main()
