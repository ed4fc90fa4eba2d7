"""The windowed tables: for every stream the newest summary under each key, and what they add up to.

Merging is idempotent: of two summaries with one key the one further along wins, so redelivery, replay and records of
aborted transactions do no harm. Summaries are kept as the bytes they came in and decoded when asked for, as most are
never looked at. Bounds: `streams_kept` streams, `windows_kept` windows each; at the bound the oldest window goes.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec

from headrace.contracts.statistics import ContractFacts, Kind, WindowSummary, decode_summary
from services.monitor.domain.estimating import Estimator
from services.monitor.domain.summaries import merge

PARTITIONS_KEPT = 1024
"""As many as a contract may declare."""

Part = tuple[Kind, int]
"""(kind, partition)"""


class Stored(NamedTuple):
    """A summary as it came, and how far along it is."""

    through_offset: int
    value: bytes


class Applied(NamedTuple):
    """What a summary changed: the stream, the kind, and the window's start (None: the total)."""

    stream: str
    kind: Kind
    partition: int
    start: int | None


class StreamTable:
    """One stream's windows and totals."""

    def __init__(self, length_seconds: int, windows_kept: int) -> None:
        self.length_seconds = length_seconds
        self.windows_kept = windows_kept
        self.totals: dict[Part, WindowSummary] = {}
        self.starts: list[int] = []
        """Starts of the windows kept, rising."""
        self.estimator = Estimator(self)
        self._windows: dict[int, dict[Part, Stored]] = {}

    @property
    def contract(self) -> ContractFacts | None:
        """The newest contract that any partition's log has shown."""
        found: ContractFacts | None = None
        for (kind, _), total in self.totals.items():
            facts = total.contract
            if kind == "log" and facts is not None and (found is None or facts.version > found.version):
                found = facts
        return found

    def watermark(self) -> int | None:
        """The largest event time that any partition has seen; refusals have their own time."""
        seen = [total.watermark for (kind, _), total in self.totals.items() if kind != "rejected"]
        return max((at for at in seen if at is not None), default=None)

    def put(self, summary: WindowSummary, value: bytes) -> bool:
        """Take a summary in; False if it is older than what is there, or than every window kept."""
        part: Part = (summary.kind, summary.partition)
        start = summary.start
        if start is None:
            known = self.totals.get(part)
            if known is not None and known.through_offset > summary.through_offset:
                return False
            self.totals[part] = summary
            return True
        window = self._windows.get(start)
        if window is None:
            if len(self.starts) >= self.windows_kept:
                if start < self.starts[0]:
                    return False
                oldest = self.starts.pop(0)
                del self._windows[oldest]
                self.estimator.changed(oldest)
            window = self._windows[start] = {}
            insort(self.starts, start)
        stored = window.get(part)
        if stored is not None and stored.through_offset > summary.through_offset:
            return False
        window[part] = Stored(summary.through_offset, value)
        if summary.kind == "outcomes":
            self.estimator.changed(start)
        return True

    def parts(self, start: int, kind: Kind | None = None) -> Iterator[WindowSummary]:
        """The summaries of one window, in order of kind and partition."""
        for part, stored in sorted(self._windows.get(start, {}).items()):
            if kind is None or part[0] == kind:
                yield decode_summary(stored.value)

    def merged(self, start: int, kind: Kind | None = None) -> WindowSummary:
        """One window over all partitions (and, without `kind`, all kinds)."""
        return _added_up(self.parts(start, kind), self.length_seconds, start)

    def merged_over(self, starts: Sequence[int], kind: Kind) -> WindowSummary:
        """Some windows, rising, over all partitions."""
        parts = (part for start in starts for part in self.parts(start, kind))
        return _added_up(parts, self.length_seconds, starts[0] if starts else 0)

    def total(self) -> WindowSummary:
        """Everything since the logs began, over all partitions and kinds."""
        return _added_up((total for _, total in sorted(self.totals.items())), self.length_seconds, None)

    def between(self, start: int, end: int) -> list[int]:
        """Starts of the windows kept in [start, end)."""
        return self.starts[bisect_left(self.starts, start) : bisect_left(self.starts, end)]

    def final_before(self, kind: Kind, silent: Collection[int] = ()) -> int | None:
        """Windows that start before this are closed in every partition; None if nothing is known to be.

        silent: partitions that have said nothing for so long that they hold nobody back. Partitions that the contract
        promises count even before their first record.
        """
        known = {partition: total for (of, partition), total in self.totals.items() if of == kind}
        contract = self.contract
        promised = range(contract.partitions) if contract is not None else ()
        waited_for = [partition for partition in {*promised, *known} if partition not in silent]
        if not waited_for:
            edges = [total.final_before for total in known.values() if total.final_before is not None]
            return max(edges, default=None)
        slowest: int | None = None
        for partition in waited_for:
            total = known.get(partition)
            if total is None or total.final_before is None:
                return None
            slowest = total.final_before if slowest is None else min(slowest, total.final_before)
        return slowest


class Tables:
    """All streams' tables, for windows of one length; summaries of other lengths are somebody else's."""

    def __init__(self, length_seconds: int, *, windows_kept: int = 10_000, streams_kept: int = 1_000) -> None:
        self.length_seconds = length_seconds
        self.streams: dict[str, StreamTable] = {}
        self.ignored = 0
        """Records that were no summary, and streams and partitions beyond the bounds."""
        self._windows_kept = windows_kept
        self._streams_kept = streams_kept

    def apply(self, value: bytes | None) -> Applied | None:
        """Merge one record of the statistics topic. None if it changed nothing; never raises for a bad record."""
        if value is None:
            return None
        try:
            summary = decode_summary(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.ignored += 1
            return None
        if summary.length_seconds != self.length_seconds:
            return None
        if not 0 <= summary.partition < PARTITIONS_KEPT:
            self.ignored += 1
            return None
        table = self.streams.get(summary.stream)
        if table is None:
            if len(self.streams) >= self._streams_kept:
                self.ignored += 1
                return None
            table = self.streams[summary.stream] = StreamTable(self.length_seconds, self._windows_kept)
        if not table.put(summary, value):
            return None
        return Applied(summary.stream, summary.kind, summary.partition, summary.start)


def _added_up(parts: Iterator[WindowSummary], length_seconds: int, start: int | None) -> WindowSummary:
    """The sum; kind and partition mean nothing in it. closed: every part is."""
    total = WindowSummary("", "log", -1, length_seconds, start=start, closed=True)
    for part in parts:
        total.stream = part.stream
        total.closed = total.closed and part.closed
        merge(total, part)
    return total
