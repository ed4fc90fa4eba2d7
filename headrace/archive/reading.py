"""An archive as it is read and extended: every entry held against the one before it, every segment against its digest.

Nothing is skipped: a range comes whole or `Unusable` names what is missing or damaged. Reading goes from entry to
entry by the exact offset, never by what a listing happens to show, so that a lost entry cannot pass for the chain's end
in the middle of a range.
"""

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from headrace.archive.chain import (
    ENTRIES,
    Entry,
    Link,
    Segment,
    checked,
    digest_of,
    entry_path,
    following,
    segment_path,
    start_of,
)
from headrace.archive.segment import read_segment
from headrace.archive.store import Store, open_store
from headrace.errors import Unusable
from headrace.history import Bounds, gone
from headrace.processor import Batch
from headrace.recovery import Place


class Archive:
    """The chains of all partitions in one store. Raises `Transient` while the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def at(cls, url: str) -> "Archive":
        """The archive that a URL names. Raises `Unusable` if it names none, or a package is missing."""
        return cls(open_store(url))

    def bounds(self, topic: str, partition: int) -> Bounds | None:
        """The offsets that the chain spans; None if there is no chain."""
        place = (topic, partition)
        starts = self._starts(place)
        if not starts:
            return None
        return Bounds(self._link(place, starts[0]).entry.first, self._link(place, starts[-1]).entry.end)

    def last(self, topic: str, partition: int, known: Link | None = None) -> Link | None:
        """The chain's last link; from `known` on, which saves the listing."""
        place = (topic, partition)
        if known is None:
            starts = self._starts(place)
            known = self._link(place, starts[-1]) if starts else None
        while known is not None:
            after = self._find(place, known.entry.end, known)
            if after is None:
                break
            known = after
        return known

    def links(self, topic: str, partition: int, start: int = 0) -> Iterator[Link]:
        """The chain from the entry that covers `start` on. Raises `Unusable` where it is damaged or has a hole."""
        place = (topic, partition)
        starts = self._starts(place)
        at = max((number for number in starts if number <= start), default=None)
        if at is None:
            if starts:
                raise Unusable(
                    f"archive of {topic}/{partition}: its first entry is missing, later ones are there"
                )
            return
        link = self._link(place, at)
        ahead = starts.index(at)
        yield link
        while after := self._find(place, link.entry.end, link):
            yield after
            link = after
            ahead += 1
        if ahead < len(starts) - 1:
            raise Unusable(
                f"archive of {topic}/{partition}: the entry for offset {link.entry.end} is missing, "
                f"later ones are there"
            )

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        """Every record with start <= offset < end, oldest first, in batches of at most `READ_RECORDS`.

        Raises `Unusable` unless the chain holds the whole range.
        """
        reached = start
        links = self.links(topic, partition, start)
        while reached < end:  # and no link is asked for that is not needed: a later one may be damaged
            link = next(links, None)
            if link is None or not link.entry.first <= reached < link.entry.end:
                raise Unusable(gone(topic, partition, reached, end))
            yield from self._records((topic, partition), link.entry, reached, end)
            reached = min(link.entry.end, end)

    def add(self, place: Place, last: Link | None, segment: Segment, written_at: int) -> Link | None:
        """Put a segment behind `last`; None if another archiver was there first (then nothing is changed)."""
        entry = following(last, segment, written_at)
        # The order is what makes a crash harmless: a segment without an entry is an orphan that nobody reads.
        self._store.put(_within(place, segment_path(entry)), segment.data)
        data = msgspec.json.encode(entry)
        if not self._store.create(_within(place, entry_path(entry.start)), data):
            return None
        return Link(entry, digest_of(data))

    def newest(self, place: Place, link: Link) -> tuple[int, bytes | None, bytes | None] | None:
        """The last record of a link: offset, key, value."""
        record = None
        for batch in self._records(place, link.entry, link.entry.first, link.entry.end):
            record = batch.offsets[-1], batch.keys[-1], batch.values[-1]
        return record

    def verify(self, topic: str, partition: int) -> Link | None:
        """Read a whole chain and all of its segments; its last link. Raises `Unusable` naming the first damage."""
        link = None
        for link in self.links(topic, partition):
            for _ in self._records((topic, partition), link.entry, link.entry.first, link.entry.end):
                pass
        return link

    def _records(self, place: Place, entry: Entry, start: int, end: int) -> Iterator[Batch]:
        where = _within(place, segment_path(entry))
        data = self._store.get(where)
        if data is None:
            raise Unusable(f"archive segment {where} is missing: its entry is there")
        for offsets, keys, values in read_segment(where, data, entry):
            low = sum(offset < start for offset in offsets) if offsets[0] < start else 0
            high = sum(offset < end for offset in offsets) if offsets[-1] >= end else len(offsets)
            if low < high:
                yield Batch(*place, offsets[low:high], keys[low:high], values[low:high])

    def _starts(self, place: Place) -> list[int]:
        names = self._store.names(_within(place, ENTRIES))
        starts = sorted(start for start in map(start_of, names) if start is not None)
        assert all(before < after for before, after in pairwise(starts))
        return starts

    def _link(self, place: Place, start: int) -> Link:
        link = self._find(place, start, None)
        if link is None:
            raise Unusable(f"archive entry {_within(place, entry_path(start))} was listed but is not there")
        return link

    def _find(self, place: Place, start: int, before: Link | None) -> Link | None:
        where = _within(place, entry_path(start))
        data = self._store.get(where)
        return None if data is None else checked(where, start, data, before)


def _within(place: Place, path: str) -> str:
    return f"{place[0]}/{place[1]}/{path}"
