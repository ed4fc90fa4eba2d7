"""A host as a member of its group: what it does when its place is taken, and when it comes back to other topics.

Static membership lets a restarted process go on at once with the partitions it had. Two things follow from it that a
host has to mind. A consumer that was fenced (after a broker's restart by its own former self, even) gets an error and
nothing more, ever. And a member that comes back within its session is given what it had, whatever it asks for now.
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


def test_a_stream_made_while_the_host_was_away_is_taken_up(kafka: str, fresh_name: str) -> None:
    """Back within the session, the group gives it the old assignment: it has to ask once more."""
    names = [fresh_name, f"{fresh_name}x"]
    logs = [f"{name}.log" for name in names]
    for name in names:
        admin.ensure_stream_topics(kafka, name, 2)
    settings = HostSettings(kafka, f"group-{fresh_name}", "one")

    def live(topics: list[str], places: int) -> None:
        host = KafkaHost(settings, ScoringProcessor, lambda: topics)
        worker = threading.Thread(target=host.run, daemon=True)
        worker.start()
        try:
            until(lambda: host.call(len).result(10) == places, 20, f"the host has {places} partitions")
        finally:
            host.stop()
            worker.join(20)

    live(logs[:1], 2)
    live(logs, 4)
    live(logs[1:], 2)
