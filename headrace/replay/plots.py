"""Plots as SVG text: small pure functions from numbers to a drawing, for pages that need no script and no network.

Colours, strokes and fonts come from the style sheet of the page by class (`c0` to `c7` for series, `h` for what
happened), so light, dark and print are one drawing. Every plot has a title that is read out and, where points can be
pointed at, a tooltip. Whatever is written into a drawing is escaped here: names are the work of strangers.
"""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 24, 36
COLOURS = 8
LARGEST = 1e100
"""What is further out is held at the border."""
SMALLEST = 1e-90
"""What is nearer to nought is nought."""
SMALLEST_SPREAD = 1e-9
"""Relative; what differs less is drawn as one value."""

Point = tuple[float, float]
Label = Callable[[float], str]
Scale = Callable[[float], float]


class Line(NamedTuple):
    """One series. points: (x, y), y None where there is a gap; style: its CSS classes; hint: what a point says."""

    name: str
    style: str
    points: Sequence[tuple[float, float | None]]
    hint: Callable[[float, float], str] | None = None


class Axis(NamedTuple):
    """From low to high, with a word below or beside; ticks: where to draw lines; label: how to write them."""

    low: float
    high: float
    title: str
    ticks: Sequence[float]
    label: Label


def number(value: float) -> str:
    """A figure as people write it: 0.25, 12,345, 1.2e+09."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
        return text.replace("-", "\N{MINUS SIGN}")
    return f"{value:.3g}"


def linear(values: Sequence[float], title: str, *, label: Label = number, whole: bool = False) -> Axis:
    """An axis around values with round ticks; whole: exactly from the first to the last value."""
    finite = [min(max(value, -LARGEST), LARGEST) for value in values if isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    size = max(abs(low), abs(high))
    if high - low <= SMALLEST_SPREAD * size or size < SMALLEST:
        around = 0.05 * size if size >= SMALLEST else 1.0
        low, high = low - around, high + around
    step = _step((high - low) / 5)
    if not whole:
        low, high = floor(low / step) * step, ceil(high / step) * step
    first = ceil(low / step - 1e-9)
    ticks = [place * step for place in range(first, floor(high / step + 1e-9) + 1)]
    return Axis(low, high, title, ticks, label)


def unit(title: str) -> Axis:
    """From 0 to 1, in percent."""
    return Axis(0.0, 1.0, title, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], lambda value: f"{value:.0%}")


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], *, diagonal: bool = False) -> str:
    """Lines over common axes. diagonal: the line on which x = y, thin."""
    across, up = _scale(x, LEFT, WIDTH - RIGHT), _scale(y, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y, across, up)]
    if diagonal:
        parts.append(_path([(across(0), up(0)), (across(1), up(1))], "diagonal"))
    for line in lines:
        parts.append(f'<g class="line {escape(line.style)}">')
        for run in _runs(line.points):
            placed = [(across(at), up(min(max(value, y.low), y.high))) for at, value in run]
            if len(placed) > 1:
                parts.append(_path(placed, "stroke"))
            parts += [
                _dot(*place, line, *point, alone=len(placed) == 1)
                for place, point in zip(placed, run, strict=True)
                if line.hint or len(placed) == 1
            ]
        parts.append("</g>")
    return _svg(title, parts)


def bars(title: str, groups: Sequence[tuple[str, float]], x_title: str) -> str:
    """How many, by window: thin bars over an axis from 0."""
    y = linear([0.0, *(value for _, value in groups)], x_title)
    height = 110
    up = _scale(y, height - 20, 8)
    wide = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    parts = []
    for tick in (y.ticks[0], y.ticks[-1]):
        parts.append(_text(LEFT - 6, up(tick) + 4, y.label(tick), "end"))
    for place, (name, value) in enumerate(groups):
        top = up(value)
        parts.append(
            f'<rect class="bar" x="{LEFT + place * wide:.1f}" y="{top:.1f}" width="{max(0.5, wide - 1):.1f}" '
            f'height="{height - 20 - top:.1f}"><title>{escape(name)}: {escape(number(value))}</title></rect>'
        )
    parts.append(_text(WIDTH - RIGHT, height - 4, x_title, "end", "title"))
    return _svg(title, parts, height)


def intervals(
    title: str, rows: Sequence[tuple[str, float, float | None, float | None, str]], unit_name: str
) -> str:
    """Means with their intervals beside nought. rows: (name, mean, low, high, CSS class)."""
    values = [0.0]
    for _, mean, low, high, _ in rows:
        values += [value for value in (mean, low, high) if value is not None]
    x = linear(values, unit_name)
    row, left = 34, 210
    height = row * len(rows) + 44
    across = _scale(x, left, WIDTH - RIGHT - 10)
    parts = []
    for tick in x.ticks:
        parts.append(_rule(across(tick), 6, across(tick), height - 38, "zero" if tick == 0 else "grid"))
        parts.append(_text(across(tick), height - 24, x.label(tick), "middle"))
    for place, (name, mean, low, high, style) in enumerate(rows):
        y = 6 + row * place + row / 2
        parts.append(_text(left - 12, y + 4, shortened(name, 30), "end", "name"))
        parts.append(
            f'<g class="interval {escape(style)}"><title>{escape(name)}: {escape(number(mean))}</title>'
        )
        if low is not None and high is not None:
            parts.append(_rule(across(low), y, across(high), y, "stroke"))
        parts.append(f'<circle cx="{across(mean):.1f}" cy="{y:.1f}" r="5"/></g>')
    parts.append(_text(WIDTH - RIGHT, height - 6, unit_name, "end", "title"))
    return _svg(title, parts, height)


def shortened(text: str, most: int) -> str:
    """With an ellipsis where it is too long to be drawn."""
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


# -- pieces -----------------------------------------------------------------------------------------------------------


def _svg(title: str, parts: Sequence[str], height: int = HEIGHT) -> str:
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{inside}</svg>"
    )


def _grid(x: Axis, y: Axis, across: Scale, up: Scale) -> list[str]:
    parts = []
    for tick in y.ticks:
        parts.append(_rule(LEFT, up(tick), WIDTH - RIGHT, up(tick), "grid"))
        parts.append(_text(LEFT - 6, up(tick) + 4, y.label(tick), "end"))
    for place, tick in enumerate(x.ticks):
        anchor = "end" if place == len(x.ticks) - 1 else "middle"
        parts.append(_rule(across(tick), HEIGHT - BOTTOM, across(tick), HEIGHT - BOTTOM + 4, "grid"))
        parts.append(_text(across(tick), HEIGHT - BOTTOM + 16, x.label(tick), anchor))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 2, x.title, "end", "title"))
    parts.append(_text(4, 10, y.title, "start", "title"))
    return parts


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[Point]]:
    """What lies between gaps."""
    runs: list[list[Point]] = [[]]
    for at, value in points:
        if value is None or not isfinite(value):
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run for run in runs if run]


def _dot(x: float, y: float, line: Line, at: float, value: float, *, alone: bool) -> str:
    said = line.hint(at, value) if line.hint else number(value)
    style = "dot" if alone else "dot quiet"
    title = f"{line.name}: {said}"
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(title)}</title></circle>'


def _path(points: Sequence[Point], style: str) -> str:
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{steps}"/>'


def _rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _scale(axis: Axis, begin: float, end: float) -> Scale:
    spread = (axis.high - axis.low) or 1.0
    return lambda value: begin + (value - axis.low) / spread * (end - begin)


def _step(rough: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power: float = 10.0 ** floor(log10(rough))
    return next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= rough * 0.999)
