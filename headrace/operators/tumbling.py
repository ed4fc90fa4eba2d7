"""Tumbling event-time windows with a watermark, allowed lateness, and a bound on how many are open.

The watermark is the largest event time seen. A window closes for good when the watermark has passed its end by the
allowed lateness, or when more than `limit` windows are open (then the oldest goes). A time that falls into a closed
window is late: `at` answers None and the caller decides. All of it depends on the order of times alone, so the same
log gives the same windows whatever the batches were; wall clocks have no part in it.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

BEFORE_ALL_TIME = -(1 << 62)


class TumblingWindows(Generic[T]):
    """Open windows by start. Times, `length` and `lateness` are milliseconds.

    make(start) builds a window's state; closed(state) is called the moment a window closes. Bounds: `limit` open
    windows, and what has closed since `take_changed` was last called.
    """

    def __init__(
        self,
        length: int,
        lateness: int,
        limit: int,
        make: Callable[[int], T],
        closed: Callable[[T], None] = lambda _: None,
    ) -> None:
        if length < 1 or lateness < 0 or limit < 1:
            raise ValueError(
                "a window has a length, lateness is not negative, and at least one window is open"
            )
        self.length = length
        self.lateness = lateness
        self.limit = limit
        self.open: dict[int, T] = {}
        self.watermark = BEFORE_ALL_TIME
        self.final_before = BEFORE_ALL_TIME
        """Windows that start before this are closed; a window's border once there was a record."""
        self._make = make
        self._on_closed = closed
        self._touched: dict[int, None] = {}
        self._closed: list[tuple[int, T]] = []
        self._start: int | None = None
        self._current: T | None = None
        self._next_close = BEFORE_ALL_TIME

    def at(self, time: int) -> T | None:
        """The open window that `time` falls into, made if need be; None if that window is closed (late)."""
        if time > self.watermark:
            self.watermark = time
            if time >= self._next_close:
                self._close_due()
        start = time - time % self.length
        if start == self._start:
            return self._current
        return self._switch(start)

    def take_changed(self) -> tuple[list[tuple[int, T]], list[tuple[int, T]]]:
        """What changed since the last call: windows that closed, and touched ones still open, each by start."""
        closed, self._closed = self._closed, []
        touched = [(start, self.open[start]) for start in sorted(self._touched)]
        self._touched = {}
        self._start = self._current = None
        return closed, touched

    def resume(self, open_windows: dict[int, T], watermark: int, final_before: int) -> None:
        """Continue from these windows, as `open`, `watermark` and `final_before` were after `take_changed`."""
        self.open = dict(sorted(open_windows.items()))
        self.watermark = watermark
        self.final_before = final_before
        self._touched = {}
        self._closed = []
        self._start = self._current = None
        self._next_close = BEFORE_ALL_TIME

    def _switch(self, start: int) -> T | None:
        window = self.open.get(start)
        if window is None:
            if start < self.final_before:
                return None
            if len(self.open) >= self.limit:
                oldest = min(self.open)
                if start < oldest:
                    self.final_before = oldest
                    return None
                self._close(oldest)
            window = self.open[start] = self._make(start)
        self._touched[start] = None
        self._start = start
        self._current = window
        return window

    def _close_due(self) -> None:
        """Called whenever the watermark passes a window's end plus the lateness, be there such a window or not."""
        due = self.watermark - self.lateness
        due -= due % self.length
        for start in sorted(start for start in self.open if start < due):
            self._close(start)
        self.final_before = max(self.final_before, due)
        self._next_close = due + self.length + self.lateness

    def _close(self, start: int) -> None:
        window = self.open.pop(start)
        self._closed.append((start, window))
        self._on_closed(window)
        self._touched.pop(start, None)
        self.final_before = max(self.final_before, start + self.length)
        if start == self._start:
            self._start = self._current = None
