"""What the user sees, and what a script reads.

People read standard error when `--json` is given and standard output otherwise; scripts read standard output only, one
JSON object or one a line. Colour and moving bars only where there is a terminal; elsewhere plain lines.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console

from headrace.errors import HeadraceError

Given = ParamSpec("Given")
Result = TypeVar("Result")

INTERRUPTED = 130
PLAIN_EVERY_SECONDS = 5.0

_DIGITS = re.compile(r"\d+")


class Output:
    """Standard output and error of one command. as_json: the answer is for a program."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False, soft_wrap=True)

    @property
    def moving(self) -> bool:
        """Whether there is a terminal to draw bars on."""
        return self.console.is_terminal

    def say(self, text: str = "", style: str | None = None) -> None:
        """A line for people."""
        self.console.print(text, style=style, markup=False)

    def answer(self, document: Mapping[str, Any]) -> None:
        """The one JSON object of this command; nothing without `--json`."""
        if self.as_json:
            write_line(document)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people: numbers to the right, nothing cut (a narrow terminal wraps the line)."""
        cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
        widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
        right = [bool(rows) and all(_is_number(row[index]) for row in rows) for index in range(len(columns))]
        for number, row in enumerate(cells):
            aligned = [
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right, strict=True)
            ]
            self.say("   ".join(aligned).rstrip(), style="bold" if number == 0 else None)

    def next(self, *lines: str) -> None:
        """What to do next."""
        self.say()
        for line in lines:
            self.say(line, style="cyan")

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show that something goes on; the body may change the text."""
        if not self.moving:
            self.say(text)
            said: dict[str, float] = {text: time.monotonic()}

            def plain(more: str) -> None:
                # Lines that differ in their numbers only are one thing that moves on: now and then is enough.
                kind, now = _DIGITS.sub("#", more), time.monotonic()
                if now - said.get(kind, -PLAIN_EVERY_SECONDS) >= PLAIN_EVERY_SECONDS:
                    said[kind] = now
                    self.say(more)

            yield plain
            return
        with self.console.status(text) as status:
            yield status.update


def write_line(document: Mapping[str, Any]) -> None:
    """One JSON line to standard output, at once."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def guarded(command: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorates a command: its errors become one plain message, Ctrl-C ends it cleanly, a closed pipe is no error."""

    @wraps(command)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except HeadraceError as error:
            fail(str(error), as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped", style="yellow")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader (head, less) has seen enough; a second failure at exit would only print a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return run


def fail(text: str, *, as_json: bool = False) -> NoReturn:
    """End the command with exit code 1, saying why."""
    if as_json:
        write_line({"error": text})
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="red", markup=False)
    raise typer.Exit(1)


def count(number: float) -> str:
    """12345 as `12,345`."""
    return f"{number:,.0f}"


def places(offsets: Mapping[Any, int] | None) -> str:
    """Offsets by partition: `0: 17, 1: 5`; nothing while they are not known."""
    return ", ".join(f"{partition}: {offset}" for partition, offset in (offsets or {}).items())


def duration(seconds: float) -> str:
    """Seconds for people: `3.2 s`, `2 min 05 s`, `1 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(bytes_: float) -> str:
    """Bytes for people: `12 MB`."""
    return f"{bytes_ / 1e9:.1f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:.0f} MB"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"
    return str(value)
