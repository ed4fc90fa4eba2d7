"""Progress of long work: a moving bar on a terminal, a plain line every few seconds elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from headrace.cli.output import Output, count, duration

PLAIN_EVERY_SECONDS = 5.0
RATE_SECONDS = 5.0
WIDE_COLUMNS = 110
"""From this width on there is a bar beside the numbers; below, the numbers need the room."""


class Bar:
    """Counts events towards a total (None: unknown). `note` is what stands behind the numbers, e.g. a live metric."""

    def __init__(self, output: Output, title: str, total: int | None) -> None:
        self._output = output
        self._title = title
        self.total = total
        self._started = time.monotonic()
        self._said = self._started
        self._marks: list[tuple[float, int]] = [(self._started, 0)]
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if self._output.moving:
            wide = self._output.console.width >= WIDE_COLUMNS
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                *([BarColumn(bar_width=24)] if wide else []),
                TextColumn("{task.fields[text]}"),
                console=self._output.console,
                refresh_per_second=8,
            )
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=self.total, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def start_at(self, done: int) -> None:
        """Say that the work did not begin at nought, so that the rate is of what is done now."""
        self._marks = [(time.monotonic(), done)]

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` events are through."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and self._marks[0][0] < now - RATE_SECONDS:
            del self._marks[0]
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=self.total, text=self._text(done, note))
        elif now - self._said >= PLAIN_EVERY_SECONDS:
            self._said = now
            self._output.say(f"{self._title}: {self._text(done, note)}")

    def _text(self, done: int, note: str) -> str:
        of = f" of {count(self.total)}" if self.total else ""
        parts = [f"{count(done)}{of}"]
        rate = self._rate()
        if rate > 0:
            parts.append(f"{count(rate)}/s")
            if self.total and self.total > done:
                parts.append(f"{duration((self.total - done) / rate)} left")
        return " · ".join([*parts, *([note] if note else [])])

    def _rate(self) -> float:
        (first, before), (last, now) = self._marks[0], self._marks[-1]
        return (now - before) / (last - first) if last > first else 0.0
