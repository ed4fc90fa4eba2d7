"""Into which cell each value of a field falls, and what cells are called; the reference is what came before.

The cells are those of the detectors (`drift.cells`): what is told here is cut as it was seen there. Cells that few
records fell into are put together, as nothing can be said of each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.columns import Texts
from services.monitor.domain.drift import cells
from services.monitor.domain.drift.arrays import Floats

FEWEST = 40
"""Records, on both sides together, that make a cell of its own."""
REST = "(the rest)"
OUTSIDE = "(outside of what it was)"
MISSING = "(missing)"
UNSEEN = "(never seen before)"
OTHERS = "(rare ones)"

Codes = NDArray[np.intp]


class Sorted(NamedTuple):
    """codes: of each record, an index into names. middles: of the cells in order, if they are numbers."""

    codes: Codes
    names: list[str]
    middles: Floats | None = None


def sort_numbers(values: Floats, after: NDArray[np.bool_]) -> Sorted:
    """By quantiles of what came before."""
    before = values[~after]
    layout = cells.of_numbers(before)
    edges, last = cells.matrix([layout])
    codes = cells.sort_numbers(edges, last, values[None, :])[0].astype(np.intp)
    known = layout.edges
    names = [OUTSIDE] * cells.COUNT
    names[cells.MISSING] = MISSING
    middles = np.zeros(cells.COUNT)
    finite = values[np.isfinite(values)]
    if known and len(finite):
        middles[0], middles[cells.ABOVE :] = min(finite.min(), known[0]), max(finite.max(), known[-1])
        most = float(before[np.isfinite(before)].max())
        digits = _telling_apart([*known[:-1], most])
        for place in range(1, cells.ABOVE):
            low, high = known[min(place, len(known)) - 1], known[min(place, len(known) - 1)]
            middles[place] = (low + high) / 2
            upto = f"{high:.{digits}g})" if place < len(known) - 1 else f"{most:.{digits}g}]"
            names[place] = f"[{low:.{digits}g}, {upto}"
    return Sorted(codes, names, middles)


def sort_texts(values: Texts, after: NDArray[np.bool_]) -> Sorted:
    """By the most frequent of what came before."""
    layout = cells.of_categories([text for text, late in zip(values, after, strict=True) if not late])
    codes = cells.sort_categories(cells.lookup(layout), values).astype(np.intp)
    names = [
        *layout.known[: cells.OTHERS],
        *[""] * (cells.OTHERS - len(layout.known)),
        OTHERS,
        UNSEEN,
        MISSING,
    ]
    return Sorted(codes, names[: cells.COUNT])


def gathered(one: Sorted, kept: NDArray[np.bool_]) -> Sorted:
    """Without empty cells, and with small ones put together; kept: the records that count."""
    codes = one.codes[kept]
    counts = np.bincount(codes, minlength=len(one.names))
    names: list[str] = []
    to = np.full(len(one.names), -1)
    for place in np.flatnonzero(counts >= FEWEST).tolist():
        name = one.names[place]
        if name != OUTSIDE or name not in names:  # below and above are one
            names.append(name)
        to[place] = names.index(OUTSIDE) if name == OUTSIDE else len(names) - 1
    if (to[codes] < 0).any():
        names.append(REST)
    to[to < 0] = len(names) - 1
    return Sorted(to[codes], names)


def _telling_apart(edges: Sequence[float]) -> int:
    """How many digits it takes to tell numbers apart in writing, 4 at least."""
    different = len(set(edges))
    return next(
        (digits for digits in range(4, 17) if len({f"{edge:.{digits}g}" for edge in edges}) == different), 17
    )


def share(codes: Codes, chosen: NDArray[np.bool_], wanted: Sequence[int]) -> float:
    """Of the chosen records, those in one of these cells."""
    return float(np.isin(codes[chosen], wanted).mean()) if chosen.any() else 0.0
