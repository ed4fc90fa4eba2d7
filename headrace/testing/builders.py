"""Events for tests: contracts, observations, labels, control records, and batches of them.

Everything has a default that works, so that a test says only what it is about. Ids of control records are made from
what they say; give another where the same decision is to come twice.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headrace.contracts import stream as contracts
from headrace.contracts.codec import encode
from headrace.contracts.events import (
    Answer,
    ContractAdopted,
    Features,
    Label,
    LearningFrozen,
    ModelDeployed,
    ModelPromoted,
    ModelRetired,
    Observation,
    Outcome,
    OutcomeStatus,
    Prediction,
    Role,
    Scalar,
    TrafficShared,
)
from headrace.contracts.stream import Field, StreamContract, Task
from headrace.processor import Batch

LOGISTIC_REGRESSION = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]}
"""A specification that answers and learns from the first event; binary."""


def contract(
    name: str = "s", task: Task = "binary", fields: Sequence[Field] | None = None, **more: Any
) -> StreamContract:
    """A contract, checked; by default with the number fields `a` and `b`. more: its other fields (`limits`, ...)."""
    chosen = [Field("a", "number"), Field("b", "number")] if fields is None else list(fields)
    return contracts.check(StreamContract(name, task, chosen, **more))


def adopted(declared: StreamContract | None = None, *, at: int = 0, id: str = "") -> ContractAdopted:
    """The stream follows this contract from here on."""
    declared = contract() if declared is None else declared
    return ContractAdopted(id or f"contract-{declared.version}", at, declared.version, declared.to_dict())


def deployed(
    model: str = "m",
    specification: dict[str, Any] | None = None,
    *,
    version: int = 1,
    role: Role = "champion",
    at: int = 0,
    id: str = "",
) -> ModelDeployed:
    """A model answers from here on."""
    chosen = LOGISTIC_REGRESSION if specification is None else specification
    return ModelDeployed(id or f"deploy-{model}-{version}-{role}", at, model, version, chosen, role)


def promoted(model: str = "m", *, at: int = 0, id: str = "") -> ModelPromoted:
    """A challenger becomes champion."""
    return ModelPromoted(id or f"promote-{model}", at, model)


def shared(model: str = "m", share: float = 0.5, *, at: int = 0, id: str = "") -> TrafficShared:
    """A challenger answers a share of the entities."""
    return TrafficShared(id or f"share-{model}-{share}", at, model, share)


def frozen(model: str = "m", frozen: bool = True, *, at: int = 0, id: str = "") -> LearningFrozen:
    """A model stops learning, or resumes."""
    return LearningFrozen(id or f"freeze-{model}-{frozen}", at, model, frozen)


def retired(model: str = "m", *, at: int = 0, id: str = "") -> ModelRetired:
    """A model leaves."""
    return ModelRetired(id or f"retire-{model}", at, model)


def observation(id: str, x: Features | None = None, *, entity: str = "", at: int = 0) -> Observation:
    """Something to predict. entity: its id unless given."""
    return Observation(id, entity or id, at, {"a": 1.0, "b": -1.0} if x is None else x)


def label(id: str, y: Scalar = True, *, entity: str = "", at: int = 0) -> Label:
    """The truth about `id`."""
    return Label(id, entity or id, at, y)


def prediction(
    id: str,
    score: float | None = 0.7,
    *,
    model: str = "m",
    at: int = 0,
    offset: int = 0,
    challengers: Sequence[Answer] = (),
) -> Prediction:
    """What a binary model said; score None: it could not say."""
    answer = None if score is None else score > 0.5
    return Prediction(id, id, at, offset, model, 1, answer, score, None, list(challengers))


def outcome(
    id: str,
    y: Scalar | None = True,
    score: float | None = 0.7,
    *,
    status: OutcomeStatus = "labelled",
    model: str = "m",
    at: int = 0,
    observed_at: int = 0,
    offset: int = 0,
    previous_y: Scalar | None = None,
) -> Outcome:
    """A binary model's prediction joined with its label."""
    answer = None if score is None else score > 0.5
    return Outcome(
        id, id, at, status, offset, observed_at, 0, y, previous_y, model, 1, answer, score
    )  # fmt: skip


def batch(
    records: Iterable[msgspec.Struct | bytes | None],
    *,
    topic: str = "s.log",
    partition: int = 0,
    first: int = 0,
    step: int = 1,
) -> Batch:
    """Records of one partition: events are encoded and keyed by their entity, bytes go as they are.

    first: offset of the first; step: between two (offsets of a real log have gaps). Columns are tuples, so that a
    processor that writes into its batch is caught.
    """
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    for record in records:
        entity = getattr(record, "entity", None)
        keys.append(entity.encode() if isinstance(entity, str) else None)
        values.append(encode(record) if isinstance(record, msgspec.Struct) else record)
    offsets = tuple(range(first, first + step * len(values), step))
    return Batch(topic, partition, offsets, tuple(keys), tuple(values))
