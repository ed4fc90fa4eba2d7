"""What a host shows of itself: how far behind it is, how its batches and snapshots go, whether Kafka answers.

Lag is what the client knows anyhow (the ends that came with the last fetch), so asking costs no request. Whether Kafka
answers is asked on a thread of its own, every few seconds, and without a client: a client tells once that it has lost
its brokers, and never that it found them again.
"""

import threading
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import TopicPartition
from prometheus_client import CollectorRegistry

from headrace.metrics import catalogue
from headrace.recovery import Place
from headrace.step import Run

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 2.0
KAFKA_PORT = 9092


class Meter:
    """The metrics of one host. `begin` and `end` bracket its life; the rest is for the host's thread."""

    def __init__(self, bootstrap: str, registry: CollectorRegistry) -> None:
        self._addresses = [_place(address.strip()) for address in bootstrap.split(",")]
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
        from headrace.broker.probe import answers  # here, as it takes a tenth of a second

        while not self._stopping.is_set():
            found = (answers(*place, timeout_seconds=ANSWER_SECONDS) for place in self._addresses)
            self._reachable.set(any(found))
            self._stopping.wait(LOOK_SECONDS)


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else (address, KAFKA_PORT)


def _behind(consumer: Any, runs: Iterable[tuple[Place, Run]]) -> dict[str, int]:
    """Offsets to the end, by topic. The mark of a transaction's end counts, so an idle partition may show 1."""
    behind: dict[str, int] = {}
    for place, run in runs:
        _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        behind[place[0]] = behind.get(place[0], 0) + max(0, end - run.position)
    return behind
