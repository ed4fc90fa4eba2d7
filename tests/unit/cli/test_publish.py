"""Files to lines: what is withheld, in which order it becomes known, with which ids and times."""

import json
import time
from itertools import pairwise

import pytest

from headrace.cli.publish import (
    Columns,
    Delay,
    Line,
    Pace,
    Reader,
    Sent,
    bodies,
    choose_columns,
    parse_delay,
    send,
)
from headrace.client import Client, ServiceProblem
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.errors import Unusable

NOW = 1_700_000_000_000
PLAIN = StreamContract("s", "binary", [Field("a", "number"), Field("who", "string")], label=LabelSpec("good"))
TIMED = StreamContract(
    "s",
    "binary",
    [Field("key", "string"), Field("t", "time"), Field("a", "number"), Field("who", "string")],
    id="key",
    event_time="t",
    entity="who",
    label=LabelSpec("good"),
)


def read(contract, rows, *, delay="0s", columns=None, now=NOW):
    columns = columns or choose_columns(contract, sorted({name for row in rows for name in row}))
    reader = Reader(contract, columns, parse_delay(delay), "f.csv", now_ms=now, total=len(rows))
    lines = list(reader.lines(rows))
    assert (reader.rows, reader.observations) == (len(rows), len(rows))
    assert reader.labels == sum(line.is_label for line in lines)
    return [json.loads(line.body) for line in lines]


def order(documents):
    """`o1` for the observation of row 1, `l1` for its label."""
    kinds = ["l" if one.get("type") == "label" else "o" for one in documents]
    return [
        kind + one.get("id", one.get("key")).split(":")[-1]
        for kind, one in zip(kinds, documents, strict=True)
    ]


ROWS = [{"a": "1", "good": "true"}, {"a": "2", "good": "0"}, {"a": "3", "good": "1"}]


class TestOrder:
    def test_a_label_follows_its_observation_at_once(self):
        assert order(read(PLAIN, ROWS)) == ["o1", "l1", "o2", "l2", "o3", "l3"]

    def test_delay_in_rows(self):
        assert order(read(PLAIN, ROWS, delay="1rows")) == ["o1", "o2", "l1", "o3", "l2", "l3"]
        assert order(read(PLAIN, ROWS, delay="2rows")) == ["o1", "o2", "o3", "l1", "l2", "l3"]
        assert order(read(PLAIN, ROWS, delay="100 rows")) == ["o1", "o2", "o3", "l1", "l2", "l3"]

    def test_delay_in_event_time_labels_first_at_one_time(self):
        rows = [{"key": str(n), "t": NOW - 100_000 + n * 10_000, "good": "1"} for n in range(4)]
        assert order(read(TIMED, rows, delay="10s")) == ["o0", "l0", "o1", "l1", "o2", "l2", "o3", "l3"]
        assert order(read(TIMED, rows, delay="11s")) == ["o0", "o1", "l0", "o2", "l1", "o3", "l2", "l3"]

    def test_rows_that_are_out_of_order_do_not_turn_time_back(self):
        rows = [{"key": "a", "t": NOW - 5_000, "good": "1"}, {"key": "b", "t": NOW - 90_000, "good": "1"}]
        documents = read(TIMED, rows, delay="0s")
        assert order(documents) == ["oa", "la", "ob", "lb"]
        assert documents[3]["at"] == NOW - 5_000  # known when it was sent, not before

    def test_the_label_is_not_in_the_observation(self):
        assert all("good" not in one for one in read(PLAIN, ROWS) if one.get("type") != "label")


class TestTimes:
    def test_without_a_time_column_rows_are_a_millisecond_apart_and_none_in_the_future(self):
        for delay in ("0s", "2rows", "2h"):
            documents = read(PLAIN, ROWS, delay=delay)
            ats = [one["at"] for one in documents if one.get("type") != "label"]
            assert [b - a for a, b in pairwise(ats)] == [1, 1]
            assert max(one["at"] for one in documents) <= NOW

    def test_labels_lie_their_delay_behind_their_observation(self):
        rows = [{"key": "a", "t": NOW - 9_000_000, "good": "1"}]
        observation, label = read(TIMED, rows, delay="2h")
        assert label["at"] - observation["t"] == 7_200_000

    def test_a_label_that_would_lie_ahead_of_the_clock_does_not(self):
        rows = [{"key": "a", "t": NOW - 1_000, "good": "1"}]
        assert read(TIMED, rows, delay="2h")[1]["at"] == NOW

    @pytest.mark.parametrize(
        ("value", "ms"),
        [
            ("2024-01-02T03:04:05Z", 1704164645000),
            ("2024-01-02 03:04:05", 1704164645000),
            ("2024-01-02T04:04:05+01:00", 1704164645000),
            ("1704164645", 1704164645000),
            (1704164645.5, 1704164645500),
            ("1704164645000", 1704164645000),
        ],
    )
    def test_a_time_column_of_another_name(self, value, ms):
        columns = Columns("good", "", "when")
        (observation, _) = read(PLAIN, [{"a": "1", "when": value, "good": "1"}], columns=columns)
        assert observation["at"] == ms
        assert "when" not in observation

    @pytest.mark.parametrize("value", ["yesterday", True, None, 1e18])
    def test_a_row_without_a_usable_time_is_named(self, value):
        with pytest.raises(Unusable, match="row 1: when"):
            read(PLAIN, [{"a": "1", "when": value, "good": "1"}], columns=Columns("good", "", "when"))


class TestIdentity:
    def test_ids_come_from_file_and_row_so_that_a_repeat_changes_nothing(self):
        first = [one["id"] for one in read(PLAIN, ROWS)]
        assert first == ["f.csv:1", "f.csv:1", "f.csv:2", "f.csv:2", "f.csv:3", "f.csv:3"]
        assert [one["id"] for one in read(PLAIN, ROWS, now=NOW + 99)] == first

    def test_ids_from_the_contract_s_field(self):
        observation, label = read(TIMED, [{"key": "k7", "t": NOW, "good": "0"}])
        assert (observation["key"], label["id"], "id" in observation) == ("k7", "k7", False)

    def test_ids_from_another_column(self):
        observation, label = read(
            PLAIN, [{"a": "1", "nr": 12, "good": "0"}], columns=Columns("good", "nr", "")
        )
        assert (observation["id"], label["id"]) == ("12", "12")
        assert "nr" not in observation

    def test_labels_carry_the_entity(self):
        _, label = read(TIMED, [{"key": "k", "t": NOW, "who": "ann", "good": "1"}])
        assert label["entity"] == "ann"

    def test_columns_that_the_contract_does_not_know_stay_out(self):
        (observation,) = read(PLAIN, [{"a": "1", "extra": "x"}])
        assert set(observation) == {"a", "id", "at"}


class TestLabels:
    @pytest.mark.parametrize(
        ("kind", "raw", "value"),
        [
            ("boolean", "TRUE", True),
            ("boolean", "0", False),
            ("boolean", 1, True),
            ("boolean", False, False),
            ("boolean", "maybe", "maybe"),
            ("integer", "3.0", 3),
            ("integer", 0, 0),
            ("number", "2.5", 2.5),
            ("number", "many", "many"),
            ("string", " cat ", "cat"),
            ("string", 7, "7"),
            ("string", False, "false"),
        ],
    )
    def test_text_becomes_the_contract_s_type_or_is_left_for_ingest_to_refuse(self, kind, raw, value):
        contract = StreamContract(
            "s", "binary", [Field("a", "number")], label=LabelSpec("good", kind, positive="cat")
        )
        label = read(contract, [{"a": 1, "good": raw}])[1]["label"]
        assert label == value
        assert type(label) is type(value)

    def test_a_row_without_a_label_sends_none(self):
        rows = [{"a": "1"}, {"a": "2", "good": "1"}, {"a": "3", "good": "NA"}]
        assert order(read(PLAIN, rows)) == ["o1", "o2", "l2", "o3"]


class TestColumns:
    def test_what_the_contract_calls_so_is_found(self):
        assert choose_columns(TIMED, ["key", "t", "a", "good"]) == Columns("good", "key", "t")
        assert choose_columns(PLAIN, ["a", "id"]) == Columns("", "id", "")

    def test_a_column_that_is_not_there(self):
        with pytest.raises(Unusable, match="--label-column god: the file has no such column; it has a, good"):
            choose_columns(PLAIN, ["a", "good"], label="god")

    def test_an_event_time_that_is_missing(self):
        with pytest.raises(Unusable, match="--time-column"):
            choose_columns(TIMED, ["key", "a"])


@pytest.mark.parametrize(
    ("text", "delay"),
    [("0s", Delay()), ("90s", Delay(90_000)), ("1.5h", Delay(5_400_000)), ("3d", Delay(259_200_000)),
     ("15min", Delay(900_000)), ("2m", Delay(120_000)), ("100rows", Delay(rows=100)), ("1 row", Delay(rows=1))],
)  # fmt: skip
def test_delays(text, delay):
    assert parse_delay(text) == delay


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5", "1y"])
def test_delays_that_are_none(text):
    with pytest.raises(Unusable, match="--label-delay"):
        parse_delay(text)


class TestSending:
    def test_every_line_once_and_in_order_and_refusals_are_counted(self, service, monkeypatch):
        monkeypatch.setattr("headrace.cli.publish.BODY_LINES", 3)
        rejected = [{"line": 1, "rule": "type", "field": "a", "reason": "is text"}]
        service.on(
            "POST /v1/streams/s/events", {"accepted": 2, "rejected": rejected, "ids": ["1", "2"]}, status=202
        )
        told: list[int] = []
        sent = Sent()
        lines = [Line(n, b'{"n":%d}' % n, False) for n in range(7)]
        with Client(service.addresses) as client:
            assert send(client, "s", bodies(lines, Pace(None)), told=told.append, sent=sent) == 7
        assert [line["n"] for asked in service.asked for line in asked.lines] == list(range(7))
        assert sorted(set(told)) == [3, 6, 7]
        assert (sent.accepted, sent.rejected, dict(sent.rules)) == (6, 3, {"type": 3})
        assert sent.examples[0] == "type: a: is text"

    def test_bodies_stay_small(self, service, monkeypatch, accept_all):
        monkeypatch.setattr("headrace.cli.publish.BODY_BYTES", 20)
        service.on("POST /v1/streams/s/events", accept_all)
        with Client(service.addresses) as client:
            lines = [Line(0, b'{"id":"0123456789"}', False)] * 3
            send(client, "s", bodies(lines, Pace(None)), told=lambda _: None, sent=Sent())
        assert all(len(asked.body) < 60 for asked in service.asked)

    def test_a_new_stream_is_waited_for(self, service):
        unknown = (404, {}, {"title": "Unknown stream", "status": 404})
        service.on("POST /v1/streams/s/events", unknown, unknown, (202, {}, {"accepted": 1, "ids": ["a"]}))
        sent = Sent()
        with Client(service.addresses) as client:
            send(client, "s", [[b"{}"]], told=lambda _: None, sent=sent)
        assert (sent.accepted, len(service.asked)) == (1, 3)

    def test_what_a_service_refuses_ends_the_sending(self, service):
        service.on("POST /v1/streams/s/events", {"title": "Forbidden"}, status=403)
        with Client(service.addresses) as client, pytest.raises(ServiceProblem, match="Forbidden"):
            send(client, "s", [[b"{}"], [b"{}"]], told=lambda _: None, sent=Sent())
        assert len(service.asked) == 1

    def test_speed_keeps_event_time_and_no_line_goes_early(self):
        lines = [Line(at, str(at).encode(), False) for at in (0, 1000, 4000, 4010, 4020)]
        began = time.monotonic()
        seen = [(body, time.monotonic() - began) for body in bodies(lines, Pace(10.0))]
        assert [line for body, _ in seen for line in body] == [line.body for line in lines]
        for body, at in seen:
            assert at >= int(body[-1]) / 10_000
        assert seen[0][1] < 0.35  # the first did not wait for the third

    @pytest.mark.parametrize("speed", [0.0, -1.0])
    def test_speed_must_be_positive(self, speed):
        with pytest.raises(Unusable, match="--speed"):
            Pace(speed)
