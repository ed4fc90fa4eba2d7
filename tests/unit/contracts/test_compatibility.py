"""What breaks, what does not, and the law behind both: what was good under the old contract is good under the new."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.compatibility import breaking_changes
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract, check
from headrace.errors import Poison
from tests.unit.contracts import contracts as strategies

OLD = StreamContract(
    name="flights",
    task="binary",
    fields=[
        Field("flight", "string"),
        Field("scheduled", "time"),
        Field("carrier", "string", max_length=8),
        Field("origin", "string", categories=["JFK", "LGA"]),
        Field("hour", "integer", required=True, minimum=0, maximum=23),
        Field("temp", "number", unit="C"),
        Field("gate", "string", feature=False),
    ],
    label=LabelSpec("late", "string", positive="yes", classes=["yes", "no"]),
    id="flight",
    event_time="scheduled",
    entity="carrier",
)


def field(name: str, **changes: Any) -> StreamContract:
    changed = [msgspec.structs.replace(one, **changes) if one.name == name else one for one in OLD.fields]
    return msgspec.structs.replace(OLD, fields=changed)


def stream(**changes: Any) -> StreamContract:
    return msgspec.structs.replace(OLD, **changes)


def label(**changes: Any) -> StreamContract:
    return stream(label=msgspec.structs.replace(OLD.label, **changes))


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        stream(
            version=2, description="better said", limits=Limits(pending=5, remembered=5, future_seconds=1)
        ),
        stream(fields=[*OLD.fields, Field("wind", "number")]),
        stream(fields=list(reversed(OLD.fields))),
        field("hour", required=False),
        field("hour", minimum=-1, maximum=None),
        field("carrier", max_length=9),
        field("origin", categories=["LGA", "JFK", "EWR"]),
        field("origin", categories=None),
        field("gate", feature=True),
        field("temp", sensitive=True, edges=[0.0, 20.0], description="outside"),
        field("carrier", segment=True),
        field("temp", maximum=1e20),
        label(classes=["yes", "no", "maybe"]),
        label(classes=None),
        label(wait_seconds=5, expiry="negative", second="correct"),
    ],
)
def test_compatible(new):
    assert breaking_changes(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (stream(name="trains"), "name: was 'flights', is 'trains'"),
        (stream(task="multiclass", label=LabelSpec("late", "string")), "task: was binary, is multiclass"),
        (stream(partitions=2), "partitions: were 1, are 2"),
        (stream(id=""), "id: was flight, is none"),
        (
            stream(event_time="", fields=[one for one in OLD.fields if one.name != "scheduled"]),
            "event_time: was",
        ),
        (stream(entity="origin"), "entity: was carrier, is origin"),
        (
            stream(fields=[one for one in OLD.fields if one.name != "temp"]),
            "field temp: is gone; models use it",
        ),
        (stream(fields=[one for one in OLD.fields if one.name != "gate"]), "field gate: is gone; producers"),
        (
            stream(fields=[*OLD.fields, Field("wind", "number", required=True)]),
            "field wind: is new and required",
        ),
        (stream(fields=[*OLD.fields, Field("type", "string")]), "field type: is new"),
        (field("temp", type="integer"), "field temp: was number, is integer"),
        (field("temp", required=True), "field temp: was optional, is required"),
        (field("temp", feature=False), "field temp: is no feature any more"),
        (field("temp", personal=True), "field temp: is no feature any more"),
        (field("temp", unit="F"), "field temp: unit was C, is F"),
        (field("temp", maximum=50), "field temp: maximum was 1e+15, is 50"),
        (field("hour", minimum=1), "field hour: minimum was 0, is 1"),
        (field("carrier", max_length=7), "field carrier: max_length was 8, is 7"),
        (field("carrier", categories=["UA"]), "field carrier: categories are declared now"),
        (field("origin", categories=["LGA", "EWR"]), "field origin: categories lost 'JFK'"),
        (label(name="delayed"), "label: was called 'late'"),
        (label(type="boolean", positive=None, classes=None), "label: was string, is boolean"),
        (label(positive="no"), "label: positive was 'yes', is 'no'"),
        (label(classes=["yes", "never"]), "label: classes lost 'no'"),
    ],
)
def test_breaking(new, says):
    changes = breaking_changes(OLD, new)
    assert any(says in change for change in changes), changes
    assert all(";" in change for change in changes), "each says what to do"


def test_a_label_range():
    spec = LabelSpec("y", "number", minimum=0)
    old = StreamContract("s", "regression", [Field("a", "number")], label=spec)
    wider = msgspec.structs.replace(old, label=msgspec.structs.replace(spec, minimum=-1))
    assert breaking_changes(old, wider) == []
    assert breaking_changes(wider, old) == [
        "label: minimum was -1, is 0; values that were good would be refused; keep it or widen it"
    ]


@st.composite
def two_versions(draw: st.DrawFn) -> tuple[StreamContract, StreamContract]:
    """A contract, and one that differs from it in a few places."""
    old = draw(strategies.contracts())
    other = draw(strategies.contracts())
    fields = list(old.fields)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(fields) - 1))
        kind = draw(st.sampled_from([fields[place].type, "string", "number"]))
        changed = draw(strategies.fields(fields[place].name, kind))
        keep = draw(
            st.sets(st.sampled_from(["required", "feature", "minimum", "maximum", "categories", "unit"]))
        )
        if kind == fields[place].type:
            changed = msgspec.structs.replace(
                changed, **{name: getattr(fields[place], name) for name in keep}
            )
        fields[place] = changed
    if draw(st.booleans()):
        fields.append(draw(strategies.fields("added")))
    whole = draw(st.sampled_from([{}, {}, {"label": other.label, "task": other.task}, {"entity": ""},
                                   {"outliers": other.outliers}]))  # fmt: skip
    try:
        return old, check(msgspec.structs.replace(old, fields=fields, **whole))
    except Exception:
        return old, old


@st.composite
def records(draw: st.DrawFn, contract: StreamContract) -> bytes:
    record: dict[str, Any] = {}
    for one in contract.fields:
        if not one.required and draw(st.booleans()):
            continue
        low = one.minimum if one.minimum is not None else -50.0
        high = one.maximum if one.maximum is not None else max(low, 50.0)
        low = min(low, high)
        record[one.name] = draw(
            {
                "string": st.sampled_from(one.categories) if one.categories else st.text(max_size=20),
                "integer": st.integers(int(low), int(high)),
                "number": st.floats(low, high),
                "boolean": st.booleans(),
                "time": st.integers(max(0, int(low)), max(0, int(high))),
            }[one.type]
        )
    return json.dumps(record).encode()


NOW = 253_402_300_799_999


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.data())
def test_what_was_good_stays_good(data):
    old, new = data.draw(two_versions())
    if breaking_changes(old, new):
        return
    raw = data.draw(records(old))
    try:
        before = Cleanser(old).observation(raw, now_ms=NOW, new_id=lambda: "new")
    except Poison:
        return
    after = Cleanser(new).observation(raw, now_ms=NOW, new_id=lambda: "new")
    assert (after.id, after.entity, after.at) == (before.id, before.entity, before.at)
    assert {name: after.x[name] for name in before.x} == before.x
    classes = old.label.classes or [old.label.positive if old.label.positive is not None else 1]
    body: dict[str, Any] = {"id": "a", old.label.name: classes[0], "entity": "e"}
    if old.label.type == "boolean":
        body[old.label.name] = True
    try:
        was = Cleanser(old).label(json.dumps(body).encode(), now_ms=NOW)
    except Poison:
        return
    assert Cleanser(new).label(json.dumps(body).encode(), now_ms=NOW) == was
