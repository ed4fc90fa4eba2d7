"""What a host shows of itself: how far behind it is, how its batches and snapshots go, whether Kafka answers.

Lag is what the client knows anyhow (the ends that came with the last fetch), so asking costs no request. Whether Kafka
answers is asked on a thread of its own, every few seconds: a client tells once that it has lost its brokers, and never
that it found them again.
"""

import threading
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from headrace.kafka.admin import client_settings
from headrace.metrics import catalogue
from headrace.recovery import Place
from headrace.step import Run

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 4.0


class Meter:
    """The metrics of one host. `begin` and `end` bracket its life; the rest is for the host's thread."""

    def __init__(self, bootstrap: str, member: str, registry: CollectorRegistry) -> None:
        self._settings = client_settings(bootstrap, f"{member}-meter")
        self._reachable = catalogue.KAFKA_REACHABLE.on(registry).labels()
        self._lag = catalogue.HOST_LAG.on(registry)
        self._lagging: set[str] = set()
        self._next_look = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="meter", daemon=True)
        self.batch_seconds = catalogue.HOST_BATCH_SECONDS.on(registry).labels()
        self.failures = catalogue.HOST_FAILURES.on(registry).labels()
        snapshots = catalogue.HOST_SNAPSHOTS.on(registry)
        self.snapshots = {True: snapshots.labels("stored"), False: snapshots.labels("failed")}
        """By whether the snapshot was stored."""

    def begin(self) -> None:
        """Begin to ask whether Kafka answers."""
        self._thread.start()

    def end(self) -> None:
        """End; a question under way ends by itself."""
        self._stopping.set()

    def look(self, consumer: Any, runs: dict[Place, Run]) -> None:
        """Show how far the runs are behind, if it is time to. A topic that went elsewhere is 0 here."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        behind = _behind(consumer, runs.items())
        for topic in behind.keys() | self._lagging:
            self._lag.labels(topic).set(behind.get(topic, 0))
        self._lagging = set(behind)

    def _ask(self) -> None:
        admin = AdminClient(self._settings)
        while not self._stopping.is_set():
            try:
                admin.list_topics(topic="__consumer_offsets", timeout=ANSWER_SECONDS)
                self._reachable.set(1)
            except KafkaException:
                self._reachable.set(0)
            self._stopping.wait(LOOK_SECONDS)


def _behind(consumer: Any, runs: Iterable[tuple[Place, Run]]) -> dict[str, int]:
    """Offsets to the end, by topic. The mark of a transaction's end counts, so an idle partition may show 1."""
    behind: dict[str, int] = {}
    for place, run in runs:
        _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        behind[place[0]] = behind.get(place[0], 0) + max(0, end - run.position)
    return behind
