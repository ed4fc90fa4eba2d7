"""Watches the distribution of many fields at once: features, scores, classes, losses, delays.

Records are sorted into cells (cells.py) and judged by blocks. For each field and alternative (tilts.py) a block's log
likelihood ratio is linear in its cell counts; divided by the dispersion it goes into a Shiryaev-Roberts e-detector, R
<- (R + 1) x ratio, and a field alarms when the mean of its R has reached its share of the budget (bernoulli.py says
why). Cells' shares and dispersions go on being learnt, `QUARANTINE` blocks behind, so that a drift is not taken for
the reference before it is seen. All fields are one matrix: the cost is a few numpy calls a block, whatever they are.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.contracts.events import DriftKind
from services.monitor.domain.drift import cells, tilts
from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.arrays import Cells, Floats, Packed, pack, unpack
from services.monitor.domain.drift.dispersion import ENOUGH, Dispersion, DispersionState, worth_watching

QUARANTINE = 16
"""Blocks that are judged before they are learnt."""

REMEMBERED = 64
"""Blocks kept to date a change; one that began before them is dated there."""

REFRESHED = 8
"""Blocks between two updates of ratios and dispersions."""

SETTLED = 32
"""References' lengths after which nothing more is learnt: what moves from then on is drift, however slowly."""

MOMENTS = 3
"""Of a block's finite numbers: how many, their sum, the sum of their squares."""

ARRAYS = (
    "values learnt judged ready declared counts prior sums recent recent_sums "
    "evidence tilts centres used weights level alive"
).split()

LONGEST = 500.0
"""Bound on a block's log likelihood ratio, so that evidence stays a number."""

Columns = Mapping[str, NDArray[np.float64] | Sequence[str | None]]


class DistributionState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int
    filled: int
    layouts: list[cells.Layout]
    raw: list[list[str | None]]
    categories: list[list[str | None]]
    reference: Packed
    arrays: dict[str, Packed]
    dispersion: DispersionState


class DistributionWatch:
    """Fields against their own past.

    kind: of the alarms. numeric, categorical: names of fields. thresholds: by field, records for one false alarm.
    block: records judged together. reference: records learnt before anything is judged, rounded up to whole blocks.
    rising: for numbers of which only larger ones are bad (losses). After a field's alarm that field learns a new
    reference from the next block on; the others go on.
    """

    def __init__(
        self,
        kind: DriftKind,
        numeric: Sequence[str],
        categorical: Sequence[str],
        thresholds: Mapping[str, float],
        *,
        block: int = 64,
        reference: int = 2_048,
        rising: bool = False,
        model: str = "",
    ) -> None:
        if block < 1 or block > 255 or reference < 8 * block:
            raise ValueError("a block has 1 to 255 records, a reference at least 8 blocks")
        self.kind, self.model, self.rising = kind, model, rising
        self.numeric, self.categorical = tuple(numeric), tuple(categorical)
        self.fields = (*self.numeric, *self.categorical)
        self.block = block
        self.reference = -(-reference // block) * block
        rows, width = len(self.fields), tilts.ALTERNATIVES
        self.allow(thresholds)
        self.index = 0
        self._filled = 0
        self._values = np.zeros((len(self.numeric), block))
        self._categories: list[list[str | None]] = [[] for _ in self.categorical]
        self._layouts = [cells.Layout(numeric=row < len(self.numeric)) for row in range(rows)]
        self._edges, self._last = cells.matrix(self._layouts[: len(self.numeric)])
        self._tables = [cells.lookup(layout) for layout in self._layouts[len(self.numeric) :]]
        self._names = [[""] * width for _ in self.fields]
        self._raw: list[list[str | None]] = [[] for _ in self.categorical]
        self._reference = np.zeros((len(self.numeric), self.reference))
        self._learnt = np.zeros(rows)
        self._judged = np.zeros(rows)
        self._ready = np.zeros(rows)
        self._declared = np.zeros(rows)
        self._counts = np.zeros((rows, cells.COUNT))
        self._prior = np.stack([cells.prior(layout) for layout in self._layouts])
        self._sums = np.zeros((rows, MOMENTS))
        self._recent = np.zeros((REMEMBERED, rows, cells.COUNT), np.uint8)
        self._recent_sums = np.zeros((REMEMBERED, rows, MOMENTS))
        self._evidence = np.zeros((rows, width))
        self._tilts = np.zeros((rows, width, cells.COUNT))
        self._centres = np.zeros((rows, width))
        self._used = np.ones(rows)
        self._weights = np.zeros((rows, width, cells.COUNT))
        self._level = np.zeros((rows, width))
        self._alive = np.zeros((rows, width))
        self._dispersion = Dispersion(rows, width)

    def update(self, columns: Columns, count: int) -> list[Alarm]:
        """Judge the next `count` records; alarms in order.

        columns: by field, `count` values each; numbers as float64, NaN if missing; categories as text, None if missing.
        """
        found: list[Alarm] = []
        place = 0
        while place < count:
            take = min(self.block - self._filled, count - place)
            span = slice(self._filled, self._filled + take)
            for row, name in enumerate(self.numeric):
                self._values[row, span] = columns[name][place : place + take]
            for held, name in zip(self._categories, self.categorical, strict=True):
                held.extend(columns[name][place : place + take])
            self._filled += take
            self.index += take
            place += take
            if self._filled == self.block:
                found += self._close()
                self._filled = 0
                for held in self._categories:
                    held.clear()
        return found

    def allow(self, thresholds: Mapping[str, float]) -> None:
        """Other thresholds from the next block on; nothing is forgotten."""
        self.thresholds = np.array([float(thresholds[name]) for name in self.fields])

    @property
    def ready(self) -> dict[str, bool]:
        """The fields whose reference is whole."""
        return {name: bool(self._ready[row]) for row, name in enumerate(self.fields)}

    def _close(self) -> list[Alarm]:
        """A block is full: judge it, then learn the block that leaves quarantine."""
        sorted_in = self._sorted()
        counts = _counts(sorted_in)
        sums = _sums(self._values, len(self.fields))
        self._evidence = (
            (self._evidence + 1.0) * np.exp(np.minimum(self._ratios(counts), LONGEST)) * self._alive
        )
        slot = self._blocks() % REMEMBERED
        self._recent[slot], self._recent_sums[slot] = counts, sums
        self._judged += self._ready
        evidence = self._evidence.sum(1) / self._used * self.block
        found = [
            self._alarm(int(row), float(evidence[row])) for row in np.flatnonzero(evidence >= self.thresholds)
        ]
        out = (slot - QUARANTINE) % REMEMBERED
        leaving = self._ready * (self._judged > QUARANTINE) * (self._learnt < SETTLED * self.reference)
        self._learn(self._recent[out].astype(float), self._recent_sums[out], leaving)
        gathered = self._gather()
        if gathered or self._blocks() % REFRESHED == 0:
            self._refresh()
        for alarm in found:
            self._restart(self.fields.index(alarm.subject))
        return found

    def restart(self) -> None:
        """Begin new references for all fields with the next block."""
        for row in range(len(self.fields)):
            self._restart(row)

    def declare(self, field: str, shares: Mapping[str, float]) -> None:
        """Hold a categorical field against stated shares, not a reference; records are taken to be independent.

        After an alarm it learns a reference like any other.
        """
        row = self.fields.index(field)
        place = row - len(self.numeric)
        known = sorted(shares, key=lambda name: (-shares[name], name))
        self._layouts[row] = cells.Layout(known=known, numeric=False)
        self._tables[place] = cells.lookup(self._layouts[row])
        certain = float(SETTLED * self.reference)
        self._counts[row] = 0.0
        for name in known:
            self._counts[row, self._tables[place][name]] += shares[name] * certain
        self._prior[row] = cells.prior(self._layouts[row])
        self._tilts[row], self._names[row] = tilts.build(self._layouts[row], self._shares()[row])
        self._used[row] = max(1, int(self._tilts[row].any(1).sum()))
        self._ready[row] = self._declared[row] = 1.0
        self._learnt[row] = certain
        self._refresh()

    def _blocks(self) -> int:
        return self.index // self.block

    def _sorted(self) -> Cells:
        """The block's cells [fields, block]."""
        numbers = cells.sort_numbers(self._edges, self._last, self._values)
        if not self.categorical:
            return numbers
        others = [
            cells.sort_categories(table, held)
            for table, held in zip(self._tables, self._categories, strict=True)
        ]
        return np.concatenate([numbers, np.stack(others)])

    def _ratios(self, counts: Floats) -> Floats:
        """Log likelihood ratios of a block, or of several, tempered [..., fields, alternatives]."""
        found: Floats = np.matmul(self._weights, counts[..., None])[..., 0] + self._level
        return found

    def _learn(self, counts: Floats, sums: Floats, rows: Floats) -> None:
        """A block becomes part of the reference, for the rows that are 1."""
        self._dispersion.add(np.matmul(self._tilts, counts[:, :, None])[:, :, 0] - self._centres, rows)
        self._counts += counts * rows[:, None]
        self._sums += sums * rows[:, None]
        self._learnt += rows * self.block

    def _shares(self) -> Floats:
        """Cells' shares in the reference, smoothed."""
        smooth = self._counts + self._prior
        shares: Floats = smooth / smooth.sum(1, keepdims=True)
        return shares

    def _gather(self) -> bool:
        """Add the block to references that are not whole; True if one of them has become so."""
        first = False
        for row in np.flatnonzero(self._ready == 0):
            held = int(self._learnt[row])
            if row < len(self.numeric):
                self._reference[row, held : held + self.block] = self._values[row]
            else:
                self._raw[row - len(self.numeric)].extend(self._categories[row - len(self.numeric)])
            self._learnt[row] += self.block
            if self._learnt[row] >= self.reference:
                self._begin(int(row))
                first = True
        return first

    def _begin(self, row: int) -> None:
        """The reference of a field is whole: lay out its cells and learn it, block by block."""
        if row < len(self.numeric):
            values = self._reference[row].reshape(-1, self.block).copy()
            self._reference[row] = 0.0  # or the state would depend on what is forgotten
            self._layouts[row] = cells.of_numbers(values.ravel())
            self._edges, self._last = cells.matrix(self._layouts[: len(self.numeric)])
            edges, last = self._edges[row : row + 1], self._last[row : row + 1]
            sorted_in = np.stack([cells.sort_numbers(edges, last, block[None])[0] for block in values])
            sums = np.stack([_sums(block[None], 1)[0] for block in values])
            self._reference[row] = 0.0  # no longer needed, and a state holds nothing that has no use
        else:
            place = row - len(self.numeric)
            self._layouts[row] = cells.of_categories(self._raw[place])
            self._tables[place] = cells.lookup(self._layouts[row])
            sorted_in = cells.sort_categories(self._tables[place], self._raw[place]).reshape(-1, self.block)
            sums = np.zeros((len(sorted_in), MOMENTS))
            self._raw[place] = []
        counts = _counts(sorted_in)
        self._counts[row] = counts.sum(0)
        self._prior[row] = cells.prior(self._layouts[row])
        shares = self._shares()[row]
        self._tilts[row], self._names[row] = tilts.build(self._layouts[row], shares, rising=self.rising)
        self._used[row] = max(1, int(self._tilts[row].any(1).sum()))
        self._sums[row] = sums.sum(0)
        self._centres[row] = self._tilts[row] @ shares * self.block
        only = np.zeros(len(self.fields))
        only[row] = 1.0
        for block in counts:
            values_of = np.zeros_like(self._level)
            values_of[row] = self._tilts[row] @ block - self._centres[row]
            self._dispersion.add(values_of, only)
        self._ready[row] = 1.0

    def _refresh(self) -> None:
        """Ratios of the next blocks, from shares and dispersions so far."""
        shares = self._shares()
        mean = np.einsum("fk,fmk->fm", shares, self._tilts)
        variance = self.block * (np.einsum("fk,fmk->fm", shares, self._tilts**2) - mean * mean)
        measured, worth = self._dispersion.variance()
        dispersion = np.maximum(
            1.0, np.divide(measured, variance, out=np.ones_like(measured), where=variance > 0)
        )
        dispersion = np.maximum(dispersion, dispersion[:, :1] * tilts.few(self._tilts))
        behind = QUARANTINE * self.block / 2.0
        power = 1.0 / (dispersion * (1.0 + behind / np.maximum(self._learnt, behind))[:, None])
        used = self._tilts * tilts.shortened(self._tilts, 1.0 / dispersion)[:, :, None]
        raised = shares[:, None, :] * np.exp(used)
        normal = raised.sum(2)
        level = np.log(normal)
        information = power * ((raised * used).sum(2) / normal - level)
        self._weights = used * power[:, :, None]
        self._level = -self.block * power * level
        judged = self._ready[:, None] * (worth >= ENOUGH) + self._declared[:, None]
        self._alive = worth_watching(information, self.thresholds[:, None]) * judged

    def _restart(self, row: int) -> None:
        """A field begins a new reference with the next block."""
        self._ready[row] = self._declared[row] = self._learnt[row] = self._judged[row] = 0.0
        self._counts[row] = self._sums[row] = self._evidence[row] = 0.0
        self._tilts[row] = self._weights[row] = self._level[row] = self._alive[row] = 0.0
        self._dispersion.forget(row)

    def _alarm(self, row: int, evidence: float) -> Alarm:
        """Name, date and size of what has crossed its threshold."""
        best = int(self._evidence[row].argmax())
        length = int(min(self._judged[row], REMEMBERED))
        slots = (self._blocks() - np.arange(length)) % REMEMBERED
        gains = self._recent[slots, row] @ self._weights[row, best] + self._level[row, best]
        since = int(np.cumsum(gains).argmax()) + 1
        name = self._names[row][best]
        recent = slots[:since]
        if name in ("location", "scale"):
            before = _moment(name, self._sums[row])
            after = _moment(name, self._recent_sums[recent, row].sum(0))
        else:
            touched = self._tilts[row, best] != 0
            before = float(self._shares()[row][touched].sum())
            after = float(
                self._recent[recent, row].astype(float).sum(0)[touched].sum() / (since * self.block)
            )
        return Alarm(
            kind=self.kind, subject=self.fields[row], method=f"likelihood-ratio {name}", index=self.index - 1,
            since=self.index - since * self.block, before=before, after=after, evidence=float(evidence),
            threshold=float(self.thresholds[row]), model=self.model,
        )  # fmt: skip

    def _unready(self) -> NDArray[np.intp]:
        """Numeric fields whose reference is being gathered: only theirs is still needed."""
        return np.flatnonzero(self._ready[: len(self.numeric)] == 0)

    def state(self) -> DistributionState:
        """All of it, to go on from elsewhere."""
        return DistributionState(
            index=self.index,
            filled=self._filled,
            layouts=list(self._layouts),
            raw=[list(held) for held in self._raw],
            categories=[list(held) for held in self._categories],
            reference=pack(self._reference[self._unready()]),
            arrays={name: pack(getattr(self, f"_{name}")) for name in ARRAYS},
            dispersion=self._dispersion.state(),
        )

    def resume(self, state: DistributionState) -> None:
        """Go on from there; the watch was made with the same arguments."""
        self.index, self._filled = state.index, state.filled
        self._layouts = list(state.layouts)
        self._raw = [list(held) for held in state.raw]
        self._categories = [list(held) for held in state.categories]
        for name in ARRAYS:
            setattr(self, f"_{name}", unpack(state.arrays[name]))
        self._reference[self._unready()] = unpack(state.reference)
        self._dispersion.resume(state.dispersion)
        self._edges, self._last = cells.matrix(self._layouts[: len(self.numeric)])
        self._tables = [cells.lookup(layout) for layout in self._layouts[len(self.numeric) :]]
        self._names = [
            tilts.build(layout, self._shares()[row], rising=self.rising)[1]
            for row, layout in enumerate(self._layouts)
        ]


def _counts(sorted_in: Cells) -> Floats:
    """Records by cell [rows, COUNT] of cells [rows, block]."""
    rows = len(sorted_in)
    flat = sorted_in + np.arange(rows)[:, None] * cells.COUNT
    return np.bincount(flat.ravel(), minlength=rows * cells.COUNT).reshape(rows, cells.COUNT).astype(float)


def _sums(values: Floats, rows: int) -> Floats:
    """MOMENTS of each row; zeros for rows beyond those that are numbers."""
    finite = np.isfinite(values)
    known = np.where(finite, values, 0.0)
    found = np.zeros((rows, MOMENTS))
    numbers = len(values)
    found[:numbers, 0] = finite.sum(1)
    with np.errstate(over="ignore"):
        found[:numbers, 1] = known.sum(1)
        found[:numbers, 2] = (known * known).sum(1)
    return found


def _moment(name: str, sums: Floats) -> float | None:
    """Mean, or standard deviation; None without numbers, or beyond what a float holds."""
    count, total, squares = (float(value) for value in sums)
    if count == 0 or not np.isfinite(squares):
        return None
    mean = total / count
    return mean if name == "location" else float(np.sqrt(max(squares / count - mean * mean, 0.0)))
