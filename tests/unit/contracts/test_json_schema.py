"""A contract's JSON Schema says of any document what the cleanser says, but for what no schema can say."""

import base64
import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema.validators import extend
from msgspec.structs import replace

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.json_schema import TIME, json_schema
from headrace.contracts.stream import Field, LabelSpec, StreamContract, check
from headrace.contracts.times import parse_ms
from headrace.errors import Poison
from tests.unit.contracts.contracts import contracts, texts

NOW = 1_700_000_000_000
TIMES = (
    "2013-01-01T05:15:00Z",
    "2013-01-01",
    "2013-01-01 05:15",
    "2013-02-30",
    "1969-12-31T00:00:00Z",
    "2090-01-01T00:00:00+01:00",
    "2013-01-01T05:15:00+0100",
    "2013-1-1",
    "noon",
    "2013-01-01\n",
)


def matches(_: Any, pattern: str, instance: Any, __: Any) -> Any:
    """`pattern` as ECMA-262 has it, where `$` is the end and not also the place before a last line break."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


Validator = extend(jsonschema.Draft7Validator, {"pattern": matches})


def validator(contract: StreamContract) -> Any:
    schema = json.loads(json.dumps(json_schema(contract)))
    Validator.check_schema(schema)
    return Validator(schema)


def refusal(contract: StreamContract, raw: bytes) -> Poison | None:
    try:
        Cleanser(contract).event(raw, now_ms=NOW, new_id=lambda: "new")
    except Poison as poison:
        return poison
    return None


# -- any document -----------------------------------------------------------------------------------------------------

anything = (
    st.none()
    | st.booleans()
    | st.integers(-(10**4), 10**4)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "observation", "label", "\x07", "i" * 129, *TIMES])
    | texts
    | st.just([])
    | st.just({})
)


def near(field: Field) -> st.SearchStrategy[Any]:
    """Values that are good for a field, more often than not."""
    low = -50 if field.minimum is None else field.minimum
    high = max(low, 50 if field.maximum is None else field.maximum)
    match field.type:
        case "boolean":
            return st.booleans()
        case "string":
            return st.sampled_from(field.categories) if field.categories else texts
        case "time":
            return st.sampled_from(TIMES) | st.integers(0, NOW)
        case "integer":
            return st.integers(int(low), int(high)) | st.integers(-3, 3).map(float)
        case _:
            return st.floats(low, high) | st.integers(-3, 3)


@st.composite
def observations(draw: st.DrawFn, contract: StreamContract) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for field in contract.fields:
        needed = field.required or field.name in (contract.entity, contract.event_time)
        if needed or draw(st.booleans()):
            document[field.name] = draw(near(field))
    return document | draw(
        st.fixed_dictionaries(
            {},
            optional={
                "id": st.text("ab", max_size=2) | st.integers(),
                "at": st.integers(0, NOW) | st.sampled_from(TIMES),
                "type": st.just("observation"),
            },
        )
    )


@st.composite
def labels(draw: st.DrawFn, contract: StreamContract) -> dict[str, Any]:
    spec = contract.label
    plain = Field(spec.name, spec.type, minimum=spec.minimum, maximum=spec.maximum)
    value = st.sampled_from(spec.classes) if spec.classes else near(plain)
    identity = st.text("ab", min_size=1, max_size=2) | st.integers(0, 9)
    document = {
        draw(st.sampled_from(list(filter(None, ["id", contract.id])))): draw(identity),
        draw(st.sampled_from([spec.name, "label"])): draw(value),
    }
    entity = st.text("ab", max_size=2) | st.integers(0, 3) | st.booleans()
    if contract.entity or draw(st.booleans()):
        document[draw(st.sampled_from(list(filter(None, ["entity", contract.entity]))))] = draw(entity)
    return document | draw(
        st.fixed_dictionaries({}, optional={"at": st.integers(0, NOW), "type": st.just("label")})
    )


@st.composite
def events(draw: st.DrawFn, contract: StreamContract) -> dict[str, Any]:
    kind = draw(st.sampled_from(["observation", "label"]))
    data = draw(observations(contract) if kind == "observation" else labels(contract))
    return {
        "specversion": "1.0",
        "id": draw(st.just("e1") | st.sampled_from(["e2", "", "e" * 129, "e" * 1025, "\x07"])),
        "source": "s",
        "type": draw(st.just(f"com.example.{kind}") | st.sampled_from([kind, "label", "other", f"{kind}\n"])),
        "data": data if draw(st.integers(0, 3)) else draw(anything),
        **draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "time": st.just(TIMES[0]) | st.sampled_from(TIMES) | st.none(),
                    "datacontenttype": st.just("application/json")
                    | st.sampled_from(["a/b+JSON ; charset=utf-8", "text/plain", ";json"]),
                    "data_base64": st.none(),
                    "traceparent": anything,
                },
            )
        ),
    }


@st.composite
def documents(draw: st.DrawFn, contract: StreamContract) -> dict[str, Any]:
    """A document that is good, or was until something was done to it."""
    whole = draw(observations(contract) | labels(contract) | events(contract))
    if draw(st.booleans()):
        return whole
    names = [field.name for field in contract.fields]
    known = st.sampled_from([*names, "id", "at", "type", "label", contract.label.name, "entity", "data"])
    for key, value in draw(st.lists(st.tuples(known | texts, anything), max_size=2)):
        whole[key] = value
    if draw(st.booleans()) and whole:
        del whole[draw(st.sampled_from(list(whole)))]
    return whole


@st.composite
def any_contract(draw: st.DrawFn) -> StreamContract:
    """Also those whose fields are called as the keys of a record are."""
    contract = draw(contracts())
    renamed = {contract.id: "id", contract.event_time: "at"} if draw(st.booleans()) else {}
    plain = [field.name for field in contract.fields if field.name not in (contract.id, contract.event_time)]
    if plain and draw(st.booleans()):
        free = ["type", "label"] if contract.label.name != "label" else ["type"]
        renamed[draw(st.sampled_from(plain))] = draw(st.sampled_from(free))
    fields = [replace(field, name=renamed.get(field.name, field.name)) for field in contract.fields]
    roles = {
        role: renamed.get(getattr(contract, role), getattr(contract, role))
        for role in ("id", "event_time", "entity")
        if getattr(contract, role)
    }
    return check(replace(contract, fields=fields, **roles))


# -- the law ----------------------------------------------------------------------------------------------------------


def excused(contract: StreamContract, document: dict[str, Any], poison: Poison) -> bool:
    """Whether no schema could have said what the cleanser found. docs/fits-in.md lists the same."""
    data = document["data"] if "specversion" in document else document
    value = data.get(poison.field) if isinstance(data, dict) else None
    match poison.rule:
        case "conflict" | "future":
            return True
        case "past" | "range" | "magnitude":
            return isinstance(value, str) or poison.rule == "past"
        case "time":
            return isinstance(value, str) and re.fullmatch(TIME, value) is not None
        case "type":  # 3.0 is an integer in JSON Schema, and no id, time or entity here
            return isinstance(value, float) and value.is_integer()
        case "id":
            return isinstance(value, int) and len(str(value)) > 128
        case "envelope":
            text = document.get("time")
            return poison.field == "time" and isinstance(text, str) and re.fullmatch(TIME, text) is not None
    return False


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_the_cleanser_takes_is_valid_and_what_it_refuses_is_not(data):
    contract = data.draw(any_contract())
    valid = validator(contract)
    for document in data.draw(st.lists(documents(contract), min_size=1, max_size=8)):
        raw = json.dumps(document).encode()
        poison, errors = refusal(contract, raw), list(valid.iter_errors(json.loads(raw)))
        if poison is None:
            assert errors == [], document
        elif not errors:
            assert excused(contract, document, poison), (document, poison.rule, poison.field)


# -- what any document seldom shows -----------------------------------------------------------------------------------

FLIGHTS = StreamContract(
    "flights",
    "binary",
    [
        Field("flight", "string", required=True),
        Field("scheduled", "time"),
        Field("carrier", "string", categories=["UA", "AA"]),
        Field("distance", "number", minimum=0, maximum=5000),
        Field("stops", "integer"),
        Field("weekend", "boolean"),
        Field("note", "string", max_length=5),
        Field("cabin", "string", categories=["F", "Y"]),
    ],
    id="flight",
    event_time="scheduled",
    entity="carrier",
    label=LabelSpec("late"),
)
GOOD = {"flight": "f1", "scheduled": "2013-01-01T05:15:00Z", "carrier": "UA", "distance": 1400}
KNOWN = {"id": "f1", "late": True, "entity": "UA"}
ENCODED = base64.b64encode(json.dumps(KNOWN).encode()).decode()


@pytest.mark.parametrize(
    "document",
    [
        GOOD,
        {**GOOD, "stops": 3.0, "weekend": False, "note": "", "type": "observation", "distance": None},
        {**GOOD, "flight": None, "id": 7},
        {**GOOD, "cabin": None},
        KNOWN,
        {"flight": 7, "label": False, "carrier": "ZZ", "type": "label", "at": 5},
        {"specversion": "1.0", "id": "e", "source": "s", "type": "x.observation", "data": GOOD, "own": [1]},
        {"specversion": "1.0", "id": "e", "source": "s", "type": "label", "data": KNOWN, "data_base64": None},
        {"specversion": "1.0", "id": "e", "source": "s", "type": "label", "data_base64": ENCODED},
    ],
)  # fmt: skip
def test_what_is_good_is_valid(document):
    assert refusal(FLIGHTS, json.dumps(document).encode()) is None
    assert list(validator(FLIGHTS).iter_errors(document)) == []


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ({**GOOD, "distance": "1400"}, "type"),
        ({**GOOD, "distance": True}, "type"),
        ({**GOOD, "distance": 5001}, "range"),
        ({**GOOD, "stops": 1e16}, "magnitude"),
        ({**GOOD, "stops": 3.5}, "type"),
        ({**GOOD, "weekend": 1}, "type"),
        ({**GOOD, "note": "longer"}, "too_long"),
        ({**GOOD, "carrier": "ZZ"}, "category"),
        ({**GOOD, "cabin": ""}, "category"),
        ({**GOOD, "carrier": None}, "missing"),
        ({**GOOD, "flight": None}, "missing"),
        ({**GOOD, "flight": ""}, "id"),
        ({**GOOD, "scheduled": -1}, "past"),
        ({**GOOD, "scheduled": "noon"}, "time"),
        ({**GOOD, "Distance": 3}, "unknown_field"),
        ({**GOOD, "late": True}, "unknown_field"),
        ({**GOOD, "type": "label"}, "unknown_field"),
        ({**KNOWN, "late": "yes"}, "type"),
        ({**KNOWN, "entity": None}, "missing"),
        ({**KNOWN, "entity": ""}, "entity"),
        ({**KNOWN, "id": "\x07"}, "id"),
        ({**KNOWN, "late": None}, "missing"),
        ({"specversion": "1.0", "id": "e", "source": "s", "type": "label", "data": GOOD}, "unknown_field"),
        ({"specversion": "1.0", "id": "e", "source": "s", "type": "label"}, "envelope"),
        ({"specversion": "0.3", "id": "e", "source": "s", "type": "label", "data": KNOWN}, "envelope"),
        ([GOOD], "not_object"),
    ],
)
def test_what_is_refused_is_not_valid(document, rule):
    found = refusal(FLIGHTS, json.dumps(document).encode())
    assert found is not None
    assert found.rule == rule
    assert list(validator(FLIGHTS).iter_errors(document)) != []


@pytest.mark.parametrize(
    ("lent", "own", "good"),
    [("e1", None, True), ("\x07", "o1", True), ("\x07", None, False), ("e" * 129, None, False)],
)
def test_the_id_of_a_cloudevent_is_the_observations_if_that_has_none(lent, own, good):
    contract = StreamContract("s", "binary", [Field("a", "number")])
    data = {"a": 1, "id": own}
    document = {"specversion": "1.0", "id": lent, "source": "s", "type": "observation", "data": data}
    assert (refusal(contract, json.dumps(document).encode()) is None) == good
    assert validator(contract).is_valid(document) == good


@settings(max_examples=500, deadline=None)
@given(st.from_regex(TIME, fullmatch=True) | st.datetimes().map(str) | texts)
@example("2013-01-01T05:15:00.123456789+23:59")
def test_the_pattern_of_times_is_what_is_read_but_for_the_calendar(text):
    try:
        parse_ms(text)
        read = True
    except ValueError:
        read = False
    formed = re.search(TIME.replace("$", r"\Z"), text) is not None
    assert formed or not read
    if formed and not read:  # there is no such day
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        assert year == 0 or (month, day) in {(2, 29), (2, 30), (2, 31), (4, 31), (6, 31), (9, 31), (11, 31)}
