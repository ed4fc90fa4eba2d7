"""Every kind of bad input at ingest's doors: its documented answer, and the service goes on.

The real process and a real broker. What only the fold can judge (a repeated id, a label for nothing, two labels) is
accepted here and tested with the fold.
"""

import gzip
import json
import socket
import struct
import time

import pytest

from headrace.contracts.topics import INBOX, topic
from headrace.kafka.producer import LogProducer
from tests.integration.ingest_system import IngestProcess, announce, contract, until
from tests.support import fresh

pytestmark = pytest.mark.broker

NDJSON = {"content-type": "application/x-ndjson"}
LIMIT = 200_000

GOOD = {"id": "good", "priority": 2, "customer": "c1", "opened": "2026-01-01T00:00:00Z"}


def bad(**changes) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


FUTURE = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))

BAD_OBSERVATIONS: dict[str, tuple[bytes, str, str]] = {
    "not JSON": (b"priority=2", "json", ""),
    "half an object": (b'{"id": "x", "priority": 2', "json", ""),
    "not an object": (b"[1, 2, 3]", "not_object", ""),
    "wrong type": (bad(priority="two"), "type", "priority"),
    "a number for a text": (bad(note=7), "type", "note"),
    "unknown field": (bad(surprise=1), "unknown_field", "surprise"),
    "missing required": (without("priority"), "missing", "priority"),
    "missing entity": (without("customer"), "missing", "customer"),
    "missing event time": (without("opened"), "missing", "opened"),
    "NaN": (bad(amount=1).replace(b'"amount": 1', b'"amount": NaN'), "not_finite", "amount"),
    "infinity": (bad(amount=1).replace(b'"amount": 1', b'"amount": 1e999'), "not_finite", "amount"),
    "huge number": (bad(amount=1e300), "magnitude", "amount"),
    "out of range": (bad(priority=6), "range", "priority"),
    "not in the set": (bad(channel="pigeon"), "category", "channel"),
    "too long a text": (bad(note="x" * 21), "too_long", "note"),
    "huge line": (bad(note="x" * 70_000), "too_large", ""),
    "deep nesting": (b'{"id": "x", "note": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "depth", ""),
    "nested value": (bad(amount={"value": 1}), "type", "amount"),
    "wrong encoding": ('{"id": "x", "note": "caf\u00e9"}'.encode("latin-1"), "encoding", ""),
    "UTF-16": (bad().decode().encode("utf-16"), "encoding", ""),
    "lone surrogate": (bad(customer="\ud800"), "encoding", "customer"),
    "future time": (bad(opened=FUTURE), "future", "opened"),
    "no time": (bad(opened="yesterday"), "time", "opened"),
    "a text id that is empty": (bad(id=""), "id", "id"),
}

BAD_LABELS: dict[str, tuple[bytes, str, str]] = {
    "not JSON": (b"late", "json", ""),
    "no id": (b'{"label": true, "entity": "c1"}', "missing", "id"),
    "no label": (b'{"id": "x", "entity": "c1"}', "missing", "label"),
    "no entity": (b'{"id": "x", "label": true}', "missing", "entity"),
    "wrong type": (b'{"id": "x", "label": "perhaps", "entity": "c1"}', "type", "label"),
    "null": (b'{"id": "x", "label": null, "entity": "c1"}', "missing", "label"),
    "unknown field": (b'{"id": "x", "label": true, "entity": "c1", "extra": 1}', "unknown_field", "extra"),
}


@pytest.fixture(scope="module")
def ingest(kafka, tmp_path_factory):
    process = IngestProcess(
        kafka,
        tmp_path_factory.mktemp("bad"),
        HEADRACE_INGEST_BODY_BYTES=str(LIMIT),
        HEADRACE_INGEST_BODY_LINES="2000",
        HEADRACE_INGEST_BODY_SECONDS="1.5",
        HEADRACE_INGEST_FLIGHT_BYTES="400000",
    )
    announce(kafka, contract(fresh("first")))
    process.start()
    yield process
    process.end()


@pytest.fixture(scope="module")
def stream(ingest, kafka):
    name = fresh("bad")
    announce(kafka, contract(name))
    until(lambda: ingest.serves(name), what="the stream is known")
    return name


@pytest.fixture(autouse=True)
def _goes_on(ingest, stream):
    """After every kind of bad input the same process takes good input."""
    yield
    answer = ingest.http.post(f"/v1/streams/{stream}/observations", json=GOOD)
    assert (answer.status_code, answer.json()["ids"]) == (202, ["good"])


def post(ingest, stream, body: bytes, kind: str = "observations", **headers: str):
    return ingest.http.post(
        f"/v1/streams/{stream}/{kind}",
        content=body,
        headers={**NDJSON, **{name.replace("_", "-"): value for name, value in headers.items()}},
    )


def refused(answer, rule: str, field: str, reject_count: int = 1) -> dict:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    found = answer.json()["rejected"]
    assert len(found) == reject_count
    assert found[0]["line"] == 1
    assert found[0]["reason"]
    assert (found[0]["rule"], found[0]["field"]) == (rule, field)
    return found[0]


@pytest.mark.parametrize("kind", BAD_OBSERVATIONS)
def test_bad_observation(ingest, stream, kind):
    body, rule, field = BAD_OBSERVATIONS[kind]
    if b"\n" in body:  # UTF-16 text may hold the byte of a line's end
        pytest.fail("the sample must be one line")
    refused(post(ingest, stream, body), rule, field)


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_label(ingest, stream, kind):
    body, rule, field = BAD_LABELS[kind]
    refused(post(ingest, stream, body, "labels"), rule, field)


def test_every_kind_between_good_lines_and_all_are_kept(ingest, kafka):
    name = fresh("between")
    announce(kafka, contract(name))
    until(lambda: ingest.serves(name), what="the stream is known")
    samples = [body for body, _, _ in BAD_OBSERVATIONS.values()]
    body = b"\n".join(line for sample in samples for line in (bad(id=f"g{len(sample)}"), sample))
    assert len(body) < LIMIT
    answer = post(ingest, name, body)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == len(samples)
    assert [found["line"] for found in answer.json()["rejected"]] == [2 * n + 2 for n in range(len(samples))]
    originals = sorted(reject.original for reject in ingest.rejected(name, len(samples)))
    assert originals == sorted(samples)
    assert len(ingest.log_records(name, len(samples))) == len(samples)


def test_the_same_through_the_inbox(ingest, kafka):
    name = fresh("inboxbad")
    announce(kafka, contract(name))
    samples = [body for body, _, _ in (*BAD_OBSERVATIONS.values(), *BAD_LABELS.values())]
    producer = LogProducer(kafka, client_id="outsider")
    values = [*samples, None, b"", json.dumps(GOOD).encode()]
    producer.send(topic(INBOX, name), [{"key": b"k", "value": value} for value in values], 0).result(20)
    producer.close(5)
    rejects = ingest.rejected(name, len(values) - 1)
    assert [reject.original for reject in rejects] == [value or b"" for value in values[:-1]]
    assert all(reject.rule and reject.reason for reject in rejects)
    assert rejects[-2].rule == "tombstone"
    assert [record.id for _, record in ingest.log_records(name, 1)] == ["good"]


@pytest.mark.parametrize("body", [b"", b"\n\n \n"])
def test_an_empty_batch(ingest, stream, body):
    answer = post(ingest, stream, body)
    assert (answer.status_code, answer.json()["rule"]) == (422, "empty")


def test_an_empty_array(ingest, stream):
    answer = post(ingest, stream, b"[]", content_type="application/json")
    assert (answer.status_code, answer.json()["rule"]) == (422, "empty")


def test_a_body_over_the_limit(ingest, stream):
    line = bad() + b"\n"
    answer = post(ingest, stream, line * (LIMIT // len(line) + 2))
    assert answer.status_code == 413


def test_a_chunked_body_over_the_limit(ingest, stream):
    def chunks():
        for _ in range(LIMIT // 10_000 + 5):
            yield b"x" * 10_000

    answer = ingest.http.post(f"/v1/streams/{stream}/observations", content=chunks(), headers=NDJSON)
    assert answer.status_code == 413


def test_a_gzip_bomb(ingest, stream):
    bomb = gzip.compress(bytes(30_000_000))
    assert len(bomb) < LIMIT
    assert post(ingest, stream, bomb, content_encoding="gzip").status_code == 413


def test_damaged_gzip(ingest, stream):
    answer = post(ingest, stream, gzip.compress(bad())[:-5], content_encoding="gzip")
    assert (answer.status_code, answer.json()["rule"]) == (422, "gzip")


def test_too_many_lines(ingest, stream):
    assert post(ingest, stream, b"{}\n" * 2001).status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/csv"},
        {"content_type": "application/json; charset=utf-16"},
        {"content_encoding": "br"},
    ],
)
def test_what_is_not_read_here(ingest, stream, headers):
    assert post(ingest, stream, bad(), **headers).status_code == 415


def test_a_batch_that_is_no_array(ingest, stream):
    answer = post(ingest, stream, bad(), content_type="application/cloudevents-batch+json")
    assert (answer.status_code, answer.json()["rule"]) == (422, "json")


def test_an_idempotency_key_that_is_too_long(ingest, stream):
    assert post(ingest, stream, bad(), idempotency_key="k" * 300).status_code == 422


def test_more_bytes_in_flight_than_allowed_are_sent_away_and_come_in_later(ingest, stream):
    slow = [half_sent(ingest, stream, 150_000) for _ in range(2)]
    time.sleep(0.3)
    line = bad() + b"\n"
    answer = post(ingest, stream, line * (140_000 // len(line)))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    for connection in slow:
        connection.close()
    until(lambda: post(ingest, stream, line * 100).status_code == 202, what="bytes are given back")


def test_a_body_that_never_ends_is_given_up(ingest, stream):
    with half_sent(ingest, stream, 1000) as connection:
        connection.settimeout(10)
        assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_client_that_goes_away(ingest, stream):
    for _ in range(5):
        connection = half_sent(ingest, stream, 1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def half_sent(ingest, stream, size: int) -> socket.socket:
    """A connection whose request declares more bytes than it sends."""
    connection = socket.create_connection(("127.0.0.1", ingest.port), timeout=5)
    head = (
        f"POST /v1/streams/{stream}/observations HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {ingest.producer_key}\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {size + 10_000}\r\n\r\n"
    )
    connection.sendall(head.encode() + b"x" * size)
    return connection
