"""A file nobody prepared, from the command line alone: inferred contract, deployed model, published rows, metrics.

Binary, multiclass and regression, with texts, numbers, booleans, missing values and times; what is learnt is there to
be learnt, so the metrics say whether the columns, the labels and their delay went where they belong.
"""

import csv
import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROWS = 3_000
MIXED = """
model:
  - union:
      - [{class: compose.SelectType, parameters: {types: [{type: number}]}}, preprocessing.StandardScaler]
      - [{class: compose.SelectType, parameters: {types: [{type: str}]}}, preprocessing.OneHotEncoder]
  - %s
"""
GENTLE = "optimizer: {class: optim.SGD, parameters: {lr: 0.05}}"
LINEAR_REGRESSION = f"{{class: linear_model.LinearRegression, parameters: {{{GENTLE}}}}}"


class System:
    """One installation of its own."""

    def __init__(self, home: Path) -> None:
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")
        }
        self.environment["HEADRACE_HOME"] = str(home)

    def run(self, *arguments: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "headrace.cli.main", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout

    def json(self, *arguments: object, code: int = 0) -> dict:
        return json.loads(self.run(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    one = System(tmp_path_factory.mktemp("any") / "home")
    one.run("up")
    yield one
    one.run("down", "--delete", "--yes")


@pytest.fixture
def folder(tmp_path):
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def table(path: Path, columns: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def test_binary_with_texts_booleans_and_missing_values(system, folder, tmp_path):
    dice = random.Random(1)
    rows = []
    for _ in range(ROWS):
        shop, member, spent = (
            dice.choice(["north", "south"]),
            dice.random() < 0.5,
            round(dice.uniform(0, 90), 2),
        )
        again = (shop == "north") == (spent > 45) if dice.random() < 0.95 else dice.random() < 0.5
        again = member if dice.random() < 0.5 else again
        rows.append(
            [shop if dice.random() > 0.1 else "", str(member).lower(), spent, "yes" if again else "no"]
        )
    path = table(tmp_path / "Shop visits.csv", ["shop", "member", "spent", "came_again"], rows)

    assert system.json("stream", "create", "--from", path, "--label", "came_again")["stream"] == "shop-visits"
    model = folder("tree.yaml", "model: tree.HoeffdingTreeClassifier")
    assert system.json("model", "deploy", "shop-visits", model)["role"] == "champion"
    report = system.json("publish", "shop-visits", path, "--label-delay", "20rows")
    assert (report["observations"], report["labels"], report["rejected"], report["lag"]) == (ROWS, ROWS, 0, 0)
    assert report["stream_totals"]["outcomes"] == ROWS
    assert report["models"][0]["count"] + report["models"][0]["unanswered"] == ROWS
    assert report["models"][0]["roc_auc"] > 0.7

    again = system.json("publish", "shop-visits", path, "--label-delay", "20rows")
    assert again["stream_totals"]["duplicates"] == ROWS
    assert again["stream_totals"]["predictions"] == ROWS
    assert again["models"] == report["models"]


def test_multiclass_from_json_lines(system, folder, tmp_path):
    dice = random.Random(2)
    path = tmp_path / "fruits.jsonl"
    with path.open("w") as file:
        for number in range(ROWS):
            kind = dice.choice(["apple", "plum", "pear"])
            weight = dice.gauss({"apple": 180, "plum": 60, "pear": 150}[kind], 10)
            colour = dice.choice({"apple": ["red", "green"], "plum": ["blue"], "pear": ["green", None]}[kind])
            file.write(json.dumps({"nr": number, "weight": weight, "colour": colour, "kind": kind}) + "\n")
    created = system.json("stream", "create", "--from", path, "--label", "kind", "--id-column", "nr")
    assert "headraceTask\n    value: multiclass" in created["document"]
    model = folder("fruit-tree.yaml", MIXED % "tree.HoeffdingTreeClassifier")
    refused = folder("fruit-lr.yaml", MIXED % "linear_model.LogisticRegression")
    assert "multiclass" in system.json("model", "deploy", "fruits", refused, code=1)["error"]
    system.json("model", "deploy", "fruits", model)
    report = system.json("publish", "fruits", path)
    assert report["rejected"] == 0
    assert report["models"][0]["accuracy"] > 0.9


def test_regression_with_times_and_labels_in_event_time(system, folder, tmp_path):
    dice = random.Random(3)
    start = datetime(2024, 3, 1, tzinfo=UTC)
    rows = []
    for number in range(ROWS):
        hour, warm = number % 24, dice.gauss(0, 1)
        sold = 10 + 3 * warm + (4 if 8 <= hour < 18 else 0) + dice.gauss(0, 0.5)
        rows.append(
            [(start + timedelta(hours=number)).isoformat(), f"{8 <= hour < 18}", warm, round(sold, 3)]
        )
    path = table(tmp_path / "sales.csv", ["when", "open", "warm", "sold"], rows)
    system.json("stream", "create", "--from", path, "--label", "sold", "--time-column", "when")
    system.json("model", "deploy", "sales", folder("line.yaml", MIXED % LINEAR_REGRESSION))
    report = system.json("publish", "sales", path, "--label-delay", "2h")
    assert (report["labels"], report["rejected"]) == (ROWS, 0)
    assert report["models"][0]["r2"] > 0.6

    outcomes = [
        json.loads(line)
        for line in system.run("tail", "outcomes", "sales", "--no-follow", "--json").splitlines()
    ]
    assert [one["id"] for one in outcomes] == [f"sales.csv:{number}" for number in range(1, ROWS + 1)]
    assert {one["at"] - one["observed_at"] for one in outcomes} == {7_200_000}


def test_what_breaks_the_contract_is_counted_shown_and_kept(system, folder, tmp_path):
    rows = [[n, n % 2] for n in range(300)]
    good = table(tmp_path / "good.csv", ["size", "ok"], rows)
    system.json("stream", "create", "--from", good, "--label", "ok", "--name", "sizes")
    bad = table(tmp_path / "bad.csv", ["size", "ok"], [*rows[:3], ["huge", 1], [4, "maybe"]])
    report = system.json("publish", "sizes", bad)
    assert (report["accepted"], report["rejected"]) == (8, 2)
    assert len(report["examples"]) == 2
    rejected = [
        json.loads(line)
        for line in system.run("tail", "rejected", "sizes", "--no-follow", "--json").splitlines()
    ]
    assert len(rejected) == 2
    assert '"huge"' in rejected[0]["original"]
    assert {one["rule"] for one in rejected} == set(report["rules"])
