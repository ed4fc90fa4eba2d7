"""Streams with known drifts, generated: sine1, mixed and circles of the literature, with 10 % label noise.

As measured in the data folder: classes are balanced, the concept changes every 20,000 records (circles: 25,000). In
sine1 and mixed a record of the 50 after the change follows the new concept with a probability that rises as a
sigmoid; the circles change at once (their stated width of 500 is not in the file).
"""

import csv
import gzip
import math
import random
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
"""Where the data sets lie, gzip CSV with a header; not kept here. `--data` says where else."""

CIRCLES = ((0.2, 0.5, 0.15), (0.4, 0.5, 0.2), (0.6, 0.5, 0.25), (0.8, 0.5, 0.3))

DRIFTS = {
    "sine1": [20_000, 40_000, 60_000, 80_000],
    "mixed": [20_000, 40_000, 60_000, 80_000],
    "circles": [25_000, 50_000, 75_000],
}
WINDOW = {"sine1": 250, "mixed": 250, "circles": 1_000}
WIDTH = {"sine1": 50, "mixed": 50, "circles": 1}
LENGTH = 100_000

Row = tuple[dict[str, float], bool]


def generated(name: str, seed: int, length: int = LENGTH) -> list[Row]:
    """One stream."""
    rng = random.Random(f"{name}/{seed}")
    rows = []
    every = DRIFTS[name][0]
    for at in range(length):
        concept, past = divmod(at, every)
        if concept and rng.random() >= _progress(past / WIDTH[name]):
            concept -= 1
        wanted = rng.random() < 0.5
        while True:
            x = _draw(name, rng)
            if y_of(name, x, concept) == wanted:
                break
        rows.append((x, wanted != (rng.random() < 0.1)))
    return rows


def _progress(share: float) -> float:
    """How likely the new concept is, `share` of the transition's width after its start."""
    return 1 / (1 + math.exp(2 - 4 * share)) if share < 1 else 1.0


def _draw(name: str, rng: random.Random) -> dict[str, float]:
    x = {"x": rng.random(), "y": rng.random()}
    if name == "mixed":
        x |= {"v": float(rng.random() < 0.5), "w": float(rng.random() < 0.5)}
    return x


def y_of(name: str, x: dict[str, float], concept: int) -> bool:
    """The label without noise."""
    if name == "sine1":
        return (x["y"] <= math.sin(x["x"])) != (concept % 2 == 1)
    if name == "mixed":
        votes = x["v"] + x["w"] + (x["y"] < 0.5 + 0.3 * math.sin(3 * math.pi * x["x"]))
        return (votes >= 2) != (concept % 2 == 1)
    across, up, radius = CIRCLES[concept % 4]
    return (x["x"] - across) ** 2 + (x["y"] - up) ** 2 > radius**2


def stored(name: str) -> list[Row]:
    """The one stream of the data folder."""
    with gzip.open(DATA / f"{name}_seed101.csv.gz", "rt") as file:
        return [
            (
                {key: _number(value) for key, value in row.items() if key != "class"},
                row["class"] == "p",
            )
            for row in csv.DictReader(file)
        ]


def _number(text: str) -> float:
    return {"True": 1.0, "False": 0.0}.get(text) if text in ("True", "False") else float(text)  # type: ignore[return-value]
