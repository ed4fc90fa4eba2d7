"""A stream's contract, as plain structs.

What producers promise and models may rely on: fields, the question (task and label), and the label policy. It is
written and kept as an ODCS document (`headrace.contracts.odcs`); this is the form the code uses and the form that a
`ContractAdopted` control record carries, so that a log explains itself. `check` refuses what contradicts itself and
settles what was left open (which fields are features), so that everyone downstream reads plain facts.
"""

from typing import Any, Literal

import msgspec

from headrace.contracts.coherence import MAGNITUDE, MAX_LENGTH, check_coherence
from headrace.contracts.events import Scalar
from headrace.contracts.outliers import UNWATCHED, OutlierSpec, check_outliers
from headrace.errors import Unusable

FieldType = Literal["string", "integer", "number", "boolean", "time"]
Task = Literal["binary", "multiclass", "regression"]


class Field(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One field of an observation.

    A `time` enters the log as integer milliseconds since 1970 UTC. minimum/maximum are inclusive; numbers without
    them are still held within +-1e15, as larger ones ruin a scaler for ever. max_length and categories: strings only.
    sensitive: used to look for bias. segment: quality is also told for each of its values. Both make groups (see
    `headrace.contracts.groups`); edges, rising, are where those of a number or a time begin. personal: identifies a
    person. feature: whether it is in `x`; None leaves it to `check`, which says no for a personal field, the id and
    the event time, and yes for every other.
    """

    name: str
    type: FieldType
    required: bool = False
    feature: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    max_length: int = MAX_LENGTH
    categories: list[str] | None = None
    unit: str = ""
    sensitive: bool = False
    segment: bool = False
    edges: list[float] | None = None
    personal: bool = False
    description: str = ""


class LabelSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The label and its policy.

    type: of the raw label. positive: binary only, the raw value that means True (True for booleans). classes:
    multiclass or text binary, the closed set if declared. wait_seconds: event time until an observation without label
    expires. expiry: what expiry means: `drop`, or a `negative` example (binary only). second: a second label is
    `ignore`d or taken as a `correct`ion (outcome and metrics revised; nothing is unlearnt).
    """

    name: str = "label"
    type: Literal["string", "integer", "number", "boolean"] = "boolean"
    positive: Scalar | None = None
    classes: list[Scalar] | None = None
    minimum: float | None = None
    maximum: float | None = None
    wait_seconds: int = 7 * 24 * 3600
    expiry: Literal["drop", "negative"] = "drop"
    second: Literal["ignore", "correct"] = "ignore"


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Bounds per shard (partition); at the bound the oldest gives way and is counted.

    pending: observations waiting for a label. remembered: ids kept for dedupe and second labels, at least pending.
    early_labels: labels waiting for their observation. future_seconds: how far ahead of the clock `at` may be.
    """

    pending: int = 200_000
    remembered: int = 400_000
    early_labels: int = 10_000
    future_seconds: int = 300


class StreamContract(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A stream: its fields, its roles, its question.

    id: the field that carries the observation id ("" = producers send `id` or get one). event_time: the field that
    carries event time ("" = arrival). entity: the field that decides the partition ("" = the observation's id, so
    that a label with the id alone finds its shard). partitions: number of shards, fixed for life. outliers: what
    observations are watched for.
    """

    name: str
    task: Task
    fields: list[Field]
    version: int = 1
    label: LabelSpec = LabelSpec()
    limits: Limits = Limits()
    id: str = ""
    event_time: str = ""
    entity: str = ""
    partitions: int = 1
    description: str = ""
    outliers: OutlierSpec = UNWATCHED

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; `from_dict` reads it back. A field's `feature` is left out where it is the default."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        for field, plain in zip(self.fields, built["fields"], strict=True):
            if field.feature == feature_by_default(self, field):
                plain.pop("feature", None)
        return built


def feature_by_default(contract: StreamContract, field: Field) -> bool:
    """Whether a field that does not say is in `x`: unless it is personal, the id or the event time."""
    return not field.personal and field.name not in (contract.id, contract.event_time)


def is_label(task: Task, y: Scalar) -> bool:
    """Whether `y` can be a label of a stream with this task."""
    if task == "binary":
        return y is True or y is False
    if task == "regression":
        return isinstance(y, float | int) and not isinstance(y, bool) and abs(y) <= MAGNITUDE
    return True


def from_dict(document: dict[str, Any]) -> StreamContract:
    """Read the plain form. Raises `Unusable` with the path of what is wrong."""
    try:
        contract = msgspec.convert(document, StreamContract)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise Unusable(reason, where=where.strip("`.")) from None
    return check(contract)


def check(contract: StreamContract) -> StreamContract:
    """Return the contract, each field's `feature` settled. Raises `Unusable` if it is incoherent (see `coherence`)."""
    check_coherence(contract)
    if any(field.feature is None for field in contract.fields):
        contract = msgspec.structs.replace(
            contract,
            fields=[
                field
                if field.feature is not None
                else msgspec.structs.replace(field, feature=feature_by_default(contract, field))
                for field in contract.fields
            ],
        )
    check_outliers(contract)
    return contract
