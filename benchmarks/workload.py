"""The work that every contestant does: labelled flights, a model, and what has to come out.

One labelled event is two records, an observation and then its label. Doing the job means: predict on the observation,
emit a prediction; on the label emit an outcome that joins both, and learn. The features are the numeric ones of the
flights (distance, hour and the weather), the models those of the README: scaler + logistic regression, Hoeffding tree,
adaptive random forest of ten.
"""

from itertools import islice
from typing import Any, NamedTuple

from headrace.cli.flights.source import read_flights

MODELS: dict[str, Any] = {
    "logistic": {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]},
    "tree": {"model": ["tree.HoeffdingTreeClassifier"]},
    "arf10": {"model": [{"class": "forest.ARFClassifier", "parameters": {"n_models": 10, "seed": 42}}]},
}
"""Specifications as Headrace takes them; `river_model` spells the same out in River."""


class Labelled(NamedTuple):
    """One flight that landed: at in ms since 1970 UTC, numeric features, whether it was late."""

    id: str
    at: int
    x: dict[str, float]
    y: bool


def labelled(count: int) -> list[Labelled]:
    """The first `count` flights that landed."""
    landed = (flight for flight in read_flights(None) if flight.landed >= 0)
    return [
        Labelled(
            flight.id,
            flight.at,
            {name: float(value) for name, value in flight.x.items() if isinstance(value, int | float)},
            flight.late,
        )
        for flight in islice(landed, count)
    ]


def river_model(name: str) -> Any:
    """The model in plain River."""
    from river import forest, linear_model, preprocessing, tree

    if name == "logistic":
        return preprocessing.StandardScaler() | linear_model.LogisticRegression()
    if name == "tree":
        return tree.HoeffdingTreeClassifier()
    return forest.ARFClassifier(n_models=10, seed=42)
