"""A log read from its archive and its topic as one: the archive below the topic's first offset, the topic from there.

The seam is where the topic begins, asked anew whenever it matters: trimming moves it while a read is running. A range
is taken from one of the two by offset, so what lies in both is read once; what lies in neither is refused.
"""

from collections.abc import Iterator

from headrace.archive.reading import Archive
from headrace.errors import Unusable
from headrace.history import Bounds, History
from headrace.processor import Batch


def with_archive(live: History, url: str) -> History:
    """The log behind `live` with the archive at `url` before it; `live` itself if `url` is empty."""
    return ArchivedHistory(live, Archive.at(url)) if url else live


class ArchivedHistory:
    """`headrace.history.History` over a live log and its archive."""

    def __init__(self, live: History, archive: Archive) -> None:
        self._live = live
        self._archive = archive

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""
        return self._live.partitions(topic)

    def bounds(self, topic: str, partition: int) -> Bounds:
        """From the archive's beginning, if it reaches the topic, to the topic's end."""
        live = self._live.bounds(topic, partition)
        held = self._archive.bounds(topic, partition) if live.first else None
        if held is None or held.end < live.first:
            return live
        return Bounds(min(held.first, live.first), live.end)

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        """See the protocol."""
        while start < end:
            seam = min(end, self._seam(topic, partition))
            if start < seam:
                yield from self._archive.read(topic, partition, start, seam)
                start = seam
            try:
                for batch in self._live.read(topic, partition, start, end):
                    yield batch
                    start = batch.offsets[-1] + 1
            except Unusable:
                if self._live.bounds(topic, partition).first <= start:
                    raise  # not overtaken by trimming: something else is wrong
                continue
            return

    def _seam(self, topic: str, partition: int) -> int:
        """The offset below which the archive is read."""
        return self._live.bounds(topic, partition).first


class ArchiveFirst(ArchivedHistory):
    """The same log, read from the archive as far as that reaches: to see whether it has what the topic has."""

    def _seam(self, topic: str, partition: int) -> int:
        held = self._archive.bounds(topic, partition)
        first = super()._seam(topic, partition)
        return first if held is None else max(held.end, first)
