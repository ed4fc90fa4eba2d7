"""A host whose place in its group was taken by another of the same name gives up, and says so.

It happens without a second process too: after a broker's restart a static member that comes back late may be fenced by
its own former self. librdkafka then delivers an error and nothing more, ever.
"""

import threading

import pytest
from confluent_kafka import Consumer

from headrace.errors import Fatal
from headrace.kafka import admin
from headrace.kafka.host import HostSettings, KafkaHost
from services.scoring.processor import ScoringProcessor
from tests.integration.ingest_system import until

pytestmark = pytest.mark.broker


def test_a_fenced_consumer_ends_the_host(kafka: str, fresh_name: str) -> None:
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    log, group = f"{fresh_name}.log", f"group-{fresh_name}"
    host = KafkaHost(HostSettings(kafka, group, "one"), ScoringProcessor, lambda: [log])
    ended: list[BaseException | None] = []

    def work() -> None:
        try:
            host.run()
            ended.append(None)
        except Fatal as failure:
            ended.append(failure)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    until(host.ready.is_set, 20, "the host has its partition")
    other = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "group.instance.id": "one",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    other.subscribe([log])
    try:
        until(lambda: other.poll(0.1) is not None or ended, 30, "the host gives up")
        assert isinstance(ended[0], Fatal)
        assert "fenced" in str(ended[0])
    finally:
        other.close()
        host.stop()
        worker.join(20)
