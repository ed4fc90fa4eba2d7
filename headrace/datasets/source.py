"""Where datasets are read from: a log's history, the archive in it, and when the broker wrote what it still has."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from headrace.archive.history import ArchivedHistory
from headrace.archive.reading import Archive
from headrace.contracts.left_out import Below
from headrace.fold.edits import leaving_out
from headrace.fold.log import decode
from headrace.history import History
from headrace.kafka.history import KafkaHistory
from headrace.processor import Batch


class Written(History, Protocol):
    """A history that knows when its records were written: the live log does, of what it still holds."""

    def written_ms(self, topic: str, partition: int, offset: int) -> int | None:
        """When the first record at or behind an offset was written; None: there is none."""
        ...

    def place_at(self, topic: str, partition: int, ms: int) -> int:
        """Offset of the first record that was written at a time or later; the end if there is none."""
        ...


class Source(NamedTuple):
    """live: the log as it runs. archive: None, there is none. written: the live log, if it knows when; else None."""

    live: History
    archive: Archive | None = None
    written: Written | None = None

    @classmethod
    def of(cls, bootstrap: str, archive: str) -> "Source":
        """Kafka, and the archive at a URL; "": none."""
        live = KafkaHistory(bootstrap)
        return cls(live, Archive.at(archive) if archive else None, live)

    @property
    def history(self) -> History:
        """The log as everybody reads it: from the archive what Kafka no longer has."""
        return self.live if self.archive is None else ArchivedHistory(self.live, self.archive)


def belonging(
    batches: Iterator[Batch],
    left_out: Sequence[Below],
    partition: int,
    told: Callable[[int], None] = lambda _: None,
) -> Iterator[Batch]:
    """The records that belong: not the observations and labels left out. told: how many those were, now and then."""
    if not left_out:
        yield from batches
        return
    edit = leaving_out(left_out, partition)
    for batch in batches:
        records, offsets, _ = decode(batch.offsets, batch.values)
        _, kept = edit(records, offsets)
        if len(kept) == len(offsets):
            yield batch
            continue
        gone = set(offsets).difference(kept)
        told(len(gone))
        rows = [
            row for row in zip(batch.offsets, batch.keys, batch.values, strict=True) if row[0] not in gone
        ]
        if rows:
            yield Batch(batch.topic, batch.partition, *zip(*rows, strict=True))
