"""Moves closed ranges of a log into its archive, exactly once, without a lock and without state of its own.

Where to go on is read from the archive: the end of the chain. A crash anywhere leaves the chain as it was or longer by
one entry; two archivers (one that was thought dead, say) race for the name of the next entry, and the loser finds it
taken and goes on behind it. A segment closes when it is full, or when the last one was written longer ago than the
archive may lag behind. One segment is held at a time, compressed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from headrace.archive.chain import Link, Segment
from headrace.archive.reading import Archive
from headrace.archive.segment import SegmentWriter
from headrace.errors import Unusable
from headrace.history import History
from headrace.recovery import Place


@dataclass(frozen=True, slots=True)
class Closing:
    """When a segment is closed: at so many records or raw bytes, or `seconds` after the entry before it."""

    records: int = 500_000
    bytes: int = 64 * 1024 * 1024
    seconds: float = 3600.0


class Archiver:
    """Extends the chains of an archive from a log. For one thread; any number of processes."""

    def __init__(
        self,
        live: History,
        archive: Archive,
        closing: Closing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._live = live
        self._archive = archive
        self._closing = closing or Closing()
        self._clock = clock
        self._started = clock()
        self._last: dict[Place, Link | None] = {}

    def run(self, topic: str, partition: int, *, flush: bool = False) -> int:
        """Archive what is full or due, all of it with `flush`; returns the offset up to which the archive reaches.

        Raises `Transient` if log or store are away: call again. Raises `Unusable` if the log no longer has what the
        archive lacks, if the archive is damaged at its end, or if it is another log's.
        """
        place = (topic, partition)
        known = place in self._last
        last = self._archive.last(topic, partition, self._last.get(place))
        if last is not None and not known:
            self._compare(place, last)
        self._last[place] = last
        bounds = self._live.bounds(topic, partition)
        start = last.entry.end if last else bounds.first
        since = last.entry.written_at / 1000 if last else self._started
        flush = flush or self._clock() - since >= self._closing.seconds
        # Offsets that carry no record count too: then a segment is looked for early and not found.
        while start < bounds.end and (flush or bounds.end - start >= self._closing.records):
            segment = self._segment(place, start, bounds.end, flush=flush)
            if segment is None:
                break
            added = self._archive.add(place, self._last[place], segment, int(self._clock() * 1000))
            last = added or self._archive.last(topic, partition, self._last[place])
            if last is None:
                raise Unusable(f"archive of {topic}/{partition}: its first entry came and went")
            self._last[place] = last
            start = last.entry.end
        return start if last else 0

    def _segment(self, place: Place, start: int, end: int, *, flush: bool) -> Segment | None:
        """The next segment from `start` on; None if there is nothing to close yet."""
        writer = SegmentWriter(self._closing.records, self._closing.bytes)
        for batch in self._live.read(*place, start, end):
            for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
                # A segment reaches to the next record, not only to its last one: the markers between belong to it, so
                # that a broker which drops them with the rest takes nothing that the archive lacks.
                if writer.full:
                    return writer.finish(start, offset)
                writer.add(offset, key, value)
        return writer.finish(start, end) if writer.records and (flush or writer.full) else None

    def _compare(self, place: Place, last: Link) -> None:
        """Refuse to extend the archive of a log that was lost and made anew under the same name."""
        topic, partition = place
        bounds = self._live.bounds(topic, partition)
        other = f"the archive of {topic}/{partition} is not this log's: "
        if bounds.end < last.entry.end:
            raise Unusable(f"{other}it reaches to {last.entry.end}, the log only to {bounds.end}")
        newest = self._archive.newest(place, last)
        if newest is None or newest[0] < bounds.first:
            return  # gone from the log: there is nothing left to compare
        for batch in self._live.read(topic, partition, newest[0], newest[0] + 1):
            if (batch.offsets[0], batch.keys[0], batch.values[0]) == newest:
                return
        raise Unusable(f"{other}they differ at offset {newest[0]}")
