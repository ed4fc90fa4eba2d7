"""ODCS documents: what we write the standard reads, what the standard's models write we read, errors name the place."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from open_data_contract_standard.model import (
    CustomProperty,
    EnumValue,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)

from headrace.contracts.odcs import dump, load
from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract, check, from_dict
from headrace.errors import Unusable
from tests.unit.contracts.contracts import contracts

PLAIN = """
apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
name: Flights out of New York
version: 2.1.0
status: active
team: {name: airside}
description: {purpose: Late or not}
schema:
  - name: flights
    physicalName: dbo.flights
    properties:
      - {name: flight, logicalType: string, primaryKey: true, required: true}
      - {name: scheduled, logicalType: timestamp, required: true}
      - {name: day, logicalType: date, logicalTypeOptions: {minimum: "2013-01-01", format: yyyy-MM-dd}}
      - name: carrier
        logicalType: string
        logicalTypeOptions: {maxLength: 2}
        quality:
          - {metric: invalidValues, arguments: {validValues: [UA, AA]}, mustBe: 0}
          - {metric: rowCount, mustBeGreaterThan: 5}
      - {name: hour, logicalType: integer, logicalTypeOptions: {minimum: 0, exclusiveMaximum: 24, format: i32}}
      - {name: captain, logicalType: string, classification: PII}
      - {name: late, logicalType: boolean}
customProperties:
  - {property: headraceTask, value: binary}
  - {property: headraceLabel, value: late}
  - {property: headraceEventTime, value: scheduled}
  - {property: somebodyElses, value: {deep: [1]}}
"""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contracts())
def test_what_is_dumped_is_read_back(contract):
    text = dump(contract)
    assert load(text) == contract
    assert load(json.dumps(yaml.safe_load(text))) == contract
    assert from_dict(json.loads(json.dumps(contract.to_dict()))) == contract
    standard = OpenDataContractStandard.from_string(text)
    assert standard.apiVersion == "v3.1.0"
    assert [item.name for item in standard.schema_[0].properties] == [field.name for field in contract.fields]
    # As JSON: the standard's own YAML writer loses Unicode's line breaks (PyYAML's default does).
    assert load(standard.model_dump_json(by_alias=True, exclude_none=True)) == contract


def test_a_document_that_others_wrote():
    contract = load(PLAIN)
    assert contract == check(
        StreamContract(
            name="flights",
            task="binary",
            version=2,
            fields=[
                Field("flight", "string", required=True),
                Field("scheduled", "time", required=True),
                Field("day", "time", minimum=1_356_998_400_000),
                Field("carrier", "string", max_length=2, categories=["UA", "AA"]),
                Field("hour", "integer", minimum=0, maximum=23),
                Field("captain", "string", personal=True),
            ],
            label=LabelSpec("late", "boolean"),
            id="flight",
            event_time="scheduled",
            description="Late or not",
        )
    )
    assert [field.name for field in contract.fields if field.feature] == ["day", "carrier", "hour"]
    assert load(dump(contract)) == contract


def test_a_document_made_with_the_standards_models():
    document = OpenDataContractStandard(
        apiVersion="v3.2.0",
        kind="DataContract",
        id="sensors",
        version="1.0.0",
        schema=[
            SchemaObject(
                name="sensors",
                properties=[
                    SchemaProperty(
                        name="site", logicalType="string", enum=[EnumValue(value="a"), EnumValue(value="b")]
                    ),
                    SchemaProperty(
                        name="heat",
                        logicalType="number",
                        logicalTypeOptions={"exclusiveMinimum": 0, "minimum": -5},
                        customProperties=[CustomProperty(property="headraceUnit", value="K")],
                    ),
                    SchemaProperty(name="power", logicalType="number", logicalTypeOptions={"minimum": 0}),
                ],
                customProperties=[
                    CustomProperty(property="headraceTask", value="regression"),
                    CustomProperty(property="headraceLabel", value={"name": "power", "wait_seconds": 60}),
                    CustomProperty(property="headraceEntity", value="site"),
                    CustomProperty(property="headraceLimits", value={"pending": 5, "remembered": 6}),
                    CustomProperty(property="headraceOutliers", value={"methods": ["trees"], "share": 0.01}),
                    CustomProperty(property="headracePartitions", value=3),
                    CustomProperty(property="headraceStream", value="heat-to-power"),
                ],
            )
        ],
    )
    contract = load(document.to_yaml())
    assert contract == check(
        StreamContract(
            name="heat-to-power",
            task="regression",
            fields=[
                Field("site", "string", categories=["a", "b"]),
                Field("heat", "number", minimum=5e-324, unit="K"),
            ],
            label=LabelSpec("power", "number", minimum=0, wait_seconds=60),
            limits=Limits(pending=5, remembered=6),
            outliers=OutlierSpec(["trees"], share=0.01),
            entity="site",
            partitions=3,
        )
    )


def changed(*steps: Any, to: Any) -> str:
    """PLAIN with the value at a path replaced (None: removed; a path may end at a new key)."""
    document = yaml.safe_load(PLAIN)
    place = document
    for step in steps[:-1]:
        place = place[step]
    if to is None:
        del place[steps[-1]]
    else:
        place[steps[-1]] = to
    return yaml.safe_dump(document)


FIELDS = ("schema", 0, "properties")
WATCH_FLIGHT = {"methods": ["bounds"], "fields": ["hour", "flight"]}


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("", "", "one mapping"),
        ("- a", "", "one mapping"),
        ("a: [", "", "not YAML at line"),
        ('{"a": ', "", "not JSON"),
        (b"\xff", "", "not UTF-8"),
        ("a: &x [1]\nb: *x", "", "aliases"),
        ("id: a\nid: b", "", "twice"),
        ("a: !!python/object/apply:os.system [ls]", "", "not YAML"),
        ("[" * 5000, "", "read"),
        ("a" * 1024 * 1024 + "b", "", "at most"),
        (changed("kind", to="Contract"), "kind", "DataContract"),
        (changed("kind", to=None), "kind", "DataContract"),
        (changed("apiVersion", to="v2.2.2"), "apiVersion", "v3.1.0"),
        (changed("version", to="first"), "version", "1.0.0"),
        (changed("extra", to=1), "extra", "not in the standard"),
        (changed("schema", to=None), "schema", "one object"),
        (changed("schema", to="text"), "schema", "list"),
        (changed("schema", 0, "name", to="Flights of 2013"), "schema[0].name", "headraceStream"),
        (changed("schema", 0, "colour", to="red"), "schema[0].colour", "not in the standard"),
        (changed("schema", 0, "properties", to=[]), "customProperties[1].value", "no property"),
        (changed(*FIELDS, 4, "requird", to=True), "schema[0].properties[4].requird", "not in the standard"),
        (
            changed(*FIELDS, 4, "logicaltype", to="x"),
            "schema[0].properties[4].logicaltype",
            "calls it logicalType",
        ),
        (changed(*FIELDS, 4, "name", to=None), "schema[0].properties[4].name", "name"),
        (changed(*FIELDS, 4, "name", to="carrier"), "schema[0].properties[4].name", "two fields"),
        (
            changed(*FIELDS, 4, "logicalType", to="object"),
            "schema[0].properties[4].logicalType",
            "not object",
        ),
        (changed(*FIELDS, 4, "logicalType", to=None), "schema[0].properties[4].logicalType", "missing"),
        (
            changed(*FIELDS, 4, "primaryKey", to=True),
            "schema[0].properties[4].primaryKey",
            "two primary keys",
        ),
        (changed(*FIELDS, 4, "required", to=[1]), "schema[0].properties[4].required", "boolean"),
        (
            changed(*FIELDS, 4, "logicalTypeOptions", to={"multipleOf": 2}),
            "schema[0].properties[4].logicalTypeOptions.multipleOf",
            "not checked",
        ),
        (
            changed(*FIELDS, 4, "logicalTypeOptions", to={"minimum": 5, "maximum": 4}),
            "schema[0].properties[4].logicalTypeOptions.minimum",
            "above the maximum",
        ),
        (
            changed(*FIELDS, 4, "logicalTypeOptions", to={"minimum": "5"}),
            "schema[0].properties[4].logicalTypeOptions.minimum",
            "a number",
        ),
        (
            changed(*FIELDS, 2, "logicalTypeOptions", to={"minimum": "soon"}),
            "schema[0].properties[2].logicalTypeOptions.minimum",
            "RFC 3339",
        ),
        (
            changed(*FIELDS, 3, "logicalTypeOptions", to={"maxLength": 0}),
            "schema[0].properties[3].logicalTypeOptions.maxLength",
            "between 1",
        ),
        (
            changed(*FIELDS, 3, "quality", 0, "arguments", "validValues", to=["UA", False]),
            "schema[0].properties[3].quality[0].arguments.validValues[1]",
            "quotes",
        ),
        (
            changed(*FIELDS, 4, "customProperties", to=[{"property": "headraceSensitiv", "value": True}]),
            "schema[0].properties[4].customProperties[0].property",
            "headraceSensitive",
        ),
        (
            changed(*FIELDS, 4, "customProperties", to=[{"property": "headraceSensitive", "value": 3}]),
            "schema[0].properties[4].customProperties[0].value",
            "bool",
        ),
        (changed("customProperties", to=None), "customProperties", "headraceTask"),
        (changed("customProperties", 0, "value", to="guessing"), "customProperties[0].value", "guessing"),
        (
            changed("customProperties", 0, "property", to="headracetask"),
            "customProperties[0].property",
            "headraceTask",
        ),
        (
            changed("customProperties", 2, "property", to="headraceTask"),
            "customProperties[2].property",
            "twice",
        ),
        (changed("customProperties", 2, "value", to="hour"), "customProperties[2].value", "integer"),
        (changed("customProperties", 2, "value", to="noon"), "customProperties[2].value", "no field"),
        (changed("customProperties", 1, "value", to="lateness"), "customProperties[1].value", "no property"),
        (changed("customProperties", 1, "value", to=[1]), "customProperties[1].value", "mapping"),
        (changed("customProperties", 1, "value", to={"nam": "late"}), "customProperties[1].value", "nam"),
        (
            changed("customProperties", 1, "value", to={"second": 1}),
            "customProperties[1].value.second",
            "str",
        ),
        (
            changed("customProperties", 1, "value", to={"wait_seconds": -1}),
            "customProperties[1].value.wait_seconds",
            "",
        ),
        (
            changed("customProperties", 1, "value", to="scheduled"),
            "schema[0].properties[1].logicalType",
            "label",
        ),
        (
            changed("customProperties", 2, to={"property": "headracePartitions", "value": 0}),
            "customProperties[2].value",
            "1024",
        ),
        (
            changed(
                "customProperties", 2, to={"property": "headraceOutliers", "value": {"methods": ["boxes"]}}
            ),
            "customProperties[2].value.methods[0]",
            "boxes",
        ),
        (
            changed("customProperties", 2, to={"property": "headraceOutliers", "value": WATCH_FLIGHT}),
            "customProperties[2].value.fields[1]",
            "flight",
        ),
        (
            changed("schema", 0, "customProperties", to=[{"property": "headraceTask", "value": "binary"}]),
            "schema[0].customProperties[0].value",
            "also given",
        ),
    ],
)
def test_what_is_wrong_and_where(text, where, says):
    with pytest.raises(Unusable) as caught:
        load(text)
    assert caught.value.where == where
    assert says in caught.value.reason


def test_a_boolean_in_yaml_is_no_text():
    label = {"name": "late", "type": "string", "positive": True}
    with pytest.raises(Unusable, match="quote"):
        load(changed("customProperties", 1, "value", to=label))


def test_a_stream_has_fields():
    with pytest.raises(Unusable, match="1 to 1024 fields") as caught:
        load(changed("schema", 0, "properties", to=[yaml.safe_load(PLAIN)["schema"][0]["properties"][-1]]))
    assert caught.value.where == "schema[0].properties"


def test_dump_refuses_what_makes_no_sense():
    with pytest.raises(Unusable):
        dump(StreamContract("s", "binary", []))
