"""A stream's contract, as plain structs.

What producers promise and models may rely on: fields, the question (task and label), and the label policy. It is
written and kept as an ODCS document (`headrace.contracts.odcs`); this is the form the code uses and the form that a
`ContractAdopted` control record carries, so that a log explains itself.
"""

from typing import Any, Literal

import msgspec

from headrace.contracts.events import Scalar
from headrace.contracts.topics import check_stream_name
from headrace.errors import Unusable

FieldType = Literal["string", "integer", "number", "boolean", "time"]
Task = Literal["binary", "multiclass", "regression"]


class Field(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One field of an observation.

    A `time` enters the log as integer milliseconds since 1970 UTC. minimum/maximum are inclusive; numbers without
    them are still held within +-1e15, as larger ones ruin a scaler for ever. feature=False keeps it out of `x`.
    sensitive: used to look for bias. personal: identifies a person; out of `x` unless feature is set.
    """

    name: str
    type: FieldType
    required: bool = False
    feature: bool = True
    minimum: float | None = None
    maximum: float | None = None
    max_length: int = 256
    categories: list[str] | None = None
    unit: str = ""
    sensitive: bool = False
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
    that a label with the id alone finds its shard). partitions: number of shards, fixed for life.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; `from_dict` reads it back."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built


def from_dict(document: dict[str, Any]) -> StreamContract:
    """Read the plain form. Raises `Unusable` with the path of what is wrong."""
    try:
        contract = msgspec.convert(document, StreamContract)
    except msgspec.ValidationError as error:
        raise Unusable(str(error)) from None
    return check(contract)


def check(contract: StreamContract) -> StreamContract:
    """Return the contract if it is coherent, else raise `Unusable` naming the place."""
    check_stream_name(contract.name)
    names = [field.name for field in contract.fields]
    if len(set(names)) != len(names):
        raise Unusable("two fields have one name", where="fields")
    for role in ("id", "event_time", "entity"):
        named = getattr(contract, role)
        if named and named not in names:
            raise Unusable(f"no field is called {named!r}", where=role)
    if not 1 <= contract.partitions <= 1024:
        raise Unusable("between 1 and 1024", where="partitions")
    if contract.task == "regression" and contract.label.type not in ("integer", "number"):
        raise Unusable("a regression label is a number", where="label.type")
    if contract.task == "binary" and contract.label.type != "boolean" and contract.label.positive is None:
        raise Unusable("say which value of the label is the positive one", where="label.positive")
    if contract.label.expiry == "negative" and contract.task != "binary":
        raise Unusable("only a binary stream can expire to a negative", where="label.expiry")
    if contract.limits.remembered < contract.limits.pending:
        raise Unusable("must be at least limits.pending", where="limits.remembered")
    return contract
