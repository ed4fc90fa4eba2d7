"""Any stream: a CSV nobody prepared for, a few commands, and a model that learns from it, for every task.

Made-up files with everything at once (strings, numbers, booleans, missing values, times) run everywhere; the real
streams run where they lie beside the project, and are skipped where they do not.
"""

import csv
import gzip
import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.system import System

pytestmark = pytest.mark.broker

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
ROWS = 1500

NUMBERS_AND_TEXTS = {
    "union": [
        [
            {"class": "compose.SelectType", "parameters": {"types": [{"type": "number"}]}},
            "preprocessing.StandardScaler",
        ],
        [
            {"class": "compose.SelectType", "parameters": {"types": [{"type": "str"}]}},
            "preprocessing.OneHotEncoder",
        ],
    ]
}
MODELS: dict[str, Any] = {
    "binary": {"model": [NUMBERS_AND_TEXTS, "linear_model.LogisticRegression"]},
    "multiclass": {
        "model": [
            NUMBERS_AND_TEXTS,
            {
                "class": "multiclass.OneVsRestClassifier",
                "parameters": {"classifier": "linear_model.LogisticRegression"},
            },
        ]
    },
    "regression": {"model": [NUMBERS_AND_TEXTS, "linear_model.LinearRegression"]},
}


TREE = {
    "model": "tree.HoeffdingTreeRegressor"
}  # a linear model without decay diverges on the bikes, in plain River too


def command(system: System, *words: str, code: int = 0) -> Any:
    """Run `headrace WORDS --json` as a person would, and read what it prints."""
    environment = {**os.environ, "HEADRACE_HOME": str(system.home.path)}
    done = subprocess.run(
        [sys.executable, "-m", "headrace.cli.main", *words, "--json"],
        check=False, capture_output=True, text=True, timeout=280, env=environment, cwd=system.home.path,
    )  # fmt: skip
    assert done.returncode == code, f"headrace {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def made_up(path: Path, task: str) -> None:
    """A table with all kinds of columns, holes in it, and a label that can be learnt."""
    rng = random.Random(7)
    start = datetime(2024, 3, 1, tzinfo=UTC)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["when", "Size (cm)", "colour", "is_new", "count", "note", "result"])
        for row in range(ROWS):
            size, colour, new = rng.gauss(10, 3), rng.choice(["red", "grün", "blue"]), rng.random() < 0.5
            signal = size - 10 + (3 if colour == "red" else 0) + (2 if new else 0)
            label: Any = {
                "binary": "yes" if signal > 1 else "no",
                "multiclass": "low" if signal < -1 else "high" if signal > 3 else "middle",
                "regression": round(2.5 * signal + rng.gauss(0, 0.5), 3),
            }[task]
            writer.writerow(
                [
                    (start + timedelta(minutes=row)).isoformat(),
                    "" if rng.random() < 0.1 else round(size, 3),
                    colour,
                    "true" if new else "false",
                    "NA" if rng.random() < 0.1 else rng.randrange(100),
                    "" if rng.random() < 0.5 else 'quoted, "text"',
                    label,
                ]
            )


def run(
    system: System, file: Path, stream: str, model: dict[str, Any], label: str, *options: str
) -> dict[str, Any]:
    """The four commands; returns scoring's view of the stream at the end."""
    command(system, "stream", "create", "--from", str(file), "--label", label, "--name", stream, *options)
    specification = file.with_suffix(".model.json")
    specification.write_text(json.dumps(model), encoding="utf-8")
    command(system, "model", "deploy", stream, str(specification))
    command(system, "publish", stream, str(file))
    return system.total(stream)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_csv_nobody_prepared_for(system: System, tmp_path: Path, task: str) -> None:
    file = tmp_path / f"{task}.csv"
    made_up(file, task)
    total = run(system, file, f"any-{task}", MODELS[task], "result", "--time-column", "when")
    assert (total["observations"], total["labelled"], total["refused"]) == (ROWS, ROWS, 0)
    (model,) = total["models"]
    assert model["failures"] == 0
    found = model["metrics"]["windowed"]
    if task == "binary":
        assert found["roc_auc"] > 0.9
    elif task == "multiclass":
        assert found["accuracy"] > 0.7
    else:
        assert found["r2"] > 0.8
    # The same file again: its ids are known, nothing is answered or learnt twice.
    command(system, "publish", f"any-{task}", str(file))
    again = system.total(f"any-{task}")
    assert (again["observations"], again["duplicates"]) == (ROWS, ROWS)
    assert again["models"][0]["learned"] == model["learned"]


@pytest.mark.parametrize(
    ("name", "task", "label", "leave_out"),
    [
        ("elec2", "binary", "class", []),
        ("adult", "binary", "income", []),
        ("bike_hour", "regression", "cnt", ["casual", "registered"]),
    ],
)
def test_a_real_stream(
    system: System, tmp_path: Path, name: str, task: str, label: str, leave_out: list[str]
) -> None:
    source = SHARED / f"{name}.csv.gz"
    if not source.exists():
        pytest.skip(f"{source.name} is not beside the project: this test needs the shared real streams")
    file = tmp_path / f"{name}.csv"
    with gzip.open(source, "rt", encoding="utf-8") as whole:
        lines = [line for _, line in zip(range(4001), whole, strict=False)]
    file.write_text("".join(lines), encoding="utf-8")
    options = [word for column in leave_out for word in ("--leave-out", column)]
    model = TREE if task == "regression" else MODELS[task]
    total = run(system, file, f"real-{name.replace('_', '-')}", model, label, *options)
    rows = len(lines) - 1
    assert (total["observations"], total["labelled"], total["refused"]) == (rows, rows, 0)
    overall = total["models"][0]["metrics"]["overall"]
    if task == "binary":
        assert overall["roc_auc"] > 0.75
    else:
        assert overall["mae"] < 60
