"""Archives every stream's log, now and then, on a thread of its own; and trims Kafka behind it, if asked to.

Kafka keeps a log for ever unless an operator says otherwise. Here is the safe way to say it: only what the archive has
durably is ever removed, so that nothing is gone before it is somewhere else. What is away (the broker, the store) is
tried again; a log or an archive that is not right is told in the log and by a metric, and the other streams go on.
"""

import threading
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry

from headrace.archive.archiver import Archiver, Closing
from headrace.archive.reading import Archive
from headrace.contracts.topics import LOG, topic
from headrace.errors import HeadraceError
from headrace.kafka import admin
from headrace.kafka.history import KafkaHistory
from headrace.metrics import catalogue

log = structlog.get_logger("registry.archiving")

ROUND_SECONDS = 30.0


class Archiving:
    """The archiver of all logs. streams: (name, partitions) of each, asked every round.

    lag_seconds: how far an archive may be behind a log that fills no segment. keep_records: offsets that stay in Kafka
    behind a log's end although they are archived; 0 trims nothing.
    """

    def __init__(
        self,
        bootstrap: str,
        archive: Archive,
        streams: Callable[[], list[tuple[str, int]]],
        *,
        lag_seconds: float,
        keep_records: int,
        metrics: CollectorRegistry,
    ) -> None:
        self._bootstrap = bootstrap
        self._live = KafkaHistory(bootstrap)
        self._archiver = Archiver(self._live, archive, Closing(seconds=lag_seconds))
        self._streams = streams
        self._keep_records = keep_records
        self._stopping = threading.Event()
        self._reached = catalogue.REGISTRY_ARCHIVED.on(metrics)
        self._failures = catalogue.REGISTRY_ARCHIVE_FAILURES.on(metrics)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._go_round, name="archiving", daemon=True).start()

    def stop(self) -> None:
        """Begin no further round."""
        self._stopping.set()

    def _go_round(self) -> None:
        while not self._stopping.is_set():
            try:
                for stream, partitions in self._streams():
                    self.archive(stream, partitions)
            except Exception:
                log.exception("archiving failed")  # and goes on: logs must not stay behind unseen
            self._stopping.wait(ROUND_SECONDS)

    def archive(self, stream: str, partitions: int, *, flush: bool = False) -> None:
        """One round for one stream; with `flush` whatever there is."""
        name = topic(LOG, stream)
        for partition in range(partitions):
            try:
                reached = self._archiver.run(name, partition, flush=flush)
                self._reached.labels(stream, str(partition)).set(reached)
                self._trim(name, partition, reached)
            except HeadraceError as error:
                self._failures.labels(stream).inc()
                log.warning("not archived", topic=name, partition=partition, reason=str(error))

    def _trim(self, name: str, partition: int, reached: int) -> None:
        if not self._keep_records:
            return
        first, end = self._live.bounds(name, partition)
        below = min(reached, end - self._keep_records)
        if below > first:
            admin.delete_below(self._bootstrap, name, partition, below)
            log.info("trimmed", topic=name, partition=partition, first=below)
