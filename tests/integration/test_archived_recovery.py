"""A log that Kafka no longer has whole: the shard is rebuilt from the archive, or not at all."""

import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace.archive.history import ArchivedHistory
from headrace.archive.reading import Archive
from headrace.contracts.topics import LOG, topic
from headrace.errors import Fatal, Transient
from headrace.kafka import admin
from headrace.kafka.history import KafkaHistory
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.registry.archiving import Archiving
from services.scoring.processor import ScoringProcessor
from tests.integration.test_same_bits import WAIT_SECONDS, check, flight_log, publish
from tests.reference import flights_model, replay

pytestmark = pytest.mark.broker

FLIGHTS = 3000
KEPT = 700


class Scoring:
    """A scoring host on a thread; `error` is what ended it."""

    def __init__(self, kafka: str, stream: str, folder: Path, archive: Archive | None) -> None:
        self.host = KafkaHost(
            HostSettings(kafka, f"group-{stream}", "one", snapshot_records=500, whole_log=True),
            ScoringProcessor,
            lambda: [topic(LOG, stream)],
            snapshots=SnapshotStore(folder, Keys(b"k" * 32)),
            history=(lambda: ArchivedHistory(KafkaHistory(kafka), archive)) if archive else None,
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.host.run()
        except BaseException as error:
            self.error = error

    def _lag(self, kafka: str, stream: str) -> int:
        try:
            return sum(admin.lag(kafka, f"group-{stream}", [topic(LOG, stream)]).values())
        except Transient:  # a fresh broker's first group
            return 1

    def until_scored(self, kafka: str, stream: str) -> None:
        deadline = time.monotonic() + 90
        while self._lag(kafka, stream):
            assert self.thread.is_alive(), self.error
            assert time.monotonic() < deadline
            time.sleep(0.2)
        self.host.stop()
        self.thread.join(30)
        assert self.error is None


def archiving(kafka: str, stream: str, archive: Archive, keep: int) -> CollectorRegistry:
    """Archive all there is and trim Kafka to the newest offsets."""
    metrics = CollectorRegistry()
    made = Archiving(
        kafka, archive, lambda: [(stream, 1)], lag_seconds=3600, keep_records=keep, metrics=metrics
    )
    made.archive(stream, 1, flush=True)
    assert metrics.get_sample_value("headrace_registry_archive_failures_total", {"stream": stream}) is None
    return metrics


def test_a_shard_without_snapshots_is_rebuilt_from_the_archive_to_the_same_bits(
    kafka: str, fresh_name: str, tmp_path: Path
) -> None:
    values = flight_log(FLIGHTS)
    half = len(values) // 2
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    archive = Archive.at(f"file://{tmp_path}/archive")
    publish(kafka, fresh_name, values[:half])
    Scoring(kafka, fresh_name, tmp_path / "first", archive).until_scored(kafka, fresh_name)
    publish(kafka, fresh_name, values[half:])
    metrics = archiving(kafka, fresh_name, archive, KEPT)
    labels = {"stream": fresh_name, "partition": "0"}
    assert metrics.get_sample_value("headrace_registry_archived_offset", labels) == len(values)
    first, end = admin.offset_bounds(kafka, topic(LOG, fresh_name), 0)
    assert (first, end) == (len(values) - KEPT, len(values))
    assert first > half  # also records that were never scored are in the archive alone

    # Its snapshots are gone: everything is relived, the rest is answered, partly from the archive, partly from Kafka.
    Scoring(kafka, fresh_name, tmp_path / "second", archive).until_scored(kafka, fresh_name)
    check(kafka, fresh_name, replay(list(enumerate(values))[2:], flights_model(), WAIT_SECONDS))

    # Without the archive it would be another model: it does not begin.
    lost = Scoring(kafka, fresh_name, tmp_path / "third", None)
    lost.thread.join(60)
    assert isinstance(lost.error, Fatal)
    assert f"offsets 0 to {first - 1} are gone" in str(lost.error)


def test_a_trimmed_log_that_the_archive_has_is_archived_and_trimmed_on(
    kafka: str, fresh_name: str, tmp_path: Path
) -> None:
    values = flight_log(600)
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    archive = Archive.at(f"file://{tmp_path}/archive")
    history = ArchivedHistory(KafkaHistory(kafka), archive)
    for part in range(0, len(values), 400):
        publish(kafka, fresh_name, values[part : part + 400])
        archiving(kafka, fresh_name, archive, 50)
    name = topic(LOG, fresh_name)
    assert admin.offset_bounds(kafka, name, 0)[0] == len(values) - 50
    read = [value for batch in history.read(name, 0, 0, len(values)) for value in batch.values]
    assert read == values
