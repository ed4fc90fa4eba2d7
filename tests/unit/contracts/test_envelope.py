"""CloudEvents 1.0 as the standard's own SDK writes them, and what is wrong with those that are not."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.events import Label, Observation
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.errors import Poison

NOW = 1_700_000_000_000
ARRIVAL = StreamContract("s", "regression", [Field("a", "number")], label=LabelSpec("y", "number"))
TIMED = StreamContract("s", "binary", [Field("t", "time"), Field("a", "number")], event_time="t")


def written_by_the_sdk(data: Any, **attributes: Any) -> bytes:
    defaults = {
        "id": "e1",
        "source": "/gate/7",
        "type": "com.example.flight.observation",
        "specversion": "1.0",
        "time": datetime(2023, 11, 14, 5, 15, tzinfo=UTC),
        "datacontenttype": "application/json",
    }
    return JSONFormat().write(CloudEvent(defaults | attributes, data))


def opened(raw: bytes, contract: StreamContract = ARRIVAL) -> Observation | Label:
    return Cleanser(contract).event(raw, now_ms=NOW, new_id=lambda: "never asked")


def test_observation_takes_id_time_and_source_from_the_envelope():
    raw = written_by_the_sdk({"a": 1}, subject="gate", comexampleextension="kept out")
    assert opened(raw) == Observation("e1", "e1", 1_699_938_900_000, {"a": 1.0}, "/gate/7")


def test_the_data_goes_before_the_envelope():
    raw = written_by_the_sdk({"a": 1, "id": "f1", "at": 5})
    assert opened(raw) == Observation("f1", "f1", 5, {"a": 1.0}, "/gate/7")
    assert opened(written_by_the_sdk({"t": 7, "a": 1}), TIMED).at == 7


def test_an_envelopes_time_does_not_stand_in_for_a_declared_event_time():
    with pytest.raises(Poison) as caught:
        opened(written_by_the_sdk({"a": 1}), TIMED)
    assert (caught.value.rule, caught.value.field) == ("missing", "t")


def test_label():
    raw = written_by_the_sdk({"id": "f1", "label": 0}, type="com.example.flight.label")
    assert opened(raw) == Label("f1", "f1", 1_699_938_900_000, 0.0, "/gate/7")


def test_a_labels_id_is_never_the_envelopes():
    with pytest.raises(Poison) as caught:
        opened(written_by_the_sdk({"label": 0}, type="x.label"))
    assert (caught.value.rule, caught.value.field) == ("missing", "id")


def test_binary_data_and_content_types():
    raw = written_by_the_sdk(b'{"a": 2}', datacontenttype="application/octet-stream")
    assert b"data_base64" in raw
    with pytest.raises(Poison) as caught:
        opened(raw)
    assert (caught.value.rule, caught.value.field) == ("envelope", "datacontenttype")
    declared = raw.replace(b"application/octet-stream", b"application/vnd.x+json; charset=utf-8")
    assert opened(declared).x == {"a": 2.0}


def test_harmless_spellings_are_read():
    raw = written_by_the_sdk({"a": 1})
    assert opened(b"\xef\xbb\xbf" + raw) == opened(raw)
    assert opened(raw.replace(b"05:15:00Z", b"05:15Z")) == opened(raw)


ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/gate/7",
    "type": "x.observation",
    "data": {"a": 1},
}


def removed(key: str) -> dict[str, Any]:
    return {name: value for name, value in ENVELOPE.items() if name != key}


@pytest.mark.parametrize(
    ("envelope", "rule", "field"),
    [
        (removed("id"), "envelope", "id"),
        (removed("source"), "envelope", "source"),
        (removed("type"), "envelope", "type"),
        (removed("data"), "envelope", "data"),
        (ENVELOPE | {"id": ""}, "envelope", "id"),
        (ENVELOPE | {"id": 7}, "envelope", "id"),
        (ENVELOPE | {"id": "x" * 129}, "id", "id"),
        (ENVELOPE | {"id": "a\nb"}, "id", "id"),
        (ENVELOPE | {"source": "x" * 1025}, "envelope", "source"),
        (ENVELOPE | {"specversion": "0.3"}, "envelope", "specversion"),
        (ENVELOPE | {"type": "x.arrival"}, "kind", "type"),
        (ENVELOPE | {"data": {"a": 1, "type": "label"}}, "kind", "type"),
        (ENVELOPE | {"time": "noon"}, "envelope", "time"),
        (ENVELOPE | {"time": 5}, "envelope", "time"),
        (ENVELOPE | {"time": "2023-11-20T00:00:00Z"}, "future", "at"),
        (ENVELOPE | {"datacontenttype": "text/csv"}, "envelope", "datacontenttype"),
        (ENVELOPE | {"data": [1]}, "not_object", ""),
        (ENVELOPE | {"data": '{"a": 1}'}, "not_object", ""),
        (ENVELOPE | {"data": {"a": float("nan")}}, "not_finite", "a"),
        (ENVELOPE | {"data": {"a": "\ud800"}}, "encoding", "a"),
        (ENVELOPE | {"data": {"zz": 1}}, "unknown_field", "zz"),
        (ENVELOPE | {"data_base64": "e30="}, "envelope", "data_base64"),
        (removed("data") | {"data_base64": "!"}, "envelope", "data_base64"),
        (removed("data") | {"data_base64": ""}, "empty", ""),
    ],
)
def test_bad_envelope(envelope, rule, field):
    with pytest.raises(Poison) as caught:
        opened(json.dumps(envelope).encode())
    assert (caught.value.rule, caught.value.field) == (rule, field)


def test_a_plain_record_that_mentions_specversion_is_still_plain():
    contract = StreamContract("s", "regression", [Field("word", "string")], label=LabelSpec("y", "number"))
    assert opened(b'{"word": "specversion"}', contract).x == {"word": "specversion"}
