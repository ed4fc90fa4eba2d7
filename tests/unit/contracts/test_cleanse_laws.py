"""Laws: the fast decoder and the second look agree, and nothing unchecked ever gets through."""

import json
import math
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.contracts.careful import parse
from headrace.contracts.cleanse import Cleanser
from headrace.contracts.events import Label, Observation
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.errors import Poison

NOW = 1_700_000_000_000

CONTRACT = StreamContract(
    name="laws",
    task="multiclass",
    fields=[
        Field("i", "integer", minimum=-5, maximum=10),
        Field("n", "number"),
        Field("b", "boolean", required=True),
        Field("s", "string", max_length=5),
        Field("c", "string", categories=["x", "y"]),
        Field("t", "time"),
        Field("w", "time", minimum=0),
        Field("key", "string"),
    ],
    label=LabelSpec("kind", "string", classes=["p", "q"]),
    id="key",
    event_time="t",
    entity="c",
)
CLEANSER = Cleanser(CONTRACT)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["x", "y", "", "p", "q", "label", "2013-01-01T05:15:00Z", "2013-01-01", "1969-01-01T00:00:00Z"]
    )
    | st.text(max_size=8)
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
names = st.sampled_from(
    [*(field.name for field in CONTRACT.fields), "id", "at", "type", "label", "kind", "entity"]
) | st.text(max_size=4)
nearly = st.fixed_dictionaries(
    {"b": st.booleans(), "c": st.sampled_from(["x", "y"]), "t": st.integers(0, NOW)},
    optional={
        "i": st.integers(-7, 12) | st.floats(-7, 12) | scalars,
        "n": st.floats() | st.integers() | scalars,
        "s": st.text(max_size=7) | scalars,
        "w": st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.integers() | scalars,
        "key": st.text(max_size=4) | scalars,
        "id": st.text(max_size=4) | scalars,
    },
)
documents = st.dictionaries(names, values, max_size=8) | nearly


def outcome(call: Any) -> Any:
    try:
        return call()
    except Poison as poison:
        return poison


def observe(raw: Any) -> Any:
    return outcome(lambda: CLEANSER._observe(raw, NOW, lambda: "new", None, ""))


def label(raw: Any) -> Any:
    return outcome(lambda: CLEANSER._label(raw, NOW, None, ""))


def check_same(fast: Any, slow: Any) -> None:
    assert type(fast) is type(slow)
    if isinstance(fast, Poison):
        assert (fast.rule, fast.field, fast.reason) == (slow.rule, slow.field, slow.reason)
    else:
        assert repr(fast) == repr(slow)


@settings(max_examples=400, deadline=None)
@given(documents)
@example({"b": False, "c": "x", "t": 0, "id": -(10**19)})
@example({"b": False, "c": "x", "t": 0, "n": 10**25, "i": 10**30})
def test_the_second_look_agrees_with_the_fast_decoder(document):
    raw = json.dumps(document).encode()
    parsed = outcome(lambda: parse(raw))
    if isinstance(parsed, Poison):
        assert observe(raw).rule == parsed.rule
        return
    # A parsed document is always read carefully, bytes go through the decoder first.
    check_same(observe(raw), observe(parsed))
    check_same(label(raw), label(parsed))


@settings(max_examples=300, deadline=None)
@given(documents)
def test_what_gets_through_is_clean(document):
    result = outcome(lambda: CLEANSER.event(json.dumps(document).encode(), now_ms=NOW, new_id=lambda: "new"))
    if isinstance(result, Poison):
        assert result.rule
        assert result.reason
        return
    encoded = msgspec.json.encode(result)
    assert msgspec.json.decode(encoded, type=type(result)) == result
    assert 1 <= len(result.id) <= 128
    assert result.entity in ("x", "y") or isinstance(result, Label)
    assert 0 <= result.at <= NOW + 300_000
    if isinstance(result, Observation):
        types = {"i": int, "n": float, "b": bool, "s": str, "c": str, "w": int}
        assert list(result.x) == [name for name in types if name in result.x]
        for name, value in result.x.items():
            assert type(value) is types[name]
            assert not isinstance(value, float) or (math.isfinite(value) and abs(value) <= 1e15)


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=40)
    | st.text(max_size=40).map(str.encode)
    | st.binary(max_size=12).map(lambda b: b'{"n":' + b)
)
def test_any_bytes_are_answered(raw):
    for call in (
        lambda: CLEANSER.observation(raw, now_ms=NOW, new_id=lambda: "new"),
        lambda: CLEANSER.label(raw, now_ms=NOW),
        lambda: CLEANSER.event(raw, now_ms=NOW, new_id=lambda: "new"),
    ):
        assert isinstance(outcome(call), Poison | Observation | Label)
