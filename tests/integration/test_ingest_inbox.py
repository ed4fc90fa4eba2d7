"""The inbox: records from producers that speak Kafka, copied exactly once, also through kills."""

import json
import time

import pytest

from headrace.contracts.events import Label, Observation
from headrace.contracts.topics import INBOX, topic
from headrace.kafka.producer import LogProducer
from tests.integration.ingest_system import IngestProcess, announce, contract, until
from tests.support import fresh

pytestmark = pytest.mark.broker


@pytest.fixture
def process(kafka, tmp_path):
    made = IngestProcess(kafka, tmp_path)
    yield made
    made.end()


@pytest.fixture
def producer(kafka):
    made = LogProducer(kafka, client_id="outsider")
    yield made
    made.close(5)


def ticket(name: str, customer: str = "c1") -> bytes:
    event = {"id": name, "priority": 2, "customer": customer, "opened": "2026-01-01T00:00:00Z"}
    return json.dumps(event).encode()


def cloud_event(kind: str, data: bytes) -> bytes:
    head = {"specversion": "1.0", "id": "e1", "source": "/s", "type": f"x.{kind}", "data": json.loads(data)}
    return json.dumps(head).encode()


def test_good_records_reach_the_log_and_bad_ones_the_rejects(process, producer, kafka):
    name = fresh("inbox")
    announce(kafka, contract(name))
    process.start()
    values = [
        ticket("t1"),
        b"{broken",
        None,
        cloud_event("observation", ticket("t2", "c2")),
        b'{"id": "t1", "label": true, "entity": "c1"}',
        ticket("bad").replace(b"2,", b'"two",'),
        b"\xff\xfe\x00",
        b"[" * 50_000,
        b"x" * 200_000,
    ]
    anonymous = json.loads(ticket("t"))
    del anonymous["id"]
    values.append(json.dumps(anonymous).encode())
    messages = [{"key": b"k%d" % number, "value": value} for number, value in enumerate(values)]
    places = producer.send(topic(INBOX, name), messages, 1).result(20)
    records = [record for _, record in process.log_records(name, 4)]
    place = f"{name}-inbox-1-{places[-1][1]}"
    assert sorted((type(record).__name__, record.id) for record in records) == sorted(
        [("Observation", "t1"), ("Observation", "t2"), ("Label", "t1"), ("Observation", place)]
    )
    assert [type(record) for record in records if record.id == "t1"] == [Observation, Label]
    rejected = process.rejected(name, 6)
    bad = (1, 2, 5, 6, 7, 8)
    assert sorted(reject.original for reject in rejected) == sorted(values[number] or b"" for number in bad)
    assert {reject.origin for reject in rejected} == {
        f"{name}.inbox/1/{places[n][1]}" for n in (1, 2, 5, 6, 7, 8)
    }
    by_origin = {reject.origin.rpartition("/")[2]: reject.rule for reject in rejected}
    assert by_origin[str(places[2][1])] == "tombstone"
    assert by_origin[str(places[8][1])] == "too_large"
    assert process.http.post(f"/v1/streams/{name}/labels", content=b"{}").status_code == 415  # it goes on
    text = process.http.get("/metrics").text
    assert f'headrace_ingest_rejected_total{{rule="tombstone",stream="{name}",via="inbox"}} 1.0' in text


def test_a_stream_announced_later_is_served_too(process, producer, kafka):
    announce(kafka, contract(fresh("early")))
    process.start()
    name = fresh("late")
    announce(kafka, contract(name))
    producer.send(topic(INBOX, name), [{"key": None, "value": ticket("t1")}]).result(20)
    assert process.log_records(name, 1)[0][1].id == "t1"


@pytest.mark.slow
def test_kills_lose_nothing_and_double_nothing(process, producer, kafka):
    name = fresh("kills")
    announce(kafka, contract(name))
    count, sent = 40_000, 0
    process.environment["HEADRACE_INGEST_INBOX_BATCH_RECORDS"] = "500"
    for _ in range(4):
        process.start(ready=False)
        until_sent = sent + count // 4
        while sent < until_sent:
            batch = [{"key": None, "value": ticket(f"t{sent + n}", f"c{n % 50}")} for n in range(1000)]
            producer.send(topic(INBOX, name), batch).result(20)
            sent += 1000
        time.sleep(1.2)
        process.kill()
    process.start()
    ids = [record.id for _, record in process.log_records(name, count, 60)]
    time.sleep(1)
    ids = [record.id for _, record in process.log_records(name, count, 60)]
    assert len(ids) == count
    assert set(ids) == {f"t{number}" for number in range(count)}
    assert process.stop() == 0


def test_a_restart_does_not_read_the_inbox_again(process, producer, kafka):
    name = fresh("again")
    announce(kafka, contract(name))
    process.start()
    producer.send(topic(INBOX, name), [{"key": None, "value": ticket(f"t{n}")} for n in range(50)]).result(20)
    process.log_records(name, 50)
    assert process.stop() == 0
    process.start()
    producer.send(topic(INBOX, name), [{"key": None, "value": ticket("last")}]).result(20)
    assert len(process.log_records(name, 51)) == 51
    text = process.http.get("/metrics").text
    line = f'headrace_ingest_accepted_total{{kind="any",stream="{name}",via="inbox"}} 1.0'
    until(lambda: line in process.http.get("/metrics").text, what=f"one accepted after the restart: {text}")
