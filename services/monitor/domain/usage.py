"""What models used, as scoring has reported it: for every stream the newest report under each key, and their sums.

Merging is idempotent and needs no order: of two reports with one key the later one wins, and sums are of integers. The
total is kept beside the windows, so it outlives those that have gone. Bounds: `streams_kept` streams, `windows_kept`
windows each; at the bound the oldest window goes.
"""

from bisect import insort
from collections.abc import Iterable

import msgspec

from headrace.contracts.usage import UsageReport, Used, decode_usage
from services.monitor.domain.summaries import MODELS_KEPT, OTHER

Place = tuple[int, int]
"""(partition, life)"""

SHARED = ""
"""In place of a model's name: what no model was charged with."""

ByModel = dict[str, Used]


class StreamUsage:
    """One stream's reports, by the monitor's own windows."""

    def __init__(self, windows_kept: int) -> None:
        self.starts: list[int] = []
        """Starts of the windows kept, rising."""
        self.total: ByModel = {}
        self._windows_kept = windows_kept
        self._windows: dict[int, dict[tuple[int, Place], UsageReport]] = {}

    def put(self, report: UsageReport, start: int) -> bool:
        """Take a report in under its window's start; False if it is older than what is there."""
        window = self._windows.get(start)
        if window is None:
            if len(self.starts) >= self._windows_kept:
                if start < self.starts[0]:
                    return False
                del self._windows[self.starts.pop(0)]
            window = self._windows[start] = {}
            insort(self.starts, start)
        key = (report.start, (report.partition, report.life))
        known = window.get(key)
        if known is not None:
            if known.number >= report.number:
                return False
            _add(self.total, [known], -1)
        window[key] = report
        _add(self.total, [report])
        return True

    def used(self, start: int) -> ByModel:
        """What was used in a window, over all partitions and lives. state_bytes: as last measured in each partition."""
        reports = self._windows.get(start, {})
        found: ByModel = {}
        _add(found, reports.values())
        newest: dict[tuple[int, str], tuple[int, int, int]] = {}
        for (begin, (partition, life)), report in reports.items():
            for name, used in report.models.items():
                state = (begin, life, used.state_bytes)
                newest[partition, name] = max(newest.get((partition, name), state), state)
        for name, used in found.items():
            used.state_bytes = sum(state[2] for (_, of), state in newest.items() if of == name)
        return found


class UsageTable:
    """All streams' reports, for windows of one length. A report on a shorter window counts where that begins."""

    def __init__(self, length_seconds: int, *, windows_kept: int = 10_000, streams_kept: int = 1_000) -> None:
        self.streams: dict[str, StreamUsage] = {}
        self.ignored = 0
        """Records that were no report, on longer windows, and streams beyond the bound."""
        self._length_seconds = length_seconds
        self._windows_kept = windows_kept
        self._streams_kept = streams_kept

    def apply(self, value: bytes | None) -> bool:
        """Merge one record of the usage topic; whether it changed anything. Never raises for a bad record."""
        if value is None:
            return False
        try:
            report = decode_usage(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.ignored += 1
            return False
        known = self.streams.get(report.stream)
        if report.length_seconds > self._length_seconds or (
            known is None and len(self.streams) >= self._streams_kept
        ):
            self.ignored += 1
            return False
        if known is None:
            known = self.streams[report.stream] = StreamUsage(self._windows_kept)
        return known.put(report, report.start - report.start % (self._length_seconds * 1000))


def _add(into: ByModel, reports: Iterable[UsageReport], sign: int = 1) -> None:
    """Add what was used, or take it back. Models beyond `MODELS_KEPT` are counted as `other`."""
    for report in reports:
        for name, used in (*report.models.items(), (SHARED, report.shared)):
            known = name if name in into or len(into) <= MODELS_KEPT else OTHER
            into.setdefault(known, Used()).add(used, sign)
