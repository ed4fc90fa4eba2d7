"""Every kind of bad input has its rule, and good input enters the log typed, ordered and trimmed to what is needed."""

import json
from typing import Any

import pytest

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.events import Label, Observation
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract
from headrace.errors import Poison

NOW = 1_700_000_000_000
DAY = 86_400_000

FLIGHTS = StreamContract(
    name="flights",
    task="binary",
    fields=[
        Field("flight", "string"),
        Field("scheduled", "time"),
        Field("carrier", "string", max_length=8),
        Field("origin", "string", categories=["JFK", "LGA"]),
        Field("hour", "integer", required=True, minimum=0, maximum=23),
        Field("temp", "number"),
        Field("weekend", "boolean"),
        Field("booked", "time", minimum=0),
        Field("captain", "string", personal=True),
        Field("gate", "string", feature=False),
    ],
    label=LabelSpec(name="late"),
    id="flight",
    event_time="scheduled",
    entity="carrier",
)
GOOD: dict[str, Any] = {
    "gate": "B7",
    "captain": "Ann",
    "booked": "2023-01-01",
    "weekend": False,
    "temp": 3,
    "hour": 5,
    "origin": "JFK",
    "carrier": "UA",
    "scheduled": "2023-11-14T05:15:00Z",
    "flight": "f1",
}
PLAIN = StreamContract(
    "plain", "regression", [Field("a", "number"), Field("n", "integer")], label=LabelSpec("y", "number")
)


def fresh() -> str:
    return "fresh"


def observe(contract: StreamContract, value: Any) -> Observation:
    raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Cleanser(contract).observation(raw, now_ms=NOW, new_id=fresh)


def label(contract: StreamContract, value: Any) -> Label:
    raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Cleanser(contract).label(raw, now_ms=NOW)


def refusal(contract: StreamContract, value: Any, kind=observe) -> tuple[str, str]:
    with pytest.raises(Poison) as caught:
        kind(contract, value)
    assert caught.value.reason
    return caught.value.rule, caught.value.field


def test_good_observation_is_typed_ordered_and_trimmed():
    observation = observe(FLIGHTS, GOOD)
    assert (observation.id, observation.entity, observation.at) == ("f1", "UA", 1_699_938_900_000)
    expected = {
        "carrier": "UA",
        "origin": "JFK",
        "hour": 5,
        "temp": 3.0,
        "weekend": False,
        "booked": 1_672_531_200_000,
    }
    assert list(observation.x.items()) == list(expected.items())
    assert {name: type(value) for name, value in observation.x.items()} == {
        name: type(value) for name, value in expected.items()
    }


def test_x_does_not_depend_on_the_producers_key_order():
    backwards = dict(reversed(GOOD.items()))
    assert list(observe(FLIGHTS, backwards).x.items()) == list(observe(FLIGHTS, GOOD).x.items())


def test_personal_fields_enter_the_log_only_if_declared_a_feature():
    assert "captain" not in observe(FLIGHTS, GOOD).x
    named = StreamContract("s", "binary", [Field("captain", "string", personal=True, feature=True)])
    assert observe(named, {"captain": "Ann"}).x == {"captain": "Ann"}


def test_null_is_missing():
    observation = observe(FLIGHTS, GOOD | {"temp": None, "weekend": None})
    assert "temp" not in observation.x
    assert "weekend" not in observation.x
    assert observe(PLAIN, {"a": None, "n": None}).x == {}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("record", "rule", "field"),
    [
        (None, "tombstone", ""),
        (b"", "empty", ""),
        (b"  \n", "empty", ""),
        (b'{"a": 1' + b" " * 65_536 + b"}", "too_large", ""),
        (b"hour=5", "json", ""),
        (b'{"hour": 5', "json", ""),
        (b'{"hour": 5} {"hour": 6}', "json", ""),
        (b'{"hour": 05}', "json", ""),
        (b'{"carrier": "\xff\xfe"}', "encoding", ""),
        ('{"hour": 5}'.encode("utf-16"), "encoding", ""),
        ('{"hour": 5}'.encode("utf-16-le"), "encoding", ""),
        (b'{"carrier": "\\ud800"}', "encoding", "carrier"),
        (b"[]", "not_object", ""),
        (b"null", "not_object", ""),
        (b'"text"', "not_object", ""),
        (b"NaN", "not_object", ""),
        (b'{"hour": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "depth", ""),
        (b'{"hour": ' + b'{"a":' * 50 + b"1" + b"}" * 50 + b"}", "depth", ""),
        (GOOD | {"hour": [1]}, "type", "hour"),
        (GOOD | {"hour": {"a": 1}}, "type", "hour"),
        (GOOD | {"extra": 1}, "unknown_field", "extra"),
        (GOOD | {"Carrier": "UA"}, "unknown_field", "Carrier"),
        (GOOD | {"late": True}, "unknown_field", "late"),
        (GOOD | {"at": 1}, "unknown_field", "at"),
        (without("hour"), "missing", "hour"),
        (GOOD | {"hour": None}, "missing", "hour"),
        (without("carrier"), "missing", "carrier"),
        (without("scheduled"), "missing", "scheduled"),
        (GOOD | {"hour": "5"}, "type", "hour"),
        (GOOD | {"hour": True}, "type", "hour"),
        (GOOD | {"hour": 5.5}, "type", "hour"),
        (GOOD | {"temp": False}, "type", "temp"),
        (GOOD | {"temp": "3.1"}, "type", "temp"),
        (GOOD | {"weekend": 1}, "type", "weekend"),
        (GOOD | {"weekend": "true"}, "type", "weekend"),
        (GOOD | {"origin": 7}, "type", "origin"),
        (GOOD | {"scheduled": 1.5}, "type", "scheduled"),
        (GOOD | {"scheduled": True}, "type", "scheduled"),
        (GOOD | {"flight": 1.5}, "type", "flight"),
        (GOOD | {"hour": 24}, "range", "hour"),
        (GOOD | {"hour": -1}, "range", "hour"),
        (GOOD | {"booked": -1}, "range", "booked"),
        (GOOD | {"booked": "1969-12-31"}, "range", "booked"),
        (GOOD | {"temp": float("nan")}, "not_finite", "temp"),
        (GOOD | {"temp": float("inf")}, "not_finite", "temp"),
        (GOOD | {"temp": float("-inf")}, "not_finite", "temp"),
        (GOOD | {"hour": float("nan")}, "not_finite", "hour"),
        (json.dumps(GOOD).replace('"temp": 3', '"temp": 1e999').encode(), "not_finite", "temp"),
        (GOOD | {"temp": 1.1e15}, "magnitude", "temp"),
        (GOOD | {"temp": 1e308}, "magnitude", "temp"),
        (GOOD | {"temp": -(10**16)}, "magnitude", "temp"),
        (GOOD | {"temp": 10**300}, "magnitude", "temp"),
        (GOOD | {"booked": 10**16}, "magnitude", "booked"),
        (GOOD | {"carrier": "123456789"}, "too_long", "carrier"),
        (GOOD | {"origin": "EWR"}, "category", "origin"),
        (GOOD | {"scheduled": "yesterday"}, "time", "scheduled"),
        (GOOD | {"scheduled": "2023-02-30T00:00:00Z"}, "time", "scheduled"),
        (GOOD | {"scheduled": "2023-02-30"}, "time", "scheduled"),
        (GOOD | {"scheduled": "2016-12-31T23:59:60Z"}, "time", "scheduled"),
        (GOOD | {"scheduled": ""}, "time", "scheduled"),
        (GOOD | {"scheduled": NOW + 300_001}, "future", "scheduled"),
        (GOOD | {"scheduled": "2900-01-01T00:00:00Z"}, "future", "scheduled"),
        (GOOD | {"scheduled": 10**30}, "future", "scheduled"),
        (GOOD | {"scheduled": -1}, "past", "scheduled"),
        (GOOD | {"scheduled": "1969-12-31T23:59:59Z"}, "past", "scheduled"),
        (GOOD | {"flight": ""}, "id", "flight"),
        (GOOD | {"flight": "x" * 129}, "id", "flight"),
        (GOOD | {"flight": "a\tb"}, "id", "flight"),
        (GOOD | {"flight": "a\x00b"}, "id", "flight"),
        (GOOD | {"flight": "a\x85b"}, "id", "flight"),
        (GOOD | {"id": "another"}, "conflict", "flight"),
        (GOOD | {"carrier": ""}, "entity", "carrier"),
        (GOOD | {"type": "label"}, "kind", "type"),
        (GOOD | {"type": "flight"}, "kind", "type"),
        (GOOD | {"type": ["label"]}, "kind", "type"),
    ],
)
def test_bad_observation(record, rule, field):
    assert refusal(FLIGHTS, record) == (rule, field)


def test_the_limits_themselves_are_allowed():
    edges = GOOD | {
        "hour": 23,
        "temp": 1e15,
        "carrier": "12345678",
        "scheduled": NOW + 300_000,
        "flight": "x" * 128,
    }
    assert observe(FLIGHTS, edges).at == NOW + 300_000
    assert observe(FLIGHTS, GOOD | {"scheduled": 0}).at == 0
    body = json.dumps(GOOD).encode()
    assert observe(FLIGHTS, body + b" " * (65_536 - len(body))).id == "f1"
    with pytest.raises(Poison, match="65537"):
        observe(FLIGHTS, body + b" " * (65_537 - len(body)))


def test_a_declared_range_may_be_wider_than_the_usual_bound():
    wide = StreamContract(
        "wide", "binary", [Field("a", "number", maximum=1e300), Field("n", "integer", maximum=2**53)]
    )
    assert observe(wide, {"a": 1e300, "n": 2**53}).x == {"a": 1e300, "n": 2**53}
    assert refusal(wide, {"a": -1e16}) == ("magnitude", "a")
    assert refusal(wide, {"n": 2**53 + 1}) == ("range", "n")


@pytest.mark.parametrize(
    ("written", "kept"),
    [("3", 3.0), ("3.0", 3.0), ("-0.0", -0.0), ("1e3", 1000.0), ("100000000000000000e-3", 1e14)],
)
def test_numbers_are_always_floats(written, kept):
    value = observe(PLAIN, b'{"a": %s}' % written.encode()).x["a"]
    assert isinstance(value, float)
    assert repr(value) == repr(kept)


def test_integral_floats_are_integers_where_integers_are_asked_for():
    value = observe(PLAIN, b'{"n": 3.0}').x["n"]
    assert isinstance(value, int)
    assert value == 3
    assert observe(PLAIN, b'{"n": 1e3}').x["n"] == 1000


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("2013-01-01T05:15:00Z", 1_357_017_300_000),
        ("2013-01-01t05:15:00z", 1_357_017_300_000),
        ("2013-01-01 05:15:00Z", 1_357_017_300_000),
        ("2013-01-01T00:15:00-05:00", 1_357_017_300_000),
        ("2013-01-01T05:15:00", 1_357_017_300_000),
        ("2013-01-01T05:15", 1_357_017_300_000),
        ("2013-01-01 07:15+02:00", 1_357_017_300_000),
        ("2013-01-01T05:15:00.0019Z", 1_357_017_300_001),
        ("2013-01-01", 1_356_998_400_000),
        (1_357_017_300_000, 1_357_017_300_000),
    ],
)
def test_times(written, ms):
    assert observe(FLIGHTS, GOOD | {"scheduled": written}).at == ms
    assert observe(PLAIN, {"at": written}).at == ms


def test_without_an_id_field_or_event_time_the_producer_may_still_send_them():
    observation = observe(PLAIN, {"a": 1})
    assert (observation.id, observation.entity, observation.at) == ("fresh", "fresh", NOW)
    observation = observe(PLAIN, {"id": "i", "at": 5, "a": 1})
    assert (observation.id, observation.entity, observation.at, observation.x) == ("i", "i", 5, {"a": 1.0})
    assert observe(PLAIN, {"id": 16}).id == "16"


def test_the_id_field_and_id_are_two_names_for_one_thing():
    assert observe(FLIGHTS, without("flight") | {"id": "f9"}).id == "f9"
    assert observe(FLIGHTS, GOOD | {"id": "f1"}).id == "f1"
    assert observe(FLIGHTS, without("flight")).id == "fresh"
    numbered = StreamContract("s", "binary", [Field("n", "integer", required=True)], id="n")
    assert observe(numbered, {"n": 7}).id == "7"
    assert observe(numbered, {"n": 7, "id": "7"}).id == "7"
    assert observe(numbered, {"id": "7"}).id == "7"
    assert refusal(numbered, {}) == ("missing", "n")


def test_an_id_may_have_any_letters_but_control_characters():
    for identity in ("München\u00a0Hbf", "名前", "a b", "\U0001f6eb"):
        assert observe(PLAIN, {"id": identity}).id == identity


def test_a_byte_order_mark_is_skipped():
    assert observe(PLAIN, b'\xef\xbb\xbf{"a": 1}').x == {"a": 1.0}


@pytest.mark.parametrize(("type_name", "value", "text"), [("integer", 7, "7"), ("boolean", True, "true")])
def test_entities_that_are_not_text(type_name, value, text):
    contract = StreamContract("s", "binary", [Field("e", type_name)], entity="e")
    assert observe(contract, {"e": value}).entity == text
    assert observe(contract, {"e": value}).x == {"e": value}
    assert label(contract, {"id": "a", "label": True, "entity": value}).entity == text
    assert label(contract, {"id": "a", "label": True, "entity": text}).entity == text


def test_a_field_may_be_called_type():
    contract = StreamContract("s", "binary", [Field("type", "string")])
    assert observe(contract, {"type": "label"}).x == {"type": "label"}
    event = Cleanser(contract).event(b'{"type": "label", "id": "a"}', now_ms=NOW, new_id=fresh)
    assert event.x == {"type": "label"}


def test_names_that_python_would_not_take():
    contract = StreamContract("s", "binary", [Field("hours-per week", "number"), Field("class", "string")])
    assert observe(contract, {"class": "a", "hours-per week": 1}).x == {"hours-per week": 1.0, "class": "a"}


def test_reasons_do_not_repeat_personal_values():
    contract = StreamContract("s", "binary", [Field("who", "string", personal=True, categories=["A"])])
    with pytest.raises(Poison) as caught:
        observe(contract, {"who": "Ann Example"})
    assert "Ann" not in caught.value.reason


def test_batch_gives_records_and_refusals_in_order():
    results = Cleanser(PLAIN).observations([b'{"id":"a"}', b"no", b'{"id":"b"}'], now_ms=NOW, new_id=fresh)
    assert [getattr(result, "id", getattr(result, "rule", None)) for result in results] == ["a", "json", "b"]


# -- labels ------------------------------------------------------------


def test_good_labels():
    told = label(FLIGHTS, {"id": "f1", "label": True, "at": "2023-11-14T07:00:00Z", "entity": "UA"})
    assert told == Label("f1", "UA", 1_699_945_200_000, True)
    assert label(FLIGHTS, {"id": "f1", "late": True, "entity": "UA"}) == Label("f1", "UA", NOW, True)
    assert label(FLIGHTS, {"flight": "f1", "late": False, "carrier": "UA"}) == Label("f1", "UA", NOW, False)
    assert label(PLAIN, {"id": 16, "y": 3}) == Label("16", "16", NOW, 3.0)
    assert label(PLAIN, {"id": "a", "y": 3, "entity": "not used here"}).entity == "a"


LABEL: dict[str, Any] = {"id": "f1", "label": True, "entity": "UA"}


@pytest.mark.parametrize(
    ("record", "rule", "field"),
    [
        (None, "tombstone", ""),
        (b"", "empty", ""),
        (b"{", "json", ""),
        (b"[1]", "not_object", ""),
        (b'{"id": "\xff"}', "encoding", ""),
        ({"label": True, "entity": "UA"}, "missing", "id"),
        (LABEL | {"id": None}, "missing", "id"),
        (LABEL | {"id": ""}, "id", "id"),
        (LABEL | {"id": "x" * 129}, "id", "id"),
        (LABEL | {"id": 1.5}, "type", "id"),
        (LABEL | {"id": True}, "type", "id"),
        ({"id": "f1", "entity": "UA"}, "missing", "late"),
        (LABEL | {"label": None}, "missing", "late"),
        (LABEL | {"late": False}, "conflict", "label"),
        (LABEL | {"flight": "f2"}, "conflict", "flight"),
        (LABEL | {"carrier": "DL"}, "conflict", "carrier"),
        (LABEL | {"label": "yes"}, "type", "late"),
        (LABEL | {"label": 1}, "type", "late"),
        ({"id": "f1", "label": True}, "missing", "entity"),
        (LABEL | {"entity": ""}, "entity", "entity"),
        (LABEL | {"entity": 1.5}, "type", "entity"),
        (LABEL | {"at": NOW + 300_001}, "future", "at"),
        (LABEL | {"at": -1}, "past", "at"),
        (LABEL | {"at": "soon"}, "time", "at"),
        (LABEL | {"at": 1.5}, "type", "at"),
        (LABEL | {"hour": 5}, "unknown_field", "hour"),
        (LABEL | {"type": "observation"}, "kind", "type"),
    ],
)
def test_bad_label(record, rule, field):
    assert refusal(FLIGHTS, record, label) == (rule, field)


def labelled(task: str, spec: LabelSpec, value: Any) -> Any:
    contract = StreamContract("s", task, [Field("a", "number")], label=spec)  # type: ignore[arg-type]
    told = label(contract, {"id": "a", spec.name: value})
    assert told.y == label(contract, {"id": "a", "label": value}).y
    return told.y


def test_answers_by_task():
    up = LabelSpec("class", "string", positive="UP", classes=["UP", "DOWN"])
    assert labelled("binary", up, "UP") is True
    assert labelled("binary", up, "DOWN") is False
    assert labelled("binary", LabelSpec(type="integer", positive=1), 0) is False
    assert labelled("binary", LabelSpec(type="number", positive=1), 1.0) is True
    assert labelled("binary", LabelSpec(positive=False), False) is True
    assert labelled("multiclass", LabelSpec(type="integer"), 0) == 0
    assert labelled("multiclass", LabelSpec(type="integer"), 2.0) == 2
    assert labelled("multiclass", LabelSpec(type="string"), "") == ""
    value = labelled("regression", LabelSpec(type="integer"), 0)
    assert value == 0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("task", "spec", "value", "rule"),
    [
        ("binary", LabelSpec("class", "string", positive="UP", classes=["UP", "DOWN"]), "SIDEWAYS", "class"),
        ("multiclass", LabelSpec("class", "integer", classes=[0, 1, 2]), 3, "class"),
        ("multiclass", LabelSpec("class", "string"), "x" * 257, "too_long"),
        ("regression", LabelSpec("y", "number", minimum=0), -0.5, "range"),
        ("regression", LabelSpec("y", "number"), 1e16, "magnitude"),
        ("regression", LabelSpec("y", "number"), float("nan"), "not_finite"),
        ("regression", LabelSpec("y", "number"), "3", "type"),
        ("regression", LabelSpec("y", "number"), True, "type"),
    ],
)
def test_bad_answers(task, spec, value, rule):
    contract = StreamContract("s", task, [Field("a", "number")], label=spec)
    assert refusal(contract, {"id": "a", spec.name: value}, label)[0] == rule


# -- records of unknown kind --------------------------------------------


def event(contract: StreamContract, value: Any) -> Observation | Label:
    raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Cleanser(contract).event(raw, now_ms=NOW, new_id=fresh)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"id": "a", "y": 1}, Label),
        ({"id": "a", "label": 1}, Label),
        (b'{"id": "a", "\\u0079": 1}', Label),
        ({"id": "a", "y": 1, "at": 5}, Label),
        ({"id": "a", "y": 1, "type": "label"}, Label),
        ({"id": "a"}, Observation),
        ({"id": "a", "at": 5}, Observation),
        ({"id": "a", "a": 1}, Observation),
        ({"id": "a", "a": 1, "type": "observation"}, Observation),
        ({}, Observation),
    ],
)
def test_kind_of_a_plain_record(record, kind):
    assert isinstance(event(PLAIN, record), kind)


@pytest.mark.parametrize(
    ("record", "rule", "field"),
    [
        (None, "tombstone", ""),
        (b"", "empty", ""),
        (b'{"type"', "json", ""),
        (b'{"label": [}', "json", ""),
        ({"id": "a", "type": "label"}, "missing", "y"),
        ({"id": "a", "y": "1"}, "type", "y"),
        ({"id": "a", "a": 1, "y": 1}, "unknown_field", "y"),
        ({"id": "a", "type": "flight"}, "kind", "type"),
        ({"id": "a", "y": 1, "type": "observation"}, "unknown_field", "y"),
    ],
)
def test_bad_plain_record(record, rule, field):
    assert refusal(PLAIN, record, event) == (rule, field)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"id": "a", "label": "new", "type": "wine"}, Observation),
        ({"id": "a", "label": "new"}, Observation),
        ({"id": "a", "class": True}, Label),
        ({"id": "a", "class": True, "type": "label"}, Label),
        ({"id": "a", "class": True, "type": "label", "at": 5}, Label),
        ({"id": "label", "type": "wine"}, Observation),
    ],
)
def test_kind_when_fields_are_called_type_and_label(record, kind):
    fields = [Field("type", "string"), Field("label", "string")]
    contract = StreamContract("s", "binary", fields, label=LabelSpec("class"))
    assert isinstance(event(contract, record), kind)
    if kind is Label:
        assert label(contract, {"id": "a", "label": True, "type": "label"}).y is True


def test_a_value_that_looks_like_a_key_does_not_tell_the_kind():
    assert isinstance(event(PLAIN, {"id": "label"}), Observation)
    assert isinstance(event(PLAIN, {"id": "type"}), Observation)


def test_future_seconds_is_the_contracts():
    contract = StreamContract("s", "binary", [Field("a", "number")], limits=Limits(future_seconds=DAY))
    assert observe(contract, {"at": NOW + 1000 * DAY}).at == NOW + 1000 * DAY
