"""The same bits: real flights through the Kafka host give what a plain River loop over the same log gives."""

import json
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli.flights import document
from headrace.cli.flights.source import read_events
from headrace.contracts import odcs
from headrace.contracts.cleanse import Cleanser
from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, ModelDeployed
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, topic
from headrace.history import History
from headrace.kafka import admin
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.kafka.producer import LogProducer
from headrace.kafka.tail import Tail
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.scoring.processor import ScoringProcessor
from tests.reference import Expected, flights_model, replay

pytestmark = pytest.mark.broker

WAIT_SECONDS = 2 * 24 * 3600


@cache
def flight_log(flights: int) -> list[bytes]:
    """The first flights of 2013 as log values, with the contract and one model before them."""
    contract = odcs.load(document("contract.yaml"))
    cleanser = Cleanser(contract)
    values = [
        encode(ContractAdopted("contract", 0, 1, contract.to_dict())),
        encode(ModelDeployed("deploy", 0, "delay", 1, yaml.safe_load(document("champion.yaml")))),
    ]
    for event in read_events(flights):
        if event.is_label:
            values.append(encode(cleanser.label(event.body, now_ms=event.at)))
        else:
            values.append(encode(cleanser.observation(event.body, now_ms=event.at, new_id=lambda: "none")))
    return values


def publish(kafka: str, stream: str, values: list[bytes]) -> None:
    producer = LogProducer(kafka, client_id="test")
    for start in range(0, len(values), 1000):
        messages = [{"key": b"k", "value": value} for value in values[start : start + 1000]]
        producer.send(topic(LOG, stream), messages, 0).result(30)
    producer.close(10)


def read_all(kafka: str, name: str, count: int) -> list[tuple[int, bytes]]:
    """Wait for `count` committed records; fail if there are more."""
    tail = Tail(kafka, name, start="earliest")
    found: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + 90
    while len(found) < count and time.monotonic() < deadline:
        found += [(record.offset, record.value or b"") for record in tail.read(5000, 0.5)]
    found += [(record.offset, record.value or b"") for record in tail.read(5000, 0.5)]
    tail.close()
    return found


def run_host(
    kafka: str,
    stream: str,
    folder: Path,
    batch: int,
    until: Callable[[int], bool],
    *,
    history: Callable[[], History] | None = None,
    **more: Any,
) -> None:
    """Run a scoring host until `until(records folded)`, then stop it cleanly. Raises what it ended with."""
    folded = 0
    failed: list[BaseException] = []

    def count(_topic: str, records: int, _outputs: int) -> None:
        nonlocal folded
        folded += records

    host = KafkaHost(
        HostSettings(kafka, f"group-{stream}", "one", batch_records=batch, whole_log=True, **more),
        ScoringProcessor,
        lambda: [topic(LOG, stream)],
        snapshots=SnapshotStore(folder, Keys(b"k" * 32)),
        history=history,
        observe=count,
    )

    def work() -> None:
        try:
            host.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 120
    while not until(folded) and time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.02)
    host.stop()
    thread.join(30)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def check(kafka: str, stream: str, expected: Expected) -> None:
    predictions = [
        (offset_and_value["id"], offset_and_value["offset"], offset_and_value["score"])
        for _, value in read_all(kafka, topic(PREDICTIONS, stream), len(expected.predictions))
        for offset_and_value in [json.loads(value)]
    ]
    assert predictions == expected.predictions
    outcomes = [
        (found["id"], found["status"], found.get("y"), found["score"])
        for _, value in read_all(kafka, topic(OUTCOMES, stream), len(expected.outcomes))
        for found in [json.loads(value)]
    ]
    assert outcomes == expected.outcomes


@pytest.mark.parametrize(("batch", "flights"), [(1, 60), (7, 500), (1000, 6000)])
def test_every_batch_size_gives_the_plain_loops_bits(
    kafka: str, fresh_name: str, tmp_path: Path, batch: int, flights: int
) -> None:
    values = flight_log(flights)
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    publish(kafka, fresh_name, values)
    run_host(kafka, fresh_name, tmp_path, batch, lambda folded: folded >= len(values))
    expected = replay(list(enumerate(values))[2:], flights_model(), WAIT_SECONDS)
    assert any(status == "expired" for _, status, _, _ in expected.outcomes) or flights < 6000
    check(kafka, fresh_name, expected)


@pytest.mark.parametrize("snapshot_records", [0, 2000])
def test_a_restart_half_way_changes_no_bit(
    kafka: str, fresh_name: str, tmp_path: Path, snapshot_records: int
) -> None:
    values = flight_log(6000)
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    publish(kafka, fresh_name, values)
    for part in (2, 4):  # folded counts what a life was fed, relived records too
        run_host(
            kafka, fresh_name, tmp_path, 500,
            lambda folded, part=part: folded >= len(values) // part, snapshot_records=snapshot_records,
        )  # fmt: skip
    run_host(
        kafka, fresh_name, tmp_path, 500,
        lambda folded: caught_up(kafka, fresh_name),
        snapshot_records=snapshot_records,
    )  # fmt: skip
    check(kafka, fresh_name, replay(list(enumerate(values))[2:], flights_model(), WAIT_SECONDS))
    assert any(tmp_path.rglob("*")) == bool(snapshot_records)


def caught_up(kafka: str, stream: str) -> bool:
    return sum(admin.lag(kafka, f"group-{stream}", [topic(LOG, stream)]).values()) == 0
