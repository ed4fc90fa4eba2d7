"""Ingest over HTTP: the real process, a real broker, and what is in the topics afterwards."""

import gzip
import json
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import Label, Observation, Prediction
from headrace.contracts.topics import PREDICTIONS, topic
from headrace.kafka.producer import LogProducer
from headrace.kafka.tail import Tail
from tests.integration.ingest_system import IngestProcess, announce, contract, until
from tests.support import fresh

pytestmark = pytest.mark.broker

NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def ingest(kafka, tmp_path_factory):
    process = IngestProcess(kafka, tmp_path_factory.mktemp("http"))
    announce(kafka, contract(fresh("first")))
    process.start()
    yield process
    process.end()


@pytest.fixture
def stream(ingest, kafka):
    name = fresh("http")
    announce(kafka, contract(name))
    until(lambda: ingest.serves(name), what="the stream is known")
    return name


def ticket(name: str, customer: str = "c1", **changes) -> dict:
    return {"id": name, "priority": 2, "customer": customer, "opened": "2026-01-01T00:00:00Z", **changes}


def lines(*events: dict) -> bytes:
    return b"\n".join(json.dumps(event).encode() for event in events)


def test_one_observation_and_its_label_enter_the_log_under_one_key(ingest, stream):
    answer = ingest.http.post(
        f"/v1/streams/{stream}/observations", json=ticket("t1", amount=2.5, vip=False, channel="web")
    )
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": [], "ids": ["t1"]})
    label = {"id": "t1", "label": False, "at": "2026-01-02T00:00:00Z", "entity": "c1"}
    answer = ingest.http.post(f"/v1/streams/{stream}/labels", json=label)
    assert (answer.status_code, answer.json()["ids"]) == (202, ["t1"])
    (first, observation), (second, labelled) = ingest.log_records(stream, 2)
    assert observation == Observation(
        "t1", "c1", 1_767_225_600_000, {"priority": 2, "amount": 2.5, "vip": False, "channel": "web"}
    )
    assert labelled == Label("t1", "c1", 1_767_312_000_000, False)
    assert (first.key, second.key) == (b"c1", b"c1")
    assert first.partition == second.partition


def test_a_batch_keeps_order_by_entity_and_names_the_bad_lines(ingest, stream):
    events = [ticket(f"n{number}", f"c{number % 7}") for number in range(1000)]
    events[10]["priority"] = 9
    del events[500]["customer"]
    answer = ingest.http.post(f"/v1/streams/{stream}/observations", content=lines(*events), headers=NDJSON)
    assert answer.status_code == 202
    body = answer.json()
    assert body["accepted"] == 998
    assert [refused["line"] for refused in body["rejected"]] == [11, 501]
    assert all(refused["rule"] and refused["reason"] and refused["field"] for refused in body["rejected"])
    good = [event for number, event in enumerate(events) if number not in (10, 500)]
    assert body["ids"] == [event["id"] for event in good]
    written = defaultdict(list)
    for _, record in ingest.log_records(stream, 998):
        written[record.entity].append(record.id)
    for customer, ids in written.items():
        assert ids == [event["id"] for event in good if event["customer"] == customer]
    kept = ingest.rejected(stream, 2)
    assert sorted(reject.original for reject in kept) == sorted(
        json.dumps(events[n]).encode() for n in (10, 500)
    )
    assert {reject.origin for reject in kept} == {"http"}


def test_gzip_arrays_cloudevents_and_mixed_events(ingest, stream):
    url = f"/v1/streams/{stream}"
    packed = gzip.compress(lines(ticket("g1"), ticket("g2")))
    answer = ingest.http.post(
        f"{url}/observations", content=packed, headers={**NDJSON, "content-encoding": "gzip"}
    )
    assert (answer.status_code, answer.json()["ids"]) == (202, ["g1", "g2"])
    answer = ingest.http.post(f"{url}/observations", json=[ticket("a1"), ticket("a2")])
    assert answer.json()["ids"] == ["a1", "a2"]

    def cloud_event(number: int, kind: str, data: dict) -> dict:
        head = {"specversion": "1.0", "id": f"e{number}", "source": "/shop", "type": f"shop.{kind}"}
        return {**head, "datacontenttype": "application/json", "data": data}

    batch = [cloud_event(n, "observation", ticket(f"ce{n}")) for n in range(3)]
    batch.append(cloud_event(9, "label", {"id": "ce0", "label": True, "entity": "c1"}))
    answer = ingest.http.post(
        f"{url}/observations",
        content=json.dumps(batch),
        headers={"content-type": "application/cloudevents-batch+json"},
    )
    assert (answer.status_code, answer.json()["accepted"]) == (202, 3)
    assert [(refused["line"], refused["rule"]) for refused in answer.json()["rejected"]] == [(4, "kind")]
    answer = ingest.http.post(
        f"{url}/labels",
        content=json.dumps(batch[3]),
        headers={"content-type": "application/cloudevents+json"},
    )
    assert (answer.status_code, answer.json()["ids"]) == (202, ["ce0"])
    mixed = lines(ticket("m1"), {"id": "m1", "label": True, "entity": "c1"}, ticket("m2"))
    answer = ingest.http.post(f"{url}/events", content=mixed, headers=NDJSON)
    assert answer.json()["ids"] == ["m1", "m1", "m2"]
    kinds = [(type(record).__name__, record.id) for _, record in ingest.log_records(stream, 11)]
    assert kinds[-3:] == [("Observation", "m1"), ("Label", "m1"), ("Observation", "m2")]
    assert ("Label", "ce0") in kinds


def test_generated_ids_are_unique_and_sort_by_time(ingest, stream):
    events = [ticket("") for _ in range(300)]
    for event in events:
        del event["id"]
    ids = []
    for _ in range(2):
        answer = ingest.http.post(
            f"/v1/streams/{stream}/observations", content=lines(*events), headers=NDJSON
        )
        ids += answer.json()["ids"]
    assert len(set(ids)) == 600
    assert ids == sorted(ids)


def test_closed_by_default(ingest, stream):
    url = f"/v1/streams/{stream}/observations"
    assert ingest.http.post(url, json=ticket("x"), headers={"Authorization": ""}).status_code == 401
    assert (
        ingest.http.post(url, json=ticket("x"), headers={"Authorization": "Bearer hr_no"}).status_code == 401
    )
    reader = {"Authorization": f"Bearer {ingest.reader_key}"}
    assert ingest.http.post(url, json=ticket("x"), headers=reader).status_code == 403
    for path in ("/livez", "/readyz", "/metrics"):
        assert ingest.http.get(path, headers={"Authorization": ""}).status_code == 200


def test_an_unknown_stream_is_a_404_problem(ingest):
    answer = ingest.http.post("/v1/streams/nowhere/observations", json=ticket("x"))
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_the_same_idempotency_key_gets_the_same_answer_once_in_the_log(ingest, stream):
    url, key = f"/v1/streams/{stream}/observations", {"Idempotency-Key": "k1"}
    anonymous = ticket("")
    del anonymous["id"]
    body = lines(anonymous, {"broken": 1})
    first = ingest.http.post(url, content=body, headers={**NDJSON, **key})
    again = ingest.http.post(url, content=body, headers={**NDJSON, **key})
    assert first.status_code == again.status_code == 202
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = ingest.http.post(url, content=lines(anonymous), headers={**NDJSON, **key})
    assert other.status_code == 422
    assert len(ingest.log_records(stream, 1)) == 1
    assert len(ingest.rejected(stream, 1)) == 1


def test_the_same_idempotency_key_at_the_same_time_is_one_work(ingest, stream):
    body = lines(*(ticket(f"s{number}") for number in range(500)))
    url, headers = f"/v1/streams/{stream}/observations", {**NDJSON, "Idempotency-Key": "same"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ingest.http.post(url, content=body, headers=headers), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert len(ingest.log_records(stream, 500)) == 500


def test_ids_under_an_idempotency_key_outlive_the_process(kafka, tmp_path):
    name = fresh("idem")
    announce(kafka, contract(name))
    anonymous = ticket("")
    del anonymous["id"]
    answers = []
    process = IngestProcess(kafka, tmp_path)
    try:
        for _ in range(2):
            process.start()
            headers = {**JSON, "Idempotency-Key": "k"}
            answer = process.http.post(
                f"/v1/streams/{name}/observations", content=lines(anonymous), headers=headers
            )
            answers.append(answer.json()["ids"])
            process.kill()
    finally:
        process.end()
    assert answers[0] == answers[1]  # so that the fold can drop the second


def test_waiting_for_a_prediction_gets_the_record_itself(ingest, stream, kafka):
    """Scoring is played by a thread that answers what it sees in the log."""
    stop = threading.Event()
    tail = Tail(kafka, f"{stream}.log")
    producer = LogProducer(kafka, client_id="test-scoring")

    def play_scoring() -> None:
        while not stop.is_set():
            for record in tail.read(100, 0.05):
                seen = json.loads(record.value)
                if seen["id"] != "silent":
                    answer = Prediction(
                        seen["id"], seen["entity"], seen["at"], record.offset, "m", 1, True, 0.75
                    )
                    message = {"key": record.key, "value": encode(answer)}
                    producer.send(topic(PREDICTIONS, stream), [message], record.partition)

    player = threading.Thread(target=play_scoring)
    player.start()
    try:
        url = f"/v1/streams/{stream}/observations?wait=prediction"
        answer = ingest.http.post(url, json=ticket("w1"))
        assert answer.status_code == 200
        assert (answer.json()["id"], answer.json()["model"], answer.json()["score"]) == ("w1", "m", 0.75)
        with ThreadPoolExecutor(8) as pool:
            names = [f"p{number}" for number in range(40)]
            answers = list(pool.map(lambda name: ingest.http.post(url, json=ticket(name)), names))
        assert [answer.json()["id"] for answer in answers] == names
        started = time.monotonic()
        answer = ingest.http.post(f"{url}&timeout_ms=300", json=ticket("silent"))
        assert (answer.status_code, answer.json()["ids"]) == (202, ["silent"])
        assert 0.25 < time.monotonic() - started < 2
        assert (
            ingest.http.post(url, content=lines(ticket("a"), ticket("b")), headers=NDJSON).status_code == 422
        )
        assert ingest.http.post(f"{url}&timeout_ms=0", json=ticket("x")).status_code == 422
    finally:
        stop.set()
        player.join()
        tail.close()
        producer.close(5)


def test_sigterm_ends_it_cleanly_and_in_time(kafka, tmp_path):
    process = IngestProcess(kafka, tmp_path)
    announce(kafka, contract(fresh("stop")))
    try:
        process.start()
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 8
    finally:
        process.end()


def test_what_was_acknowledged_is_in_the_log_after_a_kill(kafka, tmp_path):
    name = fresh("kill")
    announce(kafka, contract(name))
    process = IngestProcess(kafka, tmp_path)
    acknowledged: list[str] = []
    stop = threading.Event()

    def publish(worker: int) -> None:
        number = 0
        while not stop.is_set():
            batch = [ticket(f"{worker}-{number}-{line}", f"c{line}") for line in range(50)]
            try:
                answer = process.http.post(
                    f"/v1/streams/{name}/observations", content=lines(*batch), headers=NDJSON
                )
            except Exception:
                return
            assert answer.status_code == 202
            acknowledged.extend(answer.json()["ids"])
            number += 1

    try:
        process.start()
        workers = [threading.Thread(target=publish, args=(worker,)) for worker in range(3)]
        for worker in workers:
            worker.start()
        time.sleep(1.5)
        process.kill()
        stop.set()
        for worker in workers:
            worker.join()
        assert len(acknowledged) > 500
        written = {record.id for _, record in process.log_records(name, len(acknowledged))}
        assert set(acknowledged) <= written
    finally:
        stop.set()
        process.end()


def test_metrics_count_what_happened(ingest, stream):
    ingest.http.post(
        f"/v1/streams/{stream}/observations", content=lines(ticket("a"), {"no": 1}), headers=NDJSON
    )
    text = ingest.http.get("/metrics").text
    assert f'headrace_ingest_accepted_total{{kind="observation",stream="{stream}",via="http"}} 1.0' in text
    assert f'headrace_ingest_body_bytes_total{{stream="{stream}"}}' in text
    assert f'stream="{stream}",via="http"}} 1.0' in text
    assert "headrace_ingest_ack_seconds_bucket" in text
