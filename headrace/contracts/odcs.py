"""A stream's contract as an ODCS 3.1 document (Bitol's Open Data Contract Standard), and back.

The document is what people write, review and keep; catalogues and other tools read it as any data contract. Fields are
properties of its one schema object; what the standard has no word for stands under custom properties that begin with
`headrace`. The standard's own models check every document in both directions, so nothing here is a dialect. Because
those models skip unknown keys below the top, this module looks for misspelt ones itself: a `requird: true` that is
silently ignored would be found by a model in production.

    headraceTask        binary, multiclass or regression (the one that every stream needs)
    headraceLabel       the label: a mapping (see LabelSpec), or the name of a property that is the label
    headraceEventTime, headraceEntity        names of properties; the id is the property with primaryKey
    headraceLimits, headraceOutliers, headracePartitions, headraceStream        see StreamContract; the last names the
                        stream
    on a property: headraceFeature, headraceSensitive, headracePersonal, headraceUnit
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec
import pydantic
from open_data_contract_standard.model import (
    CustomProperty,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)

from headrace.contracts import documents
from headrace.contracts.odcs_fields import (
    PREFIX,
    Path,
    Told,
    custom_properties,
    ours,
    read_field,
    write_field,
)
from headrace.contracts.outliers import UNWATCHED, OutlierSpec
from headrace.contracts.stream import LabelSpec, Limits, StreamContract, Task, check
from headrace.errors import Unusable

API_VERSION = "v3.1.0"
READ_VERSIONS = ("v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0")

STREAM_PROPERTIES = ("Task", "Label", "EventTime", "Entity", "Limits", "Outliers", "Partitions", "Stream")


# -- writing ------------------------------------------------------------


def dump(contract: StreamContract) -> str:
    """The ODCS document, as YAML. Raises `Unusable` if the contract is incoherent."""
    contract = check(contract)
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": contract.name,
        "name": contract.name,
        "version": f"{contract.version}.0.0",
        "status": "active",
        **({"description": {"purpose": contract.description}} if contract.description else {}),
        "schema": [
            {
                "name": contract.name,
                "logicalType": "object",
                "physicalType": "topic",
                "properties": [write_field(contract, field) for field in contract.fields],
            }
        ],
        "customProperties": custom_properties(
            Task=contract.task,
            Label=_written_struct(contract.label, keep=("name", "type")),
            EventTime=contract.event_time,
            Entity=contract.entity,
            Limits=_written_struct(contract.limits),
            Outliers=_written_struct(contract.outliers),
            Partitions=contract.partitions,
        ),
    }
    OpenDataContractStandard.model_validate(document)
    return documents.write(document)


def _written_struct(value: LabelSpec | Limits | OutlierSpec, keep: Sequence[str] = ()) -> dict[str, Any]:
    """The struct's fields that differ from their defaults, and those of `keep`."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return {name: getattr(value, name) for name in value.__struct_fields__ if name in plain or name in keep}


# -- reading ------------------------------------------------------------


def load(text: str | bytes) -> StreamContract:
    """Read an ODCS 3 document (YAML or JSON). Raises `Unusable` with the path of what is wrong and what to write."""
    document = documents.parse(text)
    _check_keys(document, OpenDataContractStandard, "")
    try:
        model = OpenDataContractStandard.model_validate(document)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Unusable(_lower(first["msg"]), where=_path(first["loc"])) from None
    if model.kind != "DataContract":
        raise Unusable("must be `DataContract`", where="kind")
    if model.apiVersion not in READ_VERSIONS:
        raise Unusable(f"must be {API_VERSION} (or {', '.join(READ_VERSIONS)})", where="apiVersion")
    if len(model.schema_ or []) != 1:
        raise Unusable(f"one object, the stream's; here are {len(model.schema_ or [])}", where="schema")
    schema = (model.schema_ or [])[0]
    told = _told(model, schema)
    return _contract(model, schema, told)


def _told(model: OpenDataContractStandard, schema: SchemaObject) -> Told:
    told = ours(model.customProperties, STREAM_PROPERTIES, "customProperties")
    inner = ours(schema.customProperties, STREAM_PROPERTIES, "schema[0].customProperties")
    for name, (_, path) in inner.items():
        if name in told:
            raise Unusable(f"{PREFIX}{name} is also given at {told[name][1]}", where=path)
    told.update(inner)
    if "Task" not in told:
        raise Unusable(
            f"headraceTask is missing: add {{property: headraceTask, value: {' | '.join(get_args(Task))}}}",
            where="customProperties",
        )
    return told


def _contract(model: OpenDataContractStandard, schema: SchemaObject, told: Told) -> StreamContract:
    properties = schema.properties or []
    paths = {item.name: f"schema[0].properties[{index}]" for index, item in enumerate(properties)}
    label, column = _label(told, {item.name: item for item in properties if item.name}, paths)
    kept = [item for item in properties if item.name != column]
    fields = [read_field(item, paths[item.name]) for item in kept]
    keys = [item.name for item in kept if item.primaryKey]
    if len(keys) > 1:
        raise Unusable("two primary keys; the id is one field", where=f"{paths[keys[1]]}.primaryKey")
    contract = StreamContract(
        name=told.take("Stream", str, schema.name or ""),
        task=told.take("Task", Task, None),
        fields=fields,
        version=_version(model.version),
        label=label,
        limits=told.take("Limits", Limits, Limits()),
        outliers=told.take("Outliers", OutlierSpec, UNWATCHED),
        id=(keys[0] or "") if keys else "",
        event_time=told.take("EventTime", str, ""),
        entity=told.take("Entity", str, ""),
        partitions=told.take("Partitions", int, 1),
        description=(model.description.purpose or "") if model.description else "",
    )
    try:
        return check(contract)
    except Unusable as error:
        hint = "" if error.where or "Stream" in told else "; or name the stream by headraceStream"
        raise Unusable(error.reason + hint, where=_place(error.where, contract, kept, paths, told)) from None


def _place(
    where: str,
    contract: StreamContract,
    kept: Sequence[SchemaProperty],
    paths: Mapping[Any, Path],
    told: Told,
) -> Path:
    """The place in the document of what `check` named by its place in the contract."""
    head, _, rest = where.partition(".")
    if head == "fields":
        return "schema[0].properties"
    if head.startswith("fields["):
        names = {"type": "logicalType", "max_length": "logicalTypeOptions.maxLength", "categories": "quality"}
        names |= {bound: f"logicalTypeOptions.{bound}" for bound in ("minimum", "maximum")}
        place = paths[kept[int(head[len("fields[") : -1])].name]
        return f"{place}.{names.get(rest, rest)}" if rest else place
    if head == "id":
        return f"{paths[contract.id]}.primaryKey"
    names = {
        "label": "Label",
        "limits": "Limits",
        "event_time": "EventTime",
        "entity": "Entity",
        "outliers": "Outliers",
        "partitions": "Partitions",
        "": "Stream",
    }
    name = names.get(head, "")
    path = told.path(
        name, {"Stream": "schema[0].name", "Label": "customProperties (headraceLabel)"}.get(name, where)
    )
    return f"{path}.{rest}" if rest else path


def _label(
    told: Told, properties: Mapping[str, SchemaProperty], paths: Mapping[Any, Path]
) -> tuple[LabelSpec, str | None]:
    """The label, and the name of the property that it is, if it is one."""
    value, path = told.get("Label", ({}, ""))
    if isinstance(value, str):
        if value not in properties:
            raise Unusable(
                f"no property is called {value!r}; name one, or describe the label in a mapping", where=path
            )
        value = {"name": value}
    if not isinstance(value, dict):
        raise Unusable("the name of a property, or a mapping", where=path)
    column = properties.get(value.get("name", ""))
    if column is not None:
        field = read_field(column, paths[column.name])
        if field.type == "time":
            raise Unusable("a time cannot be a label", where=f"{paths[column.name]}.logicalType")
        known = {
            "type": field.type,
            "minimum": field.minimum,
            "maximum": field.maximum,
            "classes": field.categories,
        }
        value = {name: one for name, one in known.items() if one is not None} | value
    return Told(Label=(value, path)).take("Label", LabelSpec, LabelSpec()), column.name if column else None


def _version(text: str | None) -> int:
    """The major part of the document's version, at least 1: `3.1.0` is 3."""
    major = (text or "1").removeprefix("v").partition(".")[0]
    if not (major.isascii() and major.isdigit()):
        raise Unusable("must begin with a number, such as 1.0.0", where="version")
    return max(1, int(major[:9]))


def _check_keys(value: Any, model: type[pydantic.BaseModel], path: Path) -> None:
    """Raise `Unusable` for a key that the standard does not have, in the parts of the document that are used."""
    if not isinstance(value, dict):
        return
    known = {info.alias or name for name, info in model.model_fields.items()}
    for key in value:
        if key not in known:
            near = next((name for name in known if name.lower() == str(key).lower()), None)
            hint = f"; the standard calls it {near}" if near else ""
            raise Unusable(f"is not in the standard{hint}", where=f"{path}.{key}".lstrip("."))
    below: dict[str, type[pydantic.BaseModel]] = {"customProperties": CustomProperty}
    if model is OpenDataContractStandard:
        below["schema"] = SchemaObject
    elif model is SchemaObject:
        below["properties"] = SchemaProperty
    for name, inner in below.items():
        items = value.get(name) if name in known else None
        for index, item in enumerate(items if isinstance(items, list) else ()):
            _check_keys(item, inner, f"{path}.{name}[{index}]".lstrip("."))


def _path(location: Sequence[str | int]) -> Path:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
