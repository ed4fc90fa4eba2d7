"""Drift detection measured: delays, false alarms where nothing drifts, power, bias, volume.

python -m benchmarks.drift                      everything, about half an hour on two cores
python -m benchmarks.drift --quick              a few minutes: fewer seeds and records
python -m benchmarks.drift --part nulls power   some of it; the rest of the results stays as it was
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.drift import concept, fairness, nulls, power, streams, volume

RESULTS = Path(__file__).parents[1] / "results" / "drift.json"

say = Console(stderr=True, width=160).print


def main() -> None:
    """Measure, print JSON and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--part", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--data", type=Path, default=streams.DATA, help="folder of the data sets, gzip CSV")
    asked = parser.parse_args()
    streams.DATA = asked.data
    for part in asked.part:
        found = json.loads(asked.out.read_text()) if asked.out.exists() else {}
        found[part] = PARTS[part](asked.quick)
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps({part: found[part]}))


def _concept(quick: bool) -> Any:
    names = list(concept.DETECTORS)
    return concept.measure(0 if quick else 2, names[:1] + names[4:5] if quick else names, say)


def _nulls(quick: bool) -> Any:
    seeds, count = (2, 50_000) if quick else (10, 100_000)
    budgets = (1e4, 1e5)
    return {
        "normal": nulls.made_up(seeds, count, budgets, say),
        "zero_one": nulls.zero_one(seeds, count if quick else 500_000, budgets, say),
        "scores": nulls.scores(seeds // 2, 2 * count, budgets, say),
        "real": nulls.real(seeds, budgets, (1, 50, 250), say),
        "river": nulls.rivers(1 if quick else 3, count, say),
    }


def _power(quick: bool) -> Any:
    return power.measure(3 if quick else 20, say)


def _bias(quick: bool) -> Any:
    return fairness.measure(3 if quick else 20, say)


def _volume(quick: bool) -> Any:
    return volume.measure(3 if quick else 20, say)


PARTS: dict[str, Callable[[bool], Any]] = {
    "concept": _concept,
    "nulls": _nulls,
    "power": _power,
    "bias": _bias,
    "volume": _volume,
}

if __name__ == "__main__":
    main()
