"""The windows of one partition of a topic: which are open, which may still be revised, and the total of all.

Rows are counted into their windows a batch at a time, and windows into the total in the log's order: when a window
closes, and a late record when it comes. A late record also revises its window as long as that is kept: the
`revisable` newest windows that have closed are, as the bytes they were last told in, since few are looked at again.
"""

from collections.abc import Callable, Iterator
from typing import Any

from headrace.contracts.statistics import WindowSummary, decode_summary
from headrace.operators.tumbling import BEFORE_ALL_TIME, TumblingWindows
from services.monitor.domain import summaries
from services.monitor.domain.columns import Columns
from services.monitor.domain.counting import Counter, OutcomeCounter


class Ledger:
    """Counts runs of columns. make(start) is an empty summary; None stands for the total.

    Bounds: `open_windows` open windows, `revisable` closed ones, and what `take_changed` has not taken yet.
    """

    def __init__(
        self,
        make: Callable[[int | None], WindowSummary],
        length: int,
        lateness: int,
        open_windows: int,
        revisable: int,
    ) -> None:
        self._make = make
        self._revisable = revisable
        self.windows: TumblingWindows[WindowSummary] = TumblingWindows(
            length, lateness, open_windows, make, self._close
        )
        self.past = make(None)
        """Closed windows and late records; what is still open is added when the total is told."""
        self.kept: dict[int, bytes] = {}
        """Closed windows that may be revised, by start, as last told."""
        self._closing: dict[int, WindowSummary] = {}
        """Closed or revised since the last `take_changed`."""
        self._revising: dict[int, list[int]] = {}
        self._order: list[WindowSummary | list[int] | int] = []
        """What the total is made of, in the log's order: closed windows, late rows, a row that corrects an earlier."""

    def count(self, columns: Any, counter: Counter[Any]) -> None:
        """Count a run of records."""
        for window, rows in self._placed(columns):
            counter.count(columns, rows, window)
        for one in self._order:
            if isinstance(one, WindowSummary):
                summaries.merge(self.past, one)
            elif isinstance(one, list):
                counter.count(columns, one, self.past)
            elif isinstance(counter, OutcomeCounter):
                counter.correct(columns, one, self.past)
        for start, rows in self._revising.items():
            counter.count(columns, rows, self._closing[start])
            self._closing[start].revised += len(rows)
        self._order, self._revising = [], {}

    def total(self) -> WindowSummary:
        """Closed windows, late records and open windows, added up in the same order whatever the batches were."""
        total = self._make(None)
        summaries.merge(total, self.past)
        for start in sorted(self.windows.open):
            summaries.merge(total, self.windows.open[start])
        return total

    def take_changed(self) -> Iterator[tuple[WindowSummary, bool]]:
        """Windows that changed since the last call, and whether each is closed. Tell a closed one to `keep`."""
        _, touched = self.windows.take_changed()
        closing, self._closing = self._closing, {}
        for start in sorted(closing):
            yield closing[start], True
        for _, window in touched:
            yield window, False

    def keep(self, start: int, told: bytes) -> None:
        """A closed window has been told in these bytes."""
        if start in self.kept:
            self.kept[start] = told

    def _placed(self, columns: Columns) -> list[tuple[WindowSummary, list[int]]]:
        """Rows by window, in log order; on the way windows close, and late rows are noted."""
        windows, past, order = self.windows, self.past, self._order
        at, length = windows.at, windows.length
        corrections = set(columns.corrections)
        placed: dict[int, tuple[WindowSummary, list[int]]] = {}
        current: WindowSummary | None = None
        rows: list[int] = []
        for row, time in enumerate(columns.at):
            if time is None:
                self._undecodable()
                continue
            window = at(time)
            if window is None:
                past.late += 1
                if order and isinstance(order[-1], list):
                    order[-1].append(row)
                else:
                    order.append([row])
                self._revise(time - time % length, row)
            else:
                if window is not current:
                    current = window
                    rows = placed.setdefault(time - time % length, (window, []))[1]
                rows.append(row)
            if row in corrections:
                order.append(row)
        return list(placed.values())

    def _close(self, window: WindowSummary) -> None:
        assert window.start is not None
        self._order.append(window)
        self._closing[window.start] = window
        self.kept[window.start] = b""
        if len(self.kept) > self._revisable:
            del self.kept[min(self.kept)]

    def _revise(self, start: int, row: int) -> None:
        told = self.kept.get(start)
        if told is None:
            return
        if start not in self._closing:
            self._closing[start] = decode_summary(told)
        self._revising.setdefault(start, []).append(row)

    def _undecodable(self) -> None:
        """Count what is no event of its topic where the stream is now; before its first event, in the total."""
        now = self.windows.watermark
        window = self.windows.at(now) if now != BEFORE_ALL_TIME else None
        (self.past if window is None else window).undecodable += 1
