"""What a field's values are sorted into: 13 cells, whatever the field, so that fields are the rows of one matrix.

Numeric: below everything in the reference, ten cells between its quantiles, above everything, missing. Categorical: the
reference's ten most frequent categories, its others, categories it has not, missing. Cells see location, scale and
shape, need no assumption about the distribution, and cost one binary search a value.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from services.monitor.domain.drift.arrays import Cells, Floats

COUNT = 13
INNER = 10
MISSING = 12
ABOVE = UNSEEN = 11
OTHERS = 10
KNOWN = 1_000
"""Categories of the reference that are remembered; those beyond count as unseen when they come again."""


class Layout(msgspec.Struct, frozen=True):
    """How one field is sorted. edges: numeric, ascending, the last just above the maximum. known: categories, most
    frequent first.
    """

    edges: list[float] = []
    known: list[str] = []
    numeric: bool = True
    singles: int = 0
    """Categories that the reference holds once: as often, by Good and Turing, comes one that it does not hold."""


def of_numbers(values: Floats) -> Layout:
    """Cells between the quantiles of the reference; fewer, if values repeat."""
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite):
        return Layout()
    places = (np.arange(INNER) * len(finite)) // INNER
    edges = np.unique(finite[places])
    with np.errstate(over="ignore"):  # above the largest float there is nothing
        return Layout([*edges.tolist(), float(np.nextafter(finite[-1], np.inf))])


def of_categories(values: Sequence[str | None]) -> Layout:
    """The reference's categories by frequency, then by name."""
    counts = Counter(value for value in values if value is not None)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    singles = sum(count == 1 for count in counts.values())
    return Layout(known=ranked[:KNOWN], numeric=False, singles=singles)


def prior(layout: Layout) -> Floats:
    """Records added to each cell's count: half of one, and what is beyond the reference as likely as it is.

    Of exchangeable numbers the next is above (below) all n before it with probability 1 / (n + 1).
    """
    found = np.full(COUNT, 0.5)
    found[ABOVE] = 1.0 if layout.numeric else max(0.5, float(layout.singles))
    if layout.numeric:
        found[0] = 1.0
    return found


def matrix(layouts: Sequence[Layout]) -> tuple[Floats, Cells]:
    """Edges of numeric fields [fields, INNER + 1], filled up with infinity, and how many each has."""
    edges = np.full((len(layouts), INNER + 1), np.inf)
    for row, layout in enumerate(layouts):
        edges[row, : len(layout.edges)] = layout.edges
    return edges, np.array([len(layout.edges) for layout in layouts], np.uint8)


def sort_numbers(edges: Floats, last: Cells, values: Floats) -> Cells:
    """Each value's cell [fields, values]; not finite is missing."""
    found: Cells = (values[:, :, None] >= edges[:, None, :]).sum(2, dtype=np.uint8)
    found[found == last[:, None]] = ABOVE
    found[~np.isfinite(values)] = MISSING
    return found


def lookup(layout: Layout) -> dict[str | None, int]:
    """Cell by category; what is not in it is unseen."""
    found: dict[str | None, int] = {name: min(at, OTHERS) for at, name in enumerate(layout.known)}
    found[None] = MISSING
    return found


def sort_categories(table: dict[str | None, int], values: Sequence[str | None]) -> Cells:
    """Each value's cell, by a table from `lookup`."""
    get = table.get
    return np.fromiter((get(value, UNSEEN) for value in values), np.uint8, len(values))
