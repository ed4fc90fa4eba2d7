"""An explanation as one drawing: the course of what moved, what carries the loss, histograms before and after.

Standalone SVG, no script, light and dark. Plots are those of the what-if page (`headrace.replay.plots`), which escapes
whatever strangers have named.
"""

from collections.abc import Sequence
from html import escape

from headrace.contracts.times import to_text
from headrace.replay import plots
from services.monitor.domain.why.explanation import Explanation
from services.monitor.domain.why.parts import Part
from services.monitor.domain.why.shifts import Change
from services.monitor.domain.why.subject import Block

GAP = 28
HISTOGRAMS = 6
PARTS = 10
WIDEST = 90
"""Of a pair of bars."""
STYLE = """
svg { --paper: #fbfaf8; --ink: #1d2127; --quiet: #626b76; --rule: #e0ddd6; --was: #8a8f98; --is: #c4570a;
  --bad: #b3261e; --good: #18794e; font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #14171b; --ink: #e8e6e1; --quiet: #9aa3ae; --rule: #2d333b;
  --was: #8d949e; --is: #ff9a52; --bad: #ff8a80; --good: #4cc38a; } }
.paper { fill: var(--paper); } text { fill: var(--quiet); font-size: 12px; } text.name { fill: var(--ink); }
text.title { font-weight: 600; } text.head { fill: var(--ink); font-size: 15px; font-weight: 600; }
.grid { stroke: var(--rule); } .zero { stroke: var(--ink); }
.stroke { fill: none; stroke: currentColor; stroke-width: 2; }
.dot, .interval circle { fill: currentColor; } .quiet.dot { opacity: 0; }
.c0 { color: var(--is); } .h { color: var(--was); }
.worse { color: var(--bad); } .better { color: var(--good); } .was { fill: var(--was); } .is { fill: var(--is); }
"""


def draw(found: Explanation) -> str:
    """The drawing, `image/svg+xml`."""
    drift = found.drift
    whose = f" of {drift.model}@{drift.version}" if drift.model else ""
    title = f"{drift.kind} drift of {drift.subject}{whose} on {drift.stream}: {found.advice.action}"
    drawn = [_course(found.meaning, found.course)]
    if found.loss is not None:
        if found.loss.course is not None:
            drawn.append(_course(f"{found.loss.change.name.replace('_', ' ')} (mean)", found.loss.course))
        if found.loss.parts:
            drawn.append(_parts(found.loss.parts))
    drawn += [_histogram(change) for change in found.columns if change.histogram][:HISTOGRAMS]
    placed, top = [], 56
    for svg, height in drawn:
        placed.append(svg.replace("<svg ", f'<svg y="{top}" width="{plots.WIDTH}" height="{height}" ', 1))
        top += height + GAP
    head = plots.shortened(title, 88)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {plots.WIDTH} {top}" role="img">'
        f"<style>{STYLE}</style><title>{escape(title)}</title>"
        f'<rect class="paper" width="{plots.WIDTH}" height="{top}"/>'
        f'<text class="head" x="8" y="22">{escape(head)}</text>'
        f'<text x="8" y="42">{escape(plots.shortened(found.advice.reason, 105))}</text>{"".join(placed)}</svg>'
    )


def _course(meaning: str, blocks: Sequence[Block]) -> tuple[str, int]:
    """Grey before the change, in colour from it on."""
    numbered = list(enumerate(blocks))
    x = plots.linear([0.0, float(len(blocks))], "records, in blocks", label=_at(blocks), whole=True)
    y = plots.linear([block.value for block in blocks if block.value is not None], meaning)
    lines = [
        plots.Line(name, style, [(at + 0.5, block.value) for at, block in numbered if block.after is after])
        for name, style, after in (("before", "h", False), ("since", "c0", True))
    ]
    return plots.chart(meaning, x, y, lines), plots.HEIGHT


def _at(blocks: Sequence[Block]) -> plots.Label:
    def label(place: float) -> str:
        block = blocks[min(max(int(place), 0), len(blocks) - 1)]
        try:
            return to_text(block.at // 1000 * 1000)[:16]
        except OverflowError:
            return f"offset {block.offset}"

    return label


def _parts(parts: Sequence[Part]) -> tuple[str, int]:
    rows = [
        (
            f"{part.how}: {part.field} {part.cell}", part.carried, part.carried - 2 * part.error,
            part.carried + 2 * part.error, "worse" if part.carried > 0 else "better",
        )
        for part in parts[:PARTS]
    ]  # fmt: skip
    return plots.intervals("what carries the change of the loss", rows, "of the mean loss"), 34 * len(
        rows
    ) + 44


def _histogram(change: Change) -> tuple[str, int]:
    """Shares before (grey) and after (coloured), a pair of bars for each bin."""
    height, base = 150, 118
    sizes = [max(1, sum(getattr(one, side) for one in change.histogram)) for side in ("before", "after")]
    shares = [(one.name, one.before / sizes[0], one.after / sizes[1]) for one in change.histogram]
    most = max(max(pair[1:]) for pair in shares) or 1.0
    wide = min(WIDEST, (plots.WIDTH - plots.LEFT - plots.RIGHT) / len(shares))
    parts = [f'<text class="head" x="{plots.LEFT}" y="14">{escape(plots.shortened(change.name, 60))}</text>']
    for place, (name, *pair) in enumerate(shares):
        left = plots.LEFT + place * wide
        for at, (style, share) in enumerate(zip(("was", "is"), pair, strict=True)):
            tall = share / most * (base - 26)
            parts.append(
                f'<rect class="{style}" x="{left + at * wide * 0.42:.1f}" y="{base - tall:.1f}"'
                f' width="{wide * 0.4:.1f}" height="{tall:.1f}"><title>{escape(name)}: {share:.1%}</title></rect>'
            )
        short = escape(plots.shortened(name, max(3, int(wide / 7))))
        parts.append(f'<text x="{left + wide * 0.4:.1f}" y="{base + 16}" text-anchor="middle">{short}</text>')
    label = escape(f"{change.name} before and since")
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {plots.WIDTH} {height}" role="img" aria-label="{label}">{inside}</svg>', height
