"""What watching for outliers costs, how many observations it flags, and which planted errors it finds.

`python -m benchmarks.outliers DATA` reads DATA/elec2.csv.gz, noaa_weather.csv.gz and bike_hour.csv.gz, and prints JSON.
Cost: flights through the bare fold of a logistic regression, off and on, in turns, medians of CPU time. Flags: of a
stream as it is and in a random order (no drift by construction). Errors: planted into a copy, one observation in 200
after the first 4,000, of one kind at a time; found is the share of those that is flagged, false that of all others.
"""

import argparse
import csv
import gzip
import json
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from benchmarks.workload import contract_of, control_records, years
from headrace.contracts.codec import encode
from headrace.contracts.events import Label, Observation, Prediction
from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.stream import Field, StreamContract, check
from headrace.fold.log import LogFold
from headrace.fold.outliers import Outliers
from headrace.fold.shard import Shard

FLIGHTS = 20_000
BATCH = 500
WARM = 4_000
"""Observations before the first that is counted."""
EVERY = 200
"""One observation in so many is spoilt."""
WATCHES: dict[str, OutlierSpec] = {
    "off": OutlierSpec(),
    "bounds": OutlierSpec(["bounds"]),
    "trees": OutlierSpec(["trees"]),
    "both": OutlierSpec(["bounds", "trees"]),
}
SEARCH = OutlierSpec(["bounds", "trees"], share=0.01)
"""With which planted errors are looked for: trees that flag fewer than are planted cannot find them."""
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "elec2": ("date", "day", "class"),
    "noaa_weather": ("target",),
    "bike_hour": ("instant", "dteday", "casual", "registered", "cnt"),
}
SWAPPED = {
    "elec2": ("nswdemand", "vicdemand"),
    "noaa_weather": ("feat_7", "feat_8"),
    "bike_hour": ("temp", "hum"),
}
"""A pair of fields of much the same range."""

Row = dict[str, float]


def cost(rounds: int) -> dict[str, Any]:
    """Microseconds of CPU for a labelled flight (two records) through the fold alone, by watch."""
    rows = list(years(FLIGHTS))
    records: list[bytes] = []
    for row in rows:
        records.append(encode(Observation(row.id, row.id, row.at, row.x)))
        records.append(encode(Label(row.id, row.id, row.at, row.y)))
    took: dict[str, list[float]] = {name: [] for name in WATCHES}
    for _ in range(rounds):
        for name, spec in WATCHES.items():
            contract = check(msgspec.structs.replace(contract_of("s", rows), outliers=spec))
            values = [*control_records(contract, "logistic"), *records]
            fold = LogFold(Shard())
            begin = time.process_time()
            for at in range(0, len(values), BATCH):
                some = values[at : at + BATCH]
                fold.fold(range(at, at + len(some)), some)
            took[name].append((time.process_time() - begin) / len(rows) * 1e6)
    medians = {name: statistics.median(found) for name, found in took.items()}
    return {
        name: {"microseconds": round(one, 1), "to_off": round(one / medians["off"], 2)}
        for name, one in medians.items()
    }


def read(path: Path, left_out: tuple[str, ...]) -> list[Row]:
    """The numeric columns of a file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return [
            {name: float(value) for name, value in row.items() if name not in left_out and _is_number(value)}
            for row in csv.DictReader(lines)
        ]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def judged(name: str, rows: list[Row], spec: OutlierSpec) -> Iterator[Prediction]:
    """What is said of each row."""
    fields = [Field(field, "number") for field in rows[0]]
    watch = Outliers(check(StreamContract(name.replace("_", "-"), "binary", fields, outliers=spec)))
    for place, row in enumerate(rows):
        said = Prediction("i", "i", 0, place)
        watch.mark(said, row)
        yield said


def share(flags: list[bool]) -> float:
    """Per cent."""
    return round(100 * sum(flags) / len(flags), 3) if flags else 0.0


def flagged(name: str, rows: list[Row]) -> dict[str, Any]:
    """Per cent of observations after the warm-up that are flagged, and the field that is flagged most."""
    said = list(judged(name, rows, WATCHES["both"]))[WARM:]
    fields: dict[str, int] = {}
    for one in said:
        for field in one.outliers or ():
            fields[field] = fields.get(field, 0) + 1
    most = max(fields, key=lambda field: fields[field], default="")
    return {
        "bounds": share([bool(one.outliers) for one in said]),
        "most": {most: round(100 * fields[most] / len(said), 3)} if most else {},
        "trees": share([one.anomalous for one in said]),
    }


def spoil(how: str, name: str, row: Row, earlier: Row, rng: Random) -> Row:
    """by_ten, sign: one field, ten times as large or with the other sign. swapped: a pair of fields has changed places.

    borrowed: one field is that of an earlier row, so that each field by itself is as it ever was.
    """
    if how == "swapped":
        one, other = SWAPPED[name]
        return {**row, one: row[other], other: row[one]}
    if how == "borrowed":
        field = rng.choice([field for field in row if earlier[field] != row[field]] or list(row))
        return {**row, field: earlier[field]}
    field = rng.choice([field for field, value in row.items() if value])
    return {**row, field: 10 * row[field] if how == "by_ten" else -row[field]}


SPOILS = ("by_ten", "sign", "swapped", "borrowed")


def found(name: str, rows: list[Row], how: str) -> dict[str, Any]:
    """Per cent of the spoilt rows that are flagged, and of the others."""
    rng = Random(11)
    spoilt = {place for place in range(WARM, len(rows)) if rng.randrange(EVERY) == 0}
    copy = [
        spoil(how, name, row, rows[rng.randrange(place)], rng) if place in spoilt else row
        for place, row in enumerate(rows)
    ]
    said = list(judged(name, copy, SEARCH))
    told: dict[str, Any] = {"spoilt": len(spoilt)}
    tests: dict[str, Callable[[Prediction], bool]] = {
        "bounds": lambda one: bool(one.outliers),
        "trees": lambda one: one.anomalous,
        "either": lambda one: bool(one.outliers) or one.anomalous,
    }
    for method, test in tests.items():
        others = [test(said[place]) for place in range(WARM, len(rows)) if place not in spoilt]
        told[method] = {
            "found": share([test(said[place]) for place in sorted(spoilt)]),
            "false": share(others),
        }
    scores = [one.anomaly or 0.0 for one in said]
    usual = sorted(scores[place] for place in range(WARM, len(rows)) if place not in spoilt)
    below = [(bisect_left(usual, scores[place]) + bisect_right(usual, scores[place])) / 2 for place in spoilt]
    told["trees"]["roc_auc"] = round(sum(below) / len(below) / len(usual), 2)
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["cost", "streams"])
    asked = parser.parse_args()
    results: dict[str, Any] = {}
    if "streams" in asked.only:
        for name, left_out in LEFT_OUT.items():
            rows = read(asked.data / f"{name}.csv.gz", left_out)
            mixed = Random(5).sample(rows, len(rows))
            results[name] = {"as it is": flagged(name, rows), "in random order": flagged(name, mixed)}
            for how in SPOILS:
                results[name][how] = found(name, rows, how)
    if "cost" in asked.only:
        results["cost"] = cost(asked.rounds)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
