"""Proposals for rows that nobody prepared, and those rows accepted under what was proposed."""

import csv
import gzip
import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.infer import MISSING, convert_label, convert_row, infer
from headrace.contracts.odcs import dump, load
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.contracts.times import to_text
from headrace.errors import Unusable

NOW = 1_790_000_000_000
DATA = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[4] / "shared" / "data"))


def rows_of(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def kinds(contract: StreamContract) -> dict[str, str]:
    return {field.name: field.type for field in contract.fields}


def test_types_of_text_columns():
    contract = infer(
        "s",
        rows_of(
            whole=["1", "-2", "+3", "?"],
            real=["1", "2.5", "1e3", "NA"],
            dotted=["1.0", "2.0", "", "3."],
            flag=["True", "false", "TRUE", "None"],
            bits=["0", "1", "0", "1"],
            code=["007", "010", "1", "2"],
            words=["a", "1", "nan", " b "],
            huge=["1", "2", "3", "1" + "0" * 30],
            infinite=["1", "inf", "3", "4"],
            empty=["", "?", "NULL", "n/a"],
            label=["yes", "no", "no", "no"],
        ),
        label="label",
    )
    assert kinds(contract) == {
        "whole": "integer",
        "real": "number",
        "dotted": "number",
        "flag": "boolean",
        "bits": "integer",
        "code": "string",
        "words": "string",
        "huge": "string",
        "infinite": "string",
        "empty": "string",
    }
    assert not any(
        field.required or field.categories or field.minimum is not None for field in contract.fields
    )
    assert load(dump(contract)) == contract


def test_types_of_typed_columns():
    contract = infer(
        "s",
        rows_of(
            whole=[1, 2, None],
            real=[1, 2.5, float("nan")],
            flag=[True, False, None],
            text=["a", "b", "c"],
            when=[datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), date(2020, 1, 3)],
            nested=[{"a": 1}, None, [1]],
            label=[1.5, 2.5, 3.5],
        ),
        label="label",
    )
    assert kinds(contract) == {
        "whole": "integer",
        "real": "number",
        "flag": "boolean",
        "text": "string",
        "when": "time",
    }
    assert "nested" in contract.description
    assert (contract.task, contract.label.type) == ("regression", "number")


@pytest.mark.parametrize(
    ("values", "task", "type_name", "positive", "classes"),
    [
        (["a", "b", "b"], "binary", "string", "a", ["a", "b"]),
        (["b", "a"], "binary", "string", "b", ["a", "b"]),
        (["p", "n", "p"], "binary", "string", "p", ["n", "p"]),
        (["No", "Yes", "Yes"], "binary", "string", "Yes", ["No", "Yes"]),
        (["0", "1", "?"], "binary", "integer", 1, [0, 1]),
        (["1.0", "0.0"], "binary", "integer", 1, [0, 1]),
        (["-1", "2"], "binary", "integer", 2, [-1, 2]),
        (["0.5", "1.5"], "binary", "number", 1.5, [0.5, 1.5]),
        (["False", "True"], "binary", "boolean", True, [False, True]),
        (["a", "b", "c"], "multiclass", "string", None, None),
        (["1.0", "2.0", "3.0"], "multiclass", "integer", None, None),
        (["1.5", "2.0", "3.0"], "regression", "number", None, None),
        ([str(number) for number in range(11)], "regression", "number", None, None),
        (["a", "b", "c"] * 400, "multiclass", "string", None, ["a", "b", "c"]),
        (["a", "b"] * 600 + ["c"], "multiclass", "string", None, None),
    ],
)
def test_the_question(values, task, type_name, positive, classes):
    contract = infer("s", [{"x": "1", "y": value} for value in values], label="y")
    label = contract.label
    assert (contract.task, label.type, label.positive, label.classes) == (task, type_name, positive, classes)
    cleanser = Cleanser(contract)
    for value in values:
        told = convert_label(contract, value)
        if told is not None:
            cleanser.label(json.dumps({"id": "a", "y": told}).encode(), now_ms=NOW)


def test_the_caller_knows_better():
    rows = rows_of(
        a=["1", "2", "3"],
        y=["1", "2", "1"],
        key=["k", "l", "m"],
        t=["2020-01-02", "2020-01-01", "2020-01-03"],
    )
    contract = infer(
        "s", rows, label="y", task="multiclass", id="key", event_time="t", entity="a", leave_out=["nothing"]
    )
    assert (contract.task, contract.id, contract.event_time, contract.entity) == (
        "multiclass",
        "key",
        "t",
        "a",
    )
    assert infer("s", rows, label="y", task="regression").label == LabelSpec("y", "number")
    assert infer("s", rows, label="y", positive="1").label.positive == 1
    assert [field.name for field in infer("s", rows, label="y", leave_out=["a", "t"]).fields] == ["key"]


@pytest.mark.parametrize(
    ("rows", "arguments", "where"),
    [
        ([], {}, "label"),
        ([{"a": "1"}], {}, "label"),
        ([{"a": "1", "y": "1"}], {}, "label"),
        ([{"a": "1", "y": "?"}], {}, "label"),
        (rows_of(a=["1", "2"], y=["1", "2"]), {"id": "b"}, "id"),
        (rows_of(a=["1", "2", "3"], y=["1", "2", "3"]), {"task": "binary"}, "task"),
        (rows_of(a=["1", "2"], y=["u", "v"]), {"task": "regression"}, "task"),
        (rows_of(a=["1", "2"], y=["u", "v"]), {"task": "guess"}, "task"),
        (rows_of(y=["u", "v"]), {}, "fields"),
    ],
)
def test_what_cannot_be_proposed(rows, arguments, where):
    with pytest.raises(Unusable) as caught:
        infer("s", rows, label="y", **arguments)
    assert caught.value.where == where


def test_roles_are_found():
    times = ["2020-01-01 00:00", "2020-01-01 00:00", "2020-01-02"]
    contract = infer(
        "s", rows_of(id=["7", "8", "9"], t=times, a=["1", "2", "3"], y=["u", "v", "v"]), label="y"
    )
    assert (contract.id, contract.event_time) == ("id", "t")
    assert [field.name for field in contract.fields if field.feature] == ["a"]
    back = infer("s", rows_of(t=times[::-1], a=["1", "2", "3"], y=["u", "v", "v"]), label="y")
    assert back.event_time == ""
    assert [field.name for field in back.fields if field.feature] == ["a"]
    two = infer("s", rows_of(t=times, a=times, y=["u", "v", "v"]), label="y")
    assert two.event_time == ""
    gap = infer("s", rows_of(t=[*times[:2], ""], a=["1", "2", "3"], y=["u", "v", "v"]), label="y")
    assert gap.event_time == ""


def test_columns_with_the_wires_own_names():
    rows = rows_of(
        id=["7", "7", "9"],
        at=["1", "2", "3"],
        type=["a", "b", "c"],
        label=["d", "e", "f"],
        entity=["u", "v", "v"],
    )
    contract = infer("s", rows, label="entity")
    assert [field.name for field in contract.fields] == ["type", "label"]
    assert "column id" in contract.description
    assert "column at" in contract.description
    assert contract.label.name == "entity_label"


def test_sets_are_closed_only_if_every_value_is_common():
    common = ["a", "b", "c"] * 400
    contract = infer(
        "s",
        rows_of(few=common, rare=[*common[:-1], "d"], y=["u", "v"] * 600, sex=["m", "f"] * 600),
        label="y",
    )
    assert [field.categories for field in contract.fields] == [["a", "b", "c"], None, ["f", "m"]]
    assert [field.sensitive for field in contract.fields] == [False, False, True]


def test_long_texts_get_room():
    contract = infer("s", rows_of(a=["x" * 300, "y"], y=["u", "v"]), label="y")
    assert contract.fields[0].max_length == 1024


CONTRACT = StreamContract(
    "s",
    "regression",
    [
        Field("i", "integer"),
        Field("n", "number"),
        Field("b", "boolean"),
        Field("t", "time"),
        Field("s", "string"),
    ],
    label=LabelSpec("y", "number"),
)


@pytest.mark.parametrize(
    ("row", "converted"),
    [
        (
            {"i": "3", "n": "3", "b": "True", "t": "2020-01-01", "s": " a b "},
            {"i": 3, "n": 3.0, "b": True, "t": "2020-01-01T00:00:00Z", "s": "a b"},
        ),
        (
            {"i": " 3.0 ", "n": ".5", "b": "0", "t": "2020-01-01 05:15", "s": "007"},
            {"i": 3, "n": 0.5, "b": False, "t": "2020-01-01T05:15:00Z", "s": "007"},
        ),
        ({"i": "", "n": "?", "b": "NA", "t": "null", "s": " NaN "}, {}),
        (
            {"i": "3.5", "n": "1,5", "b": "maybe", "t": "noon", "other": "1"},
            {"i": 3.5, "n": "1,5", "b": "maybe", "t": "noon"},
        ),
        ({"n": "1e999", "i": "9007199254740993"}, {"i": 9007199254740993, "n": "1e999"}),
        (
            {"i": 3, "n": float("nan"), "b": 1, "t": datetime(2020, 1, 1, tzinfo=UTC), "s": 7},
            {"i": 3, "b": True, "t": "2020-01-01T00:00:00Z", "s": "7"},
        ),
        (
            {"b": True, "t": date(2020, 1, 1), "s": False, "i": None},
            {"b": True, "t": "2020-01-01", "s": "false"},
        ),
    ],
)
def test_convert_row(row, converted):
    got = convert_row(CONTRACT, row)
    assert got == converted
    assert {name: type(value) for name, value in got.items()} == {
        name: type(value) for name, value in converted.items()
    }


cells = st.one_of(
    st.sampled_from(sorted(MISSING)),
    st.integers().map(str),
    st.floats(allow_nan=False).map(str),
    st.booleans().map(str),
    st.integers(0, 10**12).map(to_text),
    st.dates().map(str),
    st.text(max_size=6),
)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, str]]:
    columns = draw(
        st.lists(st.sampled_from(["a", "b", "id", "at", "type", "label"]), min_size=1, unique=True)
    )
    kind = {
        name: draw(st.sampled_from([cells, st.integers(-9, 9).map(str), st.dates().map(str)]))
        for name in columns
    }
    rows = draw(st.integers(2, 8))
    table = [
        {name: draw(kind[name]) for name in columns} | {"y": f"class {draw(st.integers(0, 3))}"}
        for _ in range(rows)
    ]
    return [*table, table[0] | {"y": "one"}, table[0] | {"y": "two"}]


@settings(max_examples=60, deadline=None)
@given(tables())
def test_rows_are_accepted_under_the_contract_they_gave(table):
    try:
        contract = infer("s", table, label="y")
    except Unusable as error:
        if error.where != "fields":  # only a table whose columns are all left out has no contract
            raise
        return
    cleanser = Cleanser(contract)
    for row in table:
        body = json.dumps(convert_row(contract, row)).encode()
        if contract.event_time and row[contract.event_time] < "1970":
            continue
        cleanser.observation(body, now_ms=253_402_300_799_999, new_id=lambda: "new")


LABELS = {
    "adult": ("income", "binary"),
    "bike_hour": ("cnt", "regression"),
    "circles_seed101": ("class", "binary"),
    "compas_by_date": ("two_year_recid", "binary"),
    "elec2": ("class", "binary"),
    "mixed_seed101": ("class", "binary"),
    "noaa_weather": ("target", "binary"),
    "sea_0123": ("class", "binary"),
    "sine1_seed101": ("class", "binary"),
    "sine_0123_gradual": ("class", "binary"),
}


@pytest.mark.skipif(
    not DATA.is_dir(), reason="the streams to try are not on this machine (HEADRACE_DATA names their folder)"
)
@pytest.mark.parametrize("name", LABELS)
def test_real_streams(name):
    label, task = LABELS[name]
    with gzip.open(DATA / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    contract = infer(name, rows[:2000], label=label)
    assert contract.task == task
    assert load(dump(contract)) == contract
    cleanser = Cleanser(contract)
    for number, row in enumerate(rows[:: max(1, len(rows) // 2000)]):
        observation = json.dumps(convert_row(contract, row)).encode()
        x = cleanser.observation(observation, now_ms=NOW, new_id=lambda: "new").x
        assert all(row[name] not in MISSING for name in x)
        told = {"id": str(number), contract.label.name: convert_label(contract, row[label])}
        cleanser.label(json.dumps(told).encode(), now_ms=NOW)
