"""The loop that closes, unattended on a real system: alarm, race, shadow, promotion; and what it was worth.

A stream begins with a plain model and a policy that lets retrain events begin races. Rows come at a steady rate, each
with its label behind it, and nobody touches anything. Held against it, on the same rows in the same order: the same
model left alone; for a stream whose drifts are known, the same model reset at each of them (an oracle); and every
candidate of the search alone from the first row, of which the best is known in hindsight only.

    python -m benchmarks.loop --data FOLDER          elec2, noaa_weather and sine1, about a quarter of an hour
    python -m benchmarks.loop --data FOLDER --streams sine1 --rows 30000

FOLDER holds the gzipped CSV files of these streams; they are public, and not part of this distribution.
"""

import argparse
import csv
import gzip
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from headrace.cli import system
from headrace.cli.home import Home
from headrace.client import Addresses, Client
from headrace.contracts import odcs
from headrace.contracts.events import Outcome
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.contracts.topics import OUTCOMES, topic
from headrace.fold.specification import build, check
from headrace.kafka.history import KafkaHistory

EPOCH_MS = 1_704_067_200_000
CHUNK_ROWS = 50
SETTLE_SECONDS = 120.0

PLAIN = {"model": "naive_bayes.GaussianNB"}
CANDIDATES: list[dict[str, Any]] = [
    PLAIN,
    {
        "model": [
            "preprocessing.StandardScaler",
            {
                "class": "linear_model.LogisticRegression",
                "parameters": {"optimizer": {"class": "optim.SGD", "parameters": {"lr": 0.05}}},
            },
        ]
    },
    {"model": "tree.HoeffdingTreeClassifier"},
    {"model": {"class": "tree.HoeffdingAdaptiveTreeClassifier", "parameters": {"seed": 1}}},
    {"model": {"class": "forest.ARFClassifier", "parameters": {"n_models": 10, "seed": 1}}},
]
POLICY: dict[str, Any] = {
    "ask": {
        "search": {"candidates": CANDIDATES},
        "plan": {"warm_up_labels": 0, "most_labels": 20_000, "guard_labels": 1_000},
    },
    "on_events": True,
    "cool_down_seconds": 5,
}

say = Console(stderr=True).print
_outcome = msgspec.json.Decoder(Outcome).decode


class Course(NamedTuple):
    """A stream to run: its file, which column is the label and what counts as True, what is left out.

    rows: how many of it. drifts: rows at which the truth is known to change. rate: rows a second.
    """

    file: str
    label: str
    positive: str
    rate: float
    rows: int
    left_out: tuple[str, ...] = ()
    drifts: tuple[int, ...] = ()


COURSES = {
    "elec2": Course("elec2.csv.gz", "class", "UP", 150.0, 45_312, left_out=("date",)),
    "noaa": Course("noaa_weather.csv.gz", "target", "1", 100.0, 18_159),
    "sine1": Course("sine1_seed101.csv.gz", "class", "p", 200.0, 60_000, drifts=(20_000, 40_000)),
}

Row = tuple[dict[str, float], bool]


def main() -> None:
    """Run the courses one after the other and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--streams", nargs="*", default=list(COURSES))
    parser.add_argument("--rows", type=int, default=0, help="at most so many of each")
    parser.add_argument("--rate", type=float, default=0.0, help="rows a second, instead of each stream's own")
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for name in asked.streams:
        course = COURSES[name]
        course = course._replace(rows=min(course.rows, asked.rows or course.rows))
        rows = list(read(asked.data / course.file, course))
        alone = in_hindsight(rows, course)
        say(name, alone)
        found[name] = {**live(name, rows, asked.rate or course.rate), **alone}
        say(name, {key: value for key, value in found[name].items() if key != "steps"})
    print(json.dumps(found, indent=1))


def read(file: Path, course: Course) -> Iterator[Row]:
    """Rows of a file, features as numbers."""
    with gzip.open(file, "rt", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines)):
            if number == course.rows:
                return
            x = {
                name: float(value)
                for name, value in row.items()
                if name != course.label and name not in course.left_out
            }
            yield x, row[course.label] == course.positive


# -- in hindsight -----------------------------------------------------------------------------------------------------


def in_hindsight(rows: Sequence[Row], course: Course) -> dict[str, Any]:
    """Test then train: the plain model, the same with an oracle's resets, and the best candidate alone."""
    candidates = {named(one): prequential(rows, one) for one in CANDIDATES}
    best = max(candidates, key=lambda name: sum(candidates[name]))
    drifts = [at for at in course.drifts if at < len(rows)]
    return {
        "left_alone": accuracy(prequential(rows, PLAIN)),
        "oracle_reset": accuracy(prequential(rows, PLAIN, drifts)) if drifts else None,
        "best_single": {"model": best, **accuracy(candidates[best])},
        "candidates": {name: accuracy(right)["accuracy"] for name, right in candidates.items()},
    }


def prequential(rows: Sequence[Row], document: dict[str, Any], resets: Sequence[int] = ()) -> list[bool]:
    """Which rows a model, as the fold builds it, says right before it learns them."""
    specification = check(document, task="binary")
    model = build(specification)
    right = []
    for number, (x, y) in enumerate(rows):
        if number in resets:
            model = build(specification)
        right.append((model.predict_one(x) or False) == y)
        model.learn_one(x, y)
    return right


def accuracy(right: Sequence[bool]) -> dict[str, Any]:
    """Share that was said right, in all and by tenths of the rows."""
    tenth = max(1, len(right) // 10)
    tenths = [sum(right[start : start + tenth]) / tenth for start in range(0, tenth * 10, tenth)]
    return {"accuracy": sum(right) / len(right), "by_tenth": tenths}


def named(document: dict[str, Any]) -> str:
    """A candidate's estimator."""
    last = document["model"][-1] if isinstance(document["model"], list) else document["model"]
    return str(last if isinstance(last, str) else last["class"]).rpartition(".")[2]


# -- live -------------------------------------------------------------------------------------------------------------


def live(name: str, rows: Sequence[Row], rate: float) -> dict[str, Any]:
    """Run a system of its own, and let a stream of these rows come to it."""
    with tempfile.TemporaryDirectory(prefix="headrace-loop-") as folder:
        home = Home(Path(folder), environment={**os.environ, "HEADRACE_MONITOR_WINDOW_SECONDS": "600"})
        run = system.up(home, lambda _: None, lambda _: None).run
        addresses = Addresses(**{service: running.url for service, running in run.services.items()})
        try:
            with Client(addresses, key=home.cli_key_file.read_text(encoding="ascii").strip()) as client:
                begin(client, name, rows)
                stream_in(client, name, rows, rate)
                settle(client, name, len(rows))
                return told(client, run.bootstrap, name)
        finally:
            system.down(home, lambda _: None)


def begin(client: Client, name: str, rows: Sequence[Row]) -> None:
    """The stream, the plain model on it, and the policy."""
    fields = [Field("row", "string"), Field("at", "time")] + [Field(field, "number") for field in rows[0][0]]
    contract = StreamContract(name, "binary", fields, label=LabelSpec("truth"), id="row", event_time="at")
    client.create_stream(odcs.dump(contract))
    client.create_model("plain", PLAIN)
    client.deploy(name, "plain")
    client.set_retraining_policy(name, POLICY)


def stream_in(client: Client, name: str, rows: Sequence[Row], rate: float) -> None:
    """Each row and its label, at a steady rate, whatever becomes of them."""
    began = time.monotonic()
    for start in range(0, len(rows), CHUNK_ROWS):
        lines = []
        for number, (x, y) in enumerate(rows[start : start + CHUNK_ROWS], start):
            at = EPOCH_MS + 1000 * number
            lines.append(json.dumps({"row": str(number), "at": at, **x}).encode())
            lines.append(
                json.dumps({"type": "label", "id": str(number), "truth": y, "at": at + 500}).encode()
            )
        refused = client.publish(name, lines, "events").rejected
        assert not refused, refused[0]
        time.sleep(max(0.0, began + (start + CHUNK_ROWS) / rate - time.monotonic()))


def settle(client: Client, name: str, labels: int) -> None:
    """Until every label has been folded."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while client.metrics(name)["total"]["labelled"] < labels:
        assert time.monotonic() < deadline, "the labels were not folded in time"
        time.sleep(0.5)


def told(client: Client, bootstrap: str, name: str) -> dict[str, Any]:
    """What was answered, and what happened on the way."""
    history = KafkaHistory(bootstrap)
    place = topic(OUTCOMES, name)
    right = [
        outcome.answer == outcome.y
        for batch in history.read(place, 0, *history.bounds(place, 0))
        for outcome in (_outcome(value or b"") for value in batch.values)
        if outcome.status == "labelled"
    ]
    retrainings = client.get("registry", f"/v1/streams/{name}/retrainings")["retrainings"]
    rollouts = client.get("registry", f"/v1/streams/{name}/rollouts")["rollouts"]
    alarms = client.get("monitor", f"/v1/drift?stream={name}&limit=1000")["drift"]
    return {
        "rows": len(right),
        **accuracy(right),
        "alarms": len(alarms),
        "races": len(retrainings),
        "promoted": sum(one["stage"] in ("guard", "kept") for one in rollouts),
        "steps": {"alarms": alarms, "retrainings": retrainings, "rollouts": rollouts},
    }


if __name__ == "__main__":
    main()
