"""The work that every contestant does: labelled flights, a model, and what has to come out.

One labelled event is two records, an observation and then its label. Doing the job means: predict on the observation,
emit a prediction; on the label emit an outcome that joins both, and learn. The features are the numeric ones of the
flights (distance, hour and the weather), the models those of the README: scaler + logistic regression, Hoeffding tree,
adaptive random forest of ten.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import Any, NamedTuple

from headrace.cli.flights.source import read_flights
from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, Label, ModelDeployed, Observation
from headrace.contracts.stream import Field, StreamContract

MODELS: dict[str, Any] = {
    "logistic": {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]},
    "tree": {"model": ["tree.HoeffdingTreeClassifier"]},
    "arf10": {"model": [{"class": "forest.ARFClassifier", "parameters": {"n_models": 10, "seed": 42}}]},
}
"""Specifications as Headrace takes them; `river_model` spells the same out in River."""

YEAR_MS = 366 * 24 * 3600 * 1000


class Labelled(NamedTuple):
    """One flight that landed: at and landed in ms since 1970 UTC, numeric features, whether it was late."""

    id: str
    at: int
    x: dict[str, float]
    y: bool
    landed: int


def labelled(count: int) -> list[Labelled]:
    """The first `count` flights that landed."""
    landed = (flight for flight in read_flights(None) if flight.landed >= 0)
    return [
        Labelled(
            flight.id,
            flight.at,
            {name: float(value) for name, value in flight.x.items() if isinstance(value, int | float)},
            flight.late,
            flight.landed,
        )
        for flight in islice(landed, count)
    ]


def years(count: int) -> Iterator[Labelled]:
    """`count` flights: those that landed in 2013, then the same again a year later under new ids, and so on."""
    once = labelled(count)
    for place in range(count):
        year, row = divmod(place, len(once))
        first = once[row]
        if year == 0:
            yield first
        else:
            shift = year * YEAR_MS
            yield first._replace(id=f"{first.id}+{year}", at=first.at + shift, landed=first.landed + shift)


def contract_of(stream: str, rows: list[Labelled]) -> StreamContract:
    """A contract that these rows keep."""
    names = sorted({name for row in rows for name in row.x})
    return StreamContract(stream, "binary", [Field(name, "number") for name in names])


def control_records(contract: StreamContract, model: str) -> list[bytes]:
    """How a log begins: its contract, and the model's deployment."""
    return [
        encode(ContractAdopted("contract", 0, 1, contract.to_dict())),
        encode(ModelDeployed("deploy", 0, model, 1, MODELS[model])),
    ]


def log_records(rows: Iterator[Labelled]) -> Iterator[bytes]:
    """Observations at departure and labels at landing, merged by event time as in life."""
    in_the_air: list[tuple[int, str, bool]] = []
    for row in rows:
        while in_the_air and in_the_air[0][0] <= row.at:
            yield _label(*heappop(in_the_air))
        yield encode(Observation(row.id, row.id, row.at, dict(row.x)))
        heappush(in_the_air, (row.landed, row.id, row.y))
    while in_the_air:
        yield _label(*heappop(in_the_air))


def _label(at: int, identity: str, late: bool) -> bytes:
    return encode(Label(identity, identity, at, late))


def river_model(name: str) -> Any:
    """The model in plain River."""
    from river import forest, linear_model, preprocessing, tree

    if name == "logistic":
        return preprocessing.StandardScaler() | linear_model.LogisticRegression()
    if name == "tree":
        return tree.HoeffdingTreeClassifier()
    return forest.ARFClassifier(n_models=10, seed=42)
