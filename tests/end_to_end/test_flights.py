"""Real flights through the real system, by both doors, with a crash half-way: bit for bit a plain River loop."""

import json

import msgspec
import pytest
import yaml
from confluent_kafka import Producer

from headrace.cli.flights import document
from headrace.cli.flights.source import Event, read_events
from headrace.contracts import odcs
from headrace.contracts.topics import INBOX, LOG, OUTCOMES, PREDICTIONS, topic
from headrace.kafka.tail import Tail
from tests.end_to_end.system import System
from tests.reference import Expected, flights_model, replay

pytestmark = pytest.mark.broker

FLIGHTS = 6000
WAIT_SECONDS = 2 * 24 * 3600


def create(system: System, stream: str) -> None:
    contract = msgspec.structs.replace(odcs.load(document("contract.yaml")), name=stream)
    system.client.create_stream(odcs.dump(contract))
    system.client.create_model("flights-logistic", yaml.safe_load(document("champion.yaml")))
    system.client.deploy(stream, "flights-logistic")


def by_http(system: System, stream: str, events: list[Event]) -> None:
    for start in range(0, len(events), 1000):
        receipt = system.client.publish(
            stream, [event.body for event in events[start : start + 1000]], "events"
        )
        assert receipt.rejected == []


def by_inbox(system: System, stream: str, events: list[Event]) -> None:
    producer = Producer({"bootstrap.servers": system.bootstrap, "enable.idempotence": True, "linger.ms": 20})
    for event in events:
        producer.produce(topic(INBOX, stream), event.body, b"one", 0)
        producer.poll(0)
    assert producer.flush(60) == 0


def read(system: System, name: str) -> list[tuple[int, bytes]]:
    """Every committed record of a topic's only partition."""
    tail = Tail(system.bootstrap, name, start="earliest")
    found: list[tuple[int, bytes]] = []
    while not tail.caught_up():
        found += [(record.offset, record.value or b"") for record in tail.read(5000, 1.0)]
    tail.close()
    return found


def emitted(system: System, stream: str) -> Expected:
    """What came out, in the oracle's words."""
    said = [json.loads(value) for _, value in read(system, topic(PREDICTIONS, stream))]
    became = [json.loads(value) for _, value in read(system, topic(OUTCOMES, stream))]
    return Expected(
        [(one["id"], one["offset"], one["score"]) for one in said],
        [(one["id"], one["status"], one.get("y"), one["score"]) for one in became],
    )


def expected(system: System, stream: str) -> Expected:
    """What a plain loop over the same log says."""
    log = [
        (offset, value)
        for offset, value in read(system, topic(LOG, stream))
        if json.loads(value)["type"] in ("observation", "label")
    ]
    return replay(log, flights_model(), WAIT_SECONDS)


def test_flights_by_http_and_by_inbox_with_crashes_are_the_plain_loops_bits(system: System) -> None:
    events = list(read_events(FLIGHTS))
    labels = sum(event.is_label for event in events)
    half = len(events) // 2
    for stream, publish, victims in (
        ("by-http", by_http, ("scoring",)),
        ("by-inbox", by_inbox, ("ingest", "scoring")),
    ):
        create(system, stream)
        publish(system, stream, events[:half])
        for victim in victims:
            system.kill(victim)
        publish(system, stream, events[half:])
        system.wait(lambda stream=stream: system.total(stream)["labels"] == labels)
        total = system.total(stream)
        assert (total["observations"], total["duplicates"], total["refused"]) == (FLIGHTS, 0, 0)
        found = emitted(system, stream)
        assert found == expected(system, stream)
        assert len(found.predictions) == FLIGHTS
        assert total["expired"] > 0
    http, inbox = emitted(system, "by-http"), emitted(system, "by-inbox")
    assert [(one, score) for one, _, score in http.predictions] == [
        (one, score) for one, _, score in inbox.predictions
    ]
    assert http.outcomes == inbox.outcomes
