"""What a host shows of itself: how far behind it is, what it gave up, whether Kafka answers."""

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace.broker import EmbeddedBroker
from headrace.errors import Transient
from headrace.kafka import admin
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.kafka.meter import Meter
from headrace.kafka.producer import LogProducer
from headrace.processor import Batch, Outputs
from services.ingest.processor import InboxProcessor
from tests.conftest import jars
from tests.integration.ingest_system import until

pytestmark = pytest.mark.broker

RECORDS = 300


class Gate(InboxProcessor):
    """Folds nothing until it is opened."""

    def __init__(self, opened: threading.Event) -> None:
        self._opened = opened

    def process(self, batch: Batch) -> Outputs:
        if not self._opened.is_set():
            raise Transient("closed")
        return {}


def test_lag_is_what_has_not_been_folded(
    kafka: str, fresh_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.kafka.meter.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("headrace.kafka.host.RETRY_SECONDS", 0.05)
    admin.ensure_stream_topics(kafka, fresh_name, 2)
    log, opened, registry = f"{fresh_name}.log", threading.Event(), CollectorRegistry()
    producer = LogProducer(kafka, client_id="test")
    producer.send(log, [{"key": b"%d" % n, "value": b"x"} for n in range(RECORDS)]).result(20)
    producer.close(5)
    host = KafkaHost(
        HostSettings(kafka, f"group-{fresh_name}", "one", stateless=True),
        lambda _topic, _partition: Gate(opened),
        lambda: [log],
        metrics=registry,
    )

    def lag() -> float | None:
        return registry.get_sample_value("headrace_host_lag_records", {"topic": log})

    worker = threading.Thread(target=host.run, daemon=True)
    worker.start()
    try:
        until(lambda: lag() == RECORDS, what="the whole log is behind")
        until(lambda: (registry.get_sample_value("headrace_host_failures_total") or 0) > 1, what="failures")
        opened.set()
        until(lambda: lag() == 0, what="nothing is behind")
        assert registry.get_sample_value("headrace_host_batch_seconds_count") >= 1
    finally:
        host.stop()
        worker.join(20)


def test_a_broker_that_goes_and_comes_back_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.kafka.meter.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("headrace.kafka.meter.ANSWER_SECONDS", 1.0)
    registry = CollectorRegistry()
    broker = EmbeddedBroker(tmp_path / "broker", cache=jars())
    meter = Meter(broker.start().bootstrap_servers, registry)

    def shows(value: int) -> bool:
        return registry.get_sample_value("headrace_kafka_reachable") == value

    try:
        meter.begin()
        until(lambda: shows(1), what="reachable")
        broker.stop()
        until(lambda: shows(0), what="unreachable")
        broker.start()
        until(lambda: shows(1), what="reachable again")
    finally:
        meter.end()
        broker.stop()
