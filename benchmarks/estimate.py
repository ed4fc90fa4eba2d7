"""How well quality is estimated before labels arrive, on real streams and on streams whose concept changes.

Models answer every row and learn its label `DELAY` rows later, either for ever or from the first `FROZEN` rows only:
what a model's scores mean changes as it learns. What they say goes through the monitor's summariser, a window being
`WINDOW` rows; every window's estimate is held against what its own answers came to. `carried` is what one would say
without an estimate: the quality of the newest labels that are known. Where the concept changes, the estimate must be
wrong until labels of the new concept are known: those windows are `drifted`, and counted apart.

    python -m benchmarks.estimate --data FOLDER
"""

import argparse
import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from river import compose, linear_model, naive_bayes, preprocessing, tree

from headrace.contracts.codec import encode
from headrace.contracts.events import Answer, Outcome, Prediction
from headrace.contracts.topics import STATISTICS
from headrace.processor import Batch
from headrace.testing import builders
from services.monitor.domain.estimates import ESTIMATED
from services.monitor.domain.estimating import LABELS_WANTED
from services.monitor.domain.quality import roc_auc
from services.monitor.domain.tables import Tables
from services.monitor.domain.views import window_view
from services.monitor.processor import Summariser, WindowShape

WINDOW = 500
DELAY = 1_000
FROZEN = 5_000
CARRIED = 2_000
"""Labels that the baseline looks at."""
SHAPE = WindowShape(length_seconds=WINDOW, lateness_seconds=0)
SHIFTED = "adult by age"
"""The same people, after the first `FROZEN` the young first: other cases come all the time, and mean the same."""
STREAMS = {
    "elec2": ("UP", ()),
    "noaa_weather": ("1", ()),
    "adult": (">50K", ()),
    SHIFTED: (">50K", ()),
    "sine1_seed101": ("p", (20_000, 40_000, 60_000, 80_000)),
    "circles_seed101": ("p", (25_000, 50_000, 75_000)),
}
"""By file: which label is positive, and the rows at which the concept changes."""
MODELS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: compose.Pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression()
    ),
    "naive Bayes": naive_bayes.GaussianNB,
    "Hoeffding tree": tree.HoeffdingTreeClassifier,
}

Row = tuple[dict[str, float], bool]


class Said(NamedTuple):
    """What models said of one row, by name, and the truth."""

    scores: list[float]
    y: bool


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets, gzip CSV")
    parser.add_argument("--stream", nargs="+", choices=sorted(STREAMS), default=list(STREAMS))
    asked = parser.parse_args()
    found = {}
    for name in asked.stream:
        positive, changes = STREAMS[name]
        rows = read(asked.data / f"{name.partition(' ')[0]}.csv.gz", positive)
        if name == SHIFTED:
            rows[FROZEN:] = sorted(rows[FROZEN:], key=lambda row: row[0]["age"])
        for learning, until in (("learning", len(rows)), ("frozen", FROZEN)):
            found[f"{name}, {learning}"] = measure(answers(rows, until), changes)
    print(json.dumps(found, indent=1))


def read(path: Path, positive: str) -> list[Row]:
    """Rows in the file's order: numbers as they are, texts as a column for each value, the last column as the label."""
    with gzip.open(path, "rt") as file:
        rows = []
        for row in csv.DictReader(file):
            label = row.popitem()[1]
            rows.append((dict(_value(name, text) for name, text in row.items()), label == positive))
        return rows


def answers(rows: Sequence[Row], until: int) -> list[Said]:
    """What the models say of each row, having learnt the rows whose labels have come, of the first `until`."""
    models = [make() for make in MODELS.values()]
    found = []
    for n, (x, y) in enumerate(rows):
        if DELAY <= n < until + DELAY:
            for model in models:
                model.learn_one(*rows[n - DELAY])
        scores = [float(model.predict_proba_one(x).get(True, 0.0)) for model in models]
        found.append(Said([min(max(score, 0.0), 1.0) for score in scores], y))
    return found


def measure(said: Sequence[Said], changes: Sequence[int]) -> dict[str, Any]:
    """Errors by model, in windows that nothing has changed before, and in those after a change.

    The first `FROZEN` rows are left out: what models said before they had learnt anything is nobody's baseline.
    """
    table = tables(said).streams["s"]
    truths = {
        (place, start): _truth(said, place, start) for place in range(len(MODELS)) for start in _starts(said)
    }
    found: dict[str, Any] = {}
    for place, name in enumerate(MODELS):
        rows = []
        for start in _starts(said):
            shown = window_view(table, start * 1000)["estimate"]
            one = next((one for one in shown if one["model"] == str(place) and "accuracy" in one), None)
            if one is not None:
                carried = _truth(said, place, start - DELAY - CARRIED, start - DELAY)
                rows.append((start, one, truths[place, start], carried))
        calm = [row for row in rows if not _drifted(row[0], changes)]
        found[name] = {
            "calm": _errors(calm),
            "drifted": _errors([row for row in rows if _drifted(row[0], changes)]),
        }
    return found


def tables(said: Sequence[Said]) -> Tables:
    """All that is said of the stream, a row a second."""
    made = Tables(SHAPE.length_seconds)
    feed(made, "s.log", [builders.adopted()])
    predictions, outcomes = [], []
    for n, (scores, y) in enumerate(said):
        given = [Answer(str(place), 1, score >= 0.5, score) for place, score in enumerate(scores)]
        first = given[0]
        asked = (first.model, 1, first.answer, first.score, None, given[1:])
        predictions.append(Prediction(str(n), "", n * 1000, n, *asked))
        outcomes.append(Outcome(str(n), "", (n + DELAY) * 1000, "labelled", n, n * 1000, n, y, None, *asked))
    feed(made, "s.predictions", predictions)
    feed(made, "s.outcomes", outcomes)
    return made


def feed(made: Tables, topic: str, events: Sequence[Any]) -> None:
    """Summarise a topic into the tables."""
    summariser = Summariser(topic, 0, SHAPE)
    for first in range(0, len(events), 10_000):
        values = [encode(event) for event in events[first : first + 10_000]]
        batch = Batch(topic, 0, range(first, first + len(values)), [None] * len(values), values)
        for message in summariser.process(batch)[STATISTICS.name, 0]:
            made.apply(message["value"])


def _starts(said: Sequence[Said]) -> range:
    return range(FROZEN, len(said) - WINDOW + 1, WINDOW)


def _drifted(start: int, changes: Sequence[int]) -> bool:
    """Whether some of what a window's estimate needs is of another concept than some of the window."""
    return any(start + WINDOW > change and start < change + DELAY + LABELS_WANTED for change in changes)


def _truth(said: Sequence[Said], place: int, start: int, end: int | None = None) -> dict[str, float | None]:
    """The figures of the rows from start (to the end of its window, if not said)."""
    rows = said[start : start + WINDOW if end is None else end]
    scores, y = np.array([one.scores[place] for one in rows]), np.array([one.y for one in rows])
    ranks = np.unique(scores, return_inverse=True)[1]
    return {
        "accuracy": float(np.mean((scores >= 0.5) == y)),
        "brier": float(np.mean((scores - y) ** 2)),
        "roc_auc": roc_auc(Counter(ranks[y].tolist()), Counter(ranks[~y].tolist())),
    }


def _errors(
    rows: Sequence[tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]]],
) -> dict[str, Any] | None:
    """Mean absolute errors, how often the interval held the truth, and how wide it was."""
    if not rows:
        return None
    found: dict[str, Any] = {"windows": len(rows)}
    for figure in ESTIMATED:
        some = [row for row in rows if row[2][figure] is not None and row[3][figure] is not None]
        held = [
            one["interval"][figure]["low"] <= true[figure] <= one["interval"][figure]["high"]
            for _, one, true, _ in some
        ]
        found[figure] = {
            "error": _mean([abs(one[figure] - true[figure]) for _, one, true, _ in some]),
            "carried_error": _mean([abs(carried[figure] - true[figure]) for _, _, true, carried in some]),
            "covered": _mean(held),
            "half_width": _mean(
                [
                    (one["interval"][figure]["high"] - one["interval"][figure]["low"]) / 2
                    for _, one, _, _ in some
                ]
            ),
        }
    return found


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _value(name: str, text: str) -> tuple[str, float]:
    try:
        return name, float(text)
    except ValueError:
        return f"{name}={text}", 1.0


if __name__ == "__main__":
    main()
