"""What is called compatible is: nothing valid under the old schema is refused by the new one, whoever wrote it."""

import json
import time

import jsonschema
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from headrace.contracts.compatibility import breaking_changes
from headrace.contracts.json_schema import TIME, json_schema
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from services.registry.domain.containment import MOST_REASONS, narrower
from tests.unit.contracts.test_compatibility import two_versions
from tests.unit.contracts.test_json_schema import Validator, anything, documents

CONTRACT = StreamContract(
    "s",
    "binary",
    [Field("a", "number", required=True, minimum=0, maximum=10), Field("b", "string"), Field("t", "time")],
    label=LabelSpec("late"),
)
SCHEMA = json_schema(CONTRACT)
PLAIN = {"anyOf": [SCHEMA["definitions"]["observation"], SCHEMA["definitions"]["label"]]}
"""Without CloudEvents, whose further attributes may be called as a field is and hold anything."""
few = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


# -- the laws ---------------------------------------------------------------------------------------------------------


@few
@given(two_versions())
def test_what_a_stream_may_adopt_is_compatible(versions):
    old, new = versions
    if not breaking_changes(old, new):
        event("compatible")
        assert narrower(json_schema(old), json_schema(new)) == []


@few
@given(st.data())
def test_of_two_contracts(data):
    old, new = data.draw(two_versions())
    if narrower(json_schema(old), json_schema(new)):
        return
    event("contained")
    for document in data.draw(st.lists(documents(old), max_size=5)):
        if Validator(json_schema(old)).is_valid(document):
            event("valid")
            assert Validator(json_schema(new)).is_valid(document)


kinds = st.sampled_from(["null", "boolean", "object", "array", "integer", "number", "string"])
numbers = st.sampled_from([-1, 0, 0.5, 3, 10, 11, 1e15, 1e16])
values = st.fixed_dictionaries(
    {},
    optional={
        "type": kinds | st.lists(kinds, min_size=1, unique=True),
        "enum": st.lists(anything, min_size=1, max_size=3),
        "const": anything,
        "minimum": numbers,
        "maximum": numbers,
        "exclusiveMinimum": numbers,
        "exclusiveMaximum": numbers,
        "multipleOf": st.sampled_from([1, 2]),
        "minLength": st.integers(0, 2),
        "maxLength": st.sampled_from([1, 128, 256, 300]),
        "pattern": st.sampled_from([TIME, "a"]),
        "minItems": st.integers(0, 1),
    },
)
keys = st.sampled_from(["a", "b", "t", "id", "at", "type", "late", "label", "entity", "data", "other"])


def objects(inner):
    return st.fixed_dictionaries(
        {},
        optional={
            "type": kinds | st.just("object"),
            "properties": st.dictionaries(keys, inner, max_size=8),
            "required": st.lists(keys, max_size=2, unique=True),
            "additionalProperties": inner,
            "patternProperties": st.dictionaries(st.sampled_from(["a", "^t"]), inner, max_size=1),
            "minProperties": st.integers(0, 2),
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    )


schemas = st.recursive(st.booleans() | values | st.just({}), objects, max_leaves=12)
changed = st.tuples(keys, values | st.booleans()).map(
    lambda change: {**SCHEMA, "allOf": [{"properties": {change[0]: change[1]}}]}
)


@settings(few, max_examples=600)
@given(schemas | changed, st.lists(documents(CONTRACT), min_size=1, max_size=6))
def test_of_a_contract_and_whatever_somebody_wrote(schema, found):
    if narrower(SCHEMA, schema):
        return
    event("contained")
    if isinstance(schema, dict):
        schema = {**schema, "definitions": SCHEMA["definitions"]}
    for document in found:
        if Validator(SCHEMA).is_valid(document):
            event("valid")
            assert Validator(schema).is_valid(document), schema


@given(anything | st.dictionaries(st.sampled_from(["type", "properties", "$ref", "anyOf", "enum"]), anything))
def test_what_is_no_schema_is_no_accident(schema):
    """An answer for everything, and no schema that validators refuse is called compatible unless it is read past."""
    answer = narrower(SCHEMA, schema)
    assert isinstance(answer, list)
    if not answer and schema is not True:
        jsonschema.Draft7Validator.check_schema(schema)


# -- one by one -------------------------------------------------------------------------------------------------------


def without_requirement():
    schema = json.loads(json.dumps(SCHEMA))
    del schema["definitions"]["observation"]["required"]
    return schema


@pytest.mark.parametrize(
    "new",
    [
        True,
        {},
        {"type": "object", "description": "anything"},
        PLAIN,
        SCHEMA,
        {"$ref": "#/definitions/all", "definitions": {"all": SCHEMA, **SCHEMA["definitions"]}},
        without_requirement(),
        {"anyOf": [{"type": "string"}, {"type": "object"}]},
        {"properties": {"a": {"type": ["number", "null"], "minimum": -1}, "unknown": False}},
        {"properties": {"a": {"exclusiveMaximum": 11}}},
        {"properties": {"late": {"enum": [True, False, None]}}},
        {"not": {"type": "array"}, "minItems": 5},
    ],
)
def test_wide_enough(new):
    assert narrower(PLAIN, new) == []


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (False, "may be no more"),
        ({"type": "array"}, "may be an object"),
        ({"properties": {"a": {"type": "integer"}}}, "a may be a number"),
        ({"properties": {"a": {"maximum": 9}}}, "a: maximum is 9 now, 10 so far"),
        ({"properties": {"a": {"exclusiveMaximum": 10}}}, "a: exclusiveMaximum is 10 now, 10 so far"),
        ({"properties": {"b": {"maxLength": 5}}}, "b: maxLength is 5 now, 256 so far"),
        ({"properties": {"b": {"minLength": 1}}}, "b: minLength is 1 now, open so far"),
        ({"properties": {"b": {"enum": ["x"]}}}, "b may be anything so far"),
        ({"properties": {"late": {"const": True}}}, "late may be False so far"),
        ({"properties": {"b": {"pattern": "^a"}}}, "b need not have this pattern"),
        ({"properties": {"b": {"format": "date"}}}, "b need not have this format"),
        ({"properties": {"a": {"multipleOf": 1}}}, "'multipleOf' is a keyword that is not compared"),
        ({"required": ["b"]}, "b may be missing so far"),
        ({"additionalProperties": False}, "a may be no more"),
        ({"anyOf": [{"required": ["a"]}, {"required": ["late"]}]}, "may be missing so far"),
        ({"oneOf": [SCHEMA]}, "'oneOf' is a keyword"),
        ({"not": {"type": "object"}}, "may be an object so far"),
        ({"not": {"required": ["x"]}}, "such a 'not' is not compared"),
        ({"$ref": "#"}, "nested too deep"),
        ({"$ref": "other.json"}, "refers to another document"),
        ({"$ref": "#/nowhere"}, "leads nowhere"),
        ({"allOf": [{"$id": "x", "$ref": "#/definitions/a"}]}, "base of its own"),
        ({"type": "fraction"}, "is no type"),
        ({"properties": 5}, "no JSON Schema"),
        ({"properties": {"a": 5}}, "has no schema"),
    ],
)
def test_too_narrow_or_not_to_be_told(new, says):
    found = narrower(PLAIN, new)
    assert any(says in reason for reason in found), found


def test_reasons_and_time_have_bounds():
    wide = StreamContract("s", "binary", [Field(f"a{number}", "number") for number in range(1000)])
    none = json_schema(StreamContract("s", "binary", [Field("x", "number")]))
    found = narrower(json_schema(wide), none)
    assert found == [f"a{number} may be no more" for number in sorted(range(1000), key=str)][:MOST_REASONS]
    began = time.monotonic()
    assert narrower(json_schema(wide), json_schema(wide)) == []
    branches = [{"properties": {f"a{number % 1000}": {"const": number}}} for number in range(20_000)]
    assert "too large" in narrower(json_schema(wide), {"anyOf": branches})[0]
    doubled = {"anyOf": [{"type": "null"}]}
    for _ in range(40):
        doubled = {"anyOf": [doubled, doubled]}
    assert narrower(SCHEMA, doubled) == ["cannot be told: it is too large"]
    assert time.monotonic() - began < 30


def test_what_must_be_there_is_not_null():
    old = {"allOf": [{"type": ["string", "null"]}, {"not": {"type": "null"}}]}
    assert narrower(old, {"type": "string"}) == []
    assert narrower(old["allOf"][0], {"type": "string"}) == ["the value may be null so far"]


def test_an_attribute_of_a_cloudevent_may_be_anything():
    [reason] = narrower(SCHEMA, {"properties": {"a": {"type": ["number", "null"]}}})
    assert "a may be a boolean or a string or an array or an object so far" in reason
    assert "any other key may be no more" in narrower(SCHEMA, {"additionalProperties": False})
