"""A stream's contract as a JSON Schema: what ingest takes from `S.inbox`, for tools that know nothing of contracts.

The schema says of every JSON value what `cleanse` says of its bytes, as far as JSON Schema can: what the cleanser takes
is valid, whatever it is, and what is valid but refused is refused for a reason that a schema has no words for (two keys
that contradict each other, the clock, the calendar; docs/fits-in.md lists them). A test holds the two together on any
contract and any document. Draft 7, because every registry and
validator reads it; its `$ref` stands alone, as draft 7 ignores what is written beside it. Patterns keep to what
ECMA-262, Python, Java and RE2 mean alike.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.contracts.careful import Careful
from headrace.contracts.cleanse import ID_LENGTH
from headrace.contracts.coherence import NUMERIC, WHOLE, effective_bounds
from headrace.contracts.envelope import ATTRIBUTE_LENGTH
from headrace.contracts.stream import Field, StreamContract, check

DRAFT = "http://json-schema.org/draft-07/schema#"

TIME = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([Tt ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?$"
)
"""What `times.parse_ms` reads, but for the calendar (30 February has this form too)."""
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
JSON_MEDIA_TYPE = r"^[^;]*[/+][Jj][Ss][Oo][Nn]\s*(;|$)"

Schema = dict[str, Any]

_IDENTITY: Schema = {
    "type": ["string", "integer"],
    "minLength": 1,
    "maxLength": ID_LENGTH,
    "pattern": PRINTABLE,
}
_TIME: Schema = {"type": ["integer", "string"], "minimum": 0, "pattern": TIME}
_ATTRIBUTE: Schema = {"type": "string", "minLength": 1, "maxLength": ATTRIBUTE_LENGTH}
_OBSERVATION: Schema = {"$ref": "#/definitions/observation"}
_LABEL: Schema = {"$ref": "#/definitions/label"}


def json_schema(contract: StreamContract) -> Schema:
    """The schema of the values in the stream's inbox. Raises `Unusable` if the contract is incoherent."""
    contract = check(contract)
    rules = Careful(contract)
    label = _LABEL
    if rules.ambiguous:  # without `type`, only a key that no field has tells a label
        tells: list[Schema] = [{"required": [key]} for key in rules.telling_keys]
        if rules.has_kind:
            tells.append({"required": ["type"], "properties": {"type": {"const": "label"}}})
        label = {"allOf": [_LABEL, {"anyOf": tells}]}
    return {
        "$schema": DRAFT,
        "title": contract.name,
        **({"description": contract.description} if contract.description else {}),
        "definitions": {
            "observation": _observation(contract, rules),
            "label": _label(contract, rules),
            "event": _event(contract),
        },
        "type": "object",
        "anyOf": [_OBSERVATION, label, {"$ref": "#/definitions/event"}],
    }


# -- records ----------------------------------------------------------------------------------------------------------


def _observation(contract: StreamContract, rules: Careful) -> Schema:
    needed = [
        field.name
        for field in contract.fields
        if field.name in (contract.entity, contract.event_time)
        or (field.required and field.name != contract.id)
        or (field.required and field.name == contract.id == "id")
    ]
    properties = {field.name: _field(contract, field, field.name in needed) for field in contract.fields}
    properties.setdefault("id", _optional(_IDENTITY))
    if not contract.event_time:
        properties["at"] = _optional(_TIME)
    if rules.has_kind:
        properties["type"] = {"enum": ["observation", None]}
    identity = next((field for field in contract.fields if field.name == contract.id != "id"), None)
    given = [_given([identity.name, "id"])] if identity and identity.required else []
    return _object(properties, needed, given)


def _label(contract: StreamContract, rules: Careful) -> Schema:
    spec = contract.label
    value = _optional(_value(Field(spec.name, spec.type, minimum=spec.minimum, maximum=spec.maximum)))
    if spec.classes is not None:
        value["enum"] = [*spec.classes, None]
    entity: Schema = {"type": ["string", "integer", "boolean", "null"]}
    if contract.entity:
        entity["minLength"] = 1
    names = [name for name in ("id", rules.id_alias) if name]
    entities = [name for name in ("entity", rules.entity_alias) if name]
    properties = {
        **dict.fromkeys(names, _optional(_IDENTITY)),
        **dict.fromkeys(rules.label_keys, value),
        **dict.fromkeys(entities, entity),
        "at": _optional(_TIME),
        "type": {"enum": ["label", None]},
    }
    given = [_given(names), _given(rules.label_keys)]
    if contract.entity:
        given.append(_given(entities))
    return _object(properties, [], given)


def _event(contract: StreamContract) -> Schema:
    """A CloudEvent; its attributes beside those that are read are its own."""
    own = list(dict.fromkeys(filter(None, (contract.id, "id"))))
    lent = {"anyOf": [{"properties": {"id": _IDENTITY}}, {"properties": {"data": _given(own)}}]}
    plain = {"required": ["data"], "properties": {"data_base64": {"type": "null"}}}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _ATTRIBUTE,
            "source": _ATTRIBUTE,
            "type": _ATTRIBUTE,
            "time": {"type": ["string", "null"], "pattern": TIME},
            "datacontenttype": {"type": ["string", "null"], "pattern": JSON_MEDIA_TYPE},
            "data_base64": {"type": ["string", "null"], "contentEncoding": "base64"},
        },
        "anyOf": [
            {"allOf": [plain, _kind("observation"), {"properties": {"data": _OBSERVATION}}, lent]},
            {"allOf": [plain, _kind("label"), {"properties": {"data": _LABEL}}]},
            {
                "allOf": [
                    _kind("(observation|label)"),
                    _given(["data_base64"]),
                    {"properties": {"data": {"type": "null"}}},
                ]
            },
        ],
    }


def _kind(name: str) -> Schema:
    return {"properties": {"type": {"type": "string", "pattern": f"{name}$"}}}


# -- values -----------------------------------------------------------------------------------------------------------


def _field(contract: StreamContract, field: Field, needed: bool) -> Schema:
    schema = _value(field)
    if field.name == contract.event_time:
        if field.minimum is None and field.maximum is None:
            del schema["maximum"]  # the clock bounds it
        schema["minimum"] = max(0, schema["minimum"])
    if field.type == "string" and field.name in (contract.id, contract.entity):
        schema["minLength"] = 1
    if field.type == "string" and field.name == contract.id:
        schema |= {"maxLength": min(field.max_length, ID_LENGTH), "pattern": PRINTABLE}
    schema = schema if needed else _optional(schema)
    return {**schema, "description": field.description} if field.description else schema


def _value(field: Field) -> Schema:
    if field.type == "boolean":
        return {"type": "boolean"}
    if field.type == "string":
        closed = {} if field.categories is None else {"enum": list(field.categories)}
        return {"type": "string", "maxLength": field.max_length, **closed}
    low, high = effective_bounds(field.minimum, field.maximum)
    bounds = {"minimum": _number(low), "maximum": _number(high)}
    if field.type in NUMERIC:
        return {"type": field.type, **bounds}
    return {"type": ["integer", "string"], "pattern": TIME, **bounds}


def _number(bound: float) -> float | int:
    """A bound as people would write it: 5, not 5.0."""
    return int(bound) if abs(bound) <= WHOLE and bound == int(bound) else bound


def _optional(schema: Schema) -> Schema:
    """The same, or null, which means missing."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    closed = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [*kinds, "null"], **closed}


def _object(properties: dict[str, Schema], required: Sequence[str], given: Sequence[Schema]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        **({"allOf": list(given)} if given else {}),
    }


def _given(names: Iterable[str]) -> Schema:
    """At least one of these keys is there and not null."""
    each = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names]
    return each[0] if len(each) == 1 else {"anyOf": each}
