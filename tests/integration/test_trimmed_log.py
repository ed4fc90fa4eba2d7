"""A log that Kafka has trimmed: with an archive the same bits as ever, without one an end that names what is gone."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.archive.archiver import Archiver, Closing
from headrace.archive.history import ArchivedHistory
from headrace.archive.reading import Archive
from headrace.contracts.topics import LOG, topic
from headrace.errors import Fatal, Transient
from headrace.kafka import admin
from headrace.kafka.history import KafkaHistory
from headrace.processor import Batch
from tests.integration.test_same_bits import (
    WAIT_SECONDS,
    caught_up,
    check,
    flight_log,
    publish,
    run_host,
)
from tests.reference import flights_model, replay

pytestmark = pytest.mark.broker

FLIGHTS = 3000


def trim(kafka: str, name: str, below: int) -> None:
    client = AdminClient({"bootstrap.servers": kafka})
    for future in client.delete_records([TopicPartition(name, 0, below)]).values():
        future.result(30)


def archived(
    kafka: str, name: str, folder: Path, kind: type[ArchivedHistory] = ArchivedHistory
) -> ArchivedHistory:
    """All of the log is in an archive, in several segments."""
    archive = Archive.at(folder.as_uri())
    end = Archiver(KafkaHistory(kafka), archive, Closing(records=700)).run(name, 0, flush=True)
    assert end == KafkaHistory(kafka).bounds(name, 0).end
    return kind(KafkaHistory(kafka), archive)


class Faltering(ArchivedHistory):
    """Is away now and then, and trims the log further while it is being read."""

    reads = 0
    kafka = ""

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        self.reads += 1
        if self.reads == 1:
            raise Transient("the archive is away")
        for number, batch in enumerate(super().read(topic, partition, start, end)):
            yield batch
            if self.reads == 2 and number == 1:
                trim(self.kafka, topic, end + 300)
                raise Transient("the archive is away again")


@pytest.mark.parametrize("faltering", [False, True])
def test_a_trimmed_log_without_snapshots_gives_the_same_bits(
    kafka: str, fresh_name: str, tmp_path: Path, faltering: bool
) -> None:
    values = flight_log(FLIGHTS)
    name = topic(LOG, fresh_name)
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    publish(kafka, fresh_name, values[: len(values) // 2])
    snapshots = tmp_path / "snapshots"
    run_host(kafka, fresh_name, snapshots, 500, lambda folded: folded >= len(values) // 2)
    publish(kafka, fresh_name, values[len(values) // 2 :])
    past = archived(kafka, name, tmp_path / "archive", Faltering if faltering else ArchivedHistory)
    if isinstance(past, Faltering):
        past.kafka = kafka
    trim(kafka, name, len(values) * 3 // 4)  # beyond what is committed, too
    assert any(snapshots.rglob("*"))
    shutil.rmtree(snapshots)
    run_host(kafka, fresh_name, snapshots, 500, lambda _: caught_up(kafka, fresh_name), history=lambda: past)
    check(kafka, fresh_name, replay(list(enumerate(values))[2:], flights_model(), WAIT_SECONDS))
    assert not isinstance(past, Faltering) or past.reads > 2


def test_everything_trimmed_is_read_from_the_archive(kafka: str, fresh_name: str, tmp_path: Path) -> None:
    values = flight_log(500)
    name = topic(LOG, fresh_name)
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    publish(kafka, fresh_name, values)
    past = archived(kafka, name, tmp_path / "archive")
    trim(kafka, name, len(values))
    run_host(
        kafka, fresh_name, tmp_path / "snapshots", 100, lambda folded: folded >= len(values), history=lambda: past
    )  # fmt: skip
    check(kafka, fresh_name, replay(list(enumerate(values))[2:], flights_model(), WAIT_SECONDS))


def test_without_an_archive_the_host_ends_and_names_what_is_gone(
    kafka: str, fresh_name: str, tmp_path: Path
) -> None:
    """It used to fold on from the oldest record left: another model, and nobody was told."""
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    publish(kafka, fresh_name, flight_log(60))
    trim(kafka, topic(LOG, fresh_name), 20)
    with pytest.raises(Fatal, match="offsets 0 to 19 are gone from Kafka and not in an archive"):
        run_host(kafka, fresh_name, tmp_path, 100, lambda _: False)


def test_trimming_that_overtakes_a_running_host_is_noticed(
    kafka: str, fresh_name: str, tmp_path: Path
) -> None:
    """The host is slow in its first batch; meanwhile Kafka drops what it has not fetched, and the archive has it."""
    values = flight_log(FLIGHTS)
    name = topic(LOG, fresh_name)
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    publish(kafka, fresh_name, values)
    past = archived(kafka, name, tmp_path / "archive")
    trimmed, opened = threading.Event(), threading.Event()

    def history() -> ArchivedHistory:
        opened.set()
        return past

    def slow(folded: int) -> bool:
        if folded and not trimmed.is_set():
            trim(kafka, name, len(values) - 10)
            trimmed.set()
        return folded >= len(values)

    run_host(
        kafka, fresh_name, tmp_path / "snapshots", 50, slow, history=history, snapshot_records=0,
        extra={"queued.min.messages": 1, "queued.max.messages.kbytes": 1, "max.partition.fetch.bytes": 20_000},
    )  # fmt: skip
    assert trimmed.is_set()
    assert opened.is_set()
    check(kafka, fresh_name, replay(list(enumerate(values))[2:], flights_model(), WAIT_SECONDS))
