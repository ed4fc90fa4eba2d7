"""How much each column has changed: sizes beside what chance does, histograms, and whether it looks broken.

A change of the world moves values about; what breaks at the source leaves traces of another sort: values are missing,
are none that were ever seen, or are one and the same from then on. Those are looked at by themselves. A field that
always moves on (a date, a counter, a number that is new with every record) has values it never had as a habit, so it is
held against that habit.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from services.monitor.domain.columns import Texts
from services.monitor.domain.drift import cells, effects
from services.monitor.domain.drift.arrays import Floats
from services.monitor.domain.drift.effects import Effect
from services.monitor.domain.why.chance import Side, limit, shares_apart, side, standardised
from services.monitor.domain.why.sorting import OUTSIDE, UNSEEN, Sorted, sort_numbers, sort_texts
from services.monitor.domain.why.stretch import Flags

Sort = Literal["feature", "aside", "score", "answer", "label", "label_delay"]
Broken = Literal["missing", "outside", "unseen", "stuck"]

FEWEST = 30
"""Records on each side, with which a column is compared."""
BINS = 16
"""Of a histogram of numbers; of texts the most frequent, and the others together."""
TAIL = 0.005
"""The ends of a histogram gather this share of the values each."""
NOTABLE: dict[Broken, float] = {"missing": 0.005, "outside": 0.02, "unseen": 0.01}
"""Shares below which it is not called broken, however sure it is that they grew."""
CLEARLY = 0.25
"""Of the range of what was before: so far beyond it a number is not just a large one."""
INDEPENDENT = 64.0
ELSEWHERE = 3.0
"""If what was before is worth fewer independent records (a day of weather), it does not show what the field does: it is
not stuck then, and only a number that lies so many times the whole range beyond is outside.
"""
STUCK = 0.99
"""Share of one value, of what had many, with which a field is stuck."""


class Bin(msgspec.Struct, frozen=True):
    """Counts of a range or a value."""

    name: str
    before: int
    after: int


class Change(msgspec.Struct, frozen=True):
    """A column before and after.

    before, after: means, None of texts. counts: values. missing_*, new_after: shares of the records (new: outside of
    all that was, or never seen). strength: standard errors that the cells lie from no change at all; beyond `sure`, it
    is beyond chance for the largest of all columns. broken: how it looks broken, "" if it does not.
    """

    name: str
    sort: Sort
    before: float | None
    after: float | None
    before_count: int
    after_count: int
    missing_before: float
    missing_after: float
    new_after: float
    effects: list[Effect]
    strength: float
    sure: bool
    broken: Broken | Literal[""] = ""
    histogram: list[Bin] = []


class Column(msgspec.Struct, frozen=True):
    """Values of one column: numbers (NaN: missing) or texts (None: missing)."""

    sort: Sort
    numbers: Floats | None = None
    texts: Texts | None = None


def cut(columns: Mapping[str, Column], after: Flags) -> dict[str, Sorted]:
    """Each column's cells."""
    return {
        name: sort_numbers(column.numbers, after)
        if column.numbers is not None
        else sort_texts(column.texts or (), after)
        for name, column in columns.items()
    }


def compare(
    columns: Mapping[str, Column], sorted_in: Mapping[str, Sorted], after: Flags, *, shown: int, first: str
) -> list[Change]:
    """How each column has changed, the most first; `first` and the `shown` most changed come with a histogram."""
    found = [
        change
        for name, column in columns.items()
        if (change := _compare(name, column, sorted_in[name], after, len(columns))) is not None
    ]
    found.sort(key=lambda one: (one.name != first, -one.strength))
    return [
        msgspec.structs.replace(one, histogram=histogram(columns[one.name], after))
        if place < shown or one.name == first
        else one
        for place, one in enumerate(found)
    ]


def _compare(name: str, column: Column, one: Sorted, after: Flags, looks: int) -> Change | None:
    counted = _counted(column, one)
    codes, late = one.codes[counted], after[counted]
    zeros = np.zeros(len(codes))
    sides = side(codes[~late], zeros[~late], cells.COUNT), side(codes[late], zeros[late], cells.COUNT)
    first, second = sides
    if min(first.total, second.total) < FEWEST:
        return None
    values = np.arange(cells.COUNT) != cells.MISSING
    inner = first.counts[values], second.counts[values]
    held = first.counts + second.counts > 0
    dispersion = _dispersion(first, second, held)
    whole = effects.chi_square(first.counts, second.counts)
    strength = standardised(whole.size / dispersion, int(held.sum()) - 1)
    means = (
        (None, None)
        if column.numbers is None
        else tuple(_mean(column.numbers[counted & (after == flag)]) for flag in (False, True))
    )
    return Change(
        name, column.sort, means[0], means[1], int(inner[0].sum()), int(inner[1].sum()),
        float(first.shares[cells.MISSING]), float(second.shares[cells.MISSING]),
        _new(one, second), _effects(inner, one, values) if min(map(np.sum, inner)) >= 1 else [], strength,
        bool(strength > limit(looks)), _broken(column, one, sides, dispersion, limit(4 * looks), after & counted),
    )  # fmt: skip


def _counted(column: Column, one: Sorted) -> Flags:
    """The records that are about the column: a label that is not known yet is not missing, a feature is."""
    if column.sort in ("feature", "aside"):
        return np.ones(len(one.codes), bool)
    known: Flags = one.codes != cells.MISSING
    return known


def _effects(inner: tuple[Floats, Floats], one: Sorted, values: Flags) -> list[Effect]:
    before, after = inner
    found = [effects.population_stability_index(before, after), effects.chi_square(before, after)]
    if one.middles is None:
        return found
    return [
        effects.kolmogorov_smirnov(before, after),
        *found,
        effects.wasserstein(before, after, one.middles[values].tolist()),
    ]


def _dispersion(first: Side, second: Side, held: Flags) -> float:
    """How much more the shares vary than those of independent records (Rao and Scott), 1 at least."""
    blocked, alone = shares_apart(first, second)
    return max(1.0, float(blocked[held].sum() / max(alone[held].sum(), 1e-300)))


def _new(one: Sorted, second: Side) -> float:
    new = [place for place, name in enumerate(one.names) if name in (OUTSIDE, UNSEEN)]
    return float(second.shares[new].sum())


def _broken(
    column: Column, one: Sorted, sides: tuple[Side, Side], dispersion: float, far: float, after: Flags
) -> Broken | Literal[""]:
    """Whether it looks broken, and how."""
    if column.sort not in ("feature", "aside"):
        return ""
    first, second = sides
    gone = first.shares[cells.MISSING], second.shares[cells.MISSING]
    if _grew(*gone, sides, dispersion, far) and gone[1] - gone[0] > NOTABLE["missing"]:
        return "missing"
    kind, before, now = _new_values(column, one, sides, dispersion, after)
    if now - before > NOTABLE[kind] and _grew(before, now, sides, dispersion, far):
        return kind
    shown = first.total >= INDEPENDENT * dispersion
    return "stuck" if shown and _stuck(column, after) else ""


def _new_values(
    column: Column, one: Sorted, sides: tuple[Side, Side], dispersion: float, after: Flags
) -> tuple[Broken, float, float]:
    """What it is to have values that never were; the share that is expected, and the share that there is."""
    first, second = sides
    cut = len(after) - int(after.sum())
    earlier, later = slice(0, cut // 2), slice(cut // 2, cut)
    if column.numbers is None:
        # As often as a value occurred once, comes one that has not occurred (Good and Turing).
        counts = _texts(column.texts or (), after, late=False)
        expected = max(1, sum(count == 1 for count in counts.values())) / first.total
        known = set((column.texts or ())[earlier])
        habit = float(
            np.mean([text is not None and text not in known for text in (column.texts or ())[later]])
        )
        return "unseen", max(expected, habit), _new(one, second)
    expected = 2 / (first.total + 1)
    beyond = _beyond(column.numbers[earlier], column.numbers[later], CLEARLY)
    past, now = column.numbers[:cut], column.numbers[cut:]
    if first.total < INDEPENDENT * dispersion:
        return "outside", expected, _beyond(past, now[:cut], ELSEWHERE)
    if beyond <= NOTABLE["outside"]:
        return "outside", max(expected, beyond), _beyond(past, now, CLEARLY)
    # It moves on by habit: in as many records, it comes no further than it has come.
    return "outside", expected, _beyond(past, now[:cut], 1.0)


def _beyond(known: Floats, values: Floats, ranges: float) -> float:
    """Share of values that lie outside of known ones, by more than so many times their range."""
    finite = known[np.isfinite(known)]
    if not len(finite) or not len(values):
        return 0.0
    spare = ranges * (finite.max() - finite.min())
    return float(((values < finite.min() - spare) | (values > finite.max() + spare)).mean())


def _grew(before: float, now: float, sides: tuple[Side, Side], dispersion: float, far: float) -> bool:
    totals = [one.total for one in sides]
    both = (before * totals[0] + now * totals[1]) / sum(totals)
    error = np.sqrt(both * (1 - both) * (1 / totals[0] + 1 / totals[1]) * dispersion)
    return bool(now - before > far * error)


def _stuck(column: Column, after: Flags) -> bool:
    """One value now, and in no run of as many records before."""
    size = int(after.sum())
    cut = len(after) - size
    values: Sequence[object] = (
        column.texts or ()
        if column.numbers is None
        else [
            value if known else None
            for value, known in zip(column.numbers.tolist(), np.isfinite(column.numbers), strict=True)
        ]
    )
    if size < FEWEST or cut < size or not _constant(values[cut:]):
        return False
    return not any(_constant(values[begin : begin + size]) for begin in range(cut % size, cut, size))


def _constant(values: Sequence[object]) -> bool:
    counts = Counter(value for value in values if value is not None)
    return counts.total() >= FEWEST and max(counts.values()) >= STUCK * counts.total()


def _texts(texts: Texts, after: Flags, *, late: bool) -> Counter[str]:
    return Counter(
        text for text, flag in zip(texts, after.tolist(), strict=True) if flag is late and text is not None
    )


def histogram(column: Column, after: Flags) -> list[Bin]:
    """Counts on cells that are the same before and after."""
    if column.numbers is None:
        sides = [_texts(column.texts or (), after, late=late) for late in (False, True)]
        ranked = sorted(sides[0] | sides[1], key=lambda text: (-sides[0][text] - sides[1][text], text))
        found = [Bin(text, sides[0][text], sides[1][text]) for text in ranked[:BINS]]
        others = [sum(side[text] for text in ranked[BINS:]) for side in sides]
        return [*found, Bin("(others)", *others)] if any(others) else found
    values = column.numbers
    finite = values[np.isfinite(values)]
    if not len(finite):
        return []
    different = np.unique(finite)
    if len(different) <= BINS:
        return [
            Bin(f"{value:.4g}", int((values[~after] == value).sum()), int((values[after] == value).sum()))
            for value in different
        ]
    low, high = np.quantile(finite, [TAIL, 1 - TAIL])
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    held = np.clip(values, edges[0], edges[-1])  # the ends gather what is beyond; NaN stays out
    counts = [np.histogram(held[flag & np.isfinite(held)], edges)[0] for flag in (~after, after)]
    return [Bin(f"{edges[at]:.4g}", int(counts[0][at]), int(counts[1][at])) for at in range(BINS)]


def _mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
