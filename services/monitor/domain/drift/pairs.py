"""Watches the dependence of fields on one another: a changed correlation while every field looks as before.

For each block the rank correlation of every pair of fields (Spearman, Fisher's transformation): it does not change
with location, scale or shape of a single field, and its variance without dependence in time is known. Each pair has
its own e-detector for a rise or fall of that signal, against its running mean, with the measured long-run variance,
and a part of the budget; so an alarm names two fields. Ranks within a block need no reference. Equal values are
ranked in an order that is shuffled, but the same on every run.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import msgspec
import numpy as np

from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.arrays import Floats, Packed, pack, unpack
from services.monitor.domain.drift.dispersion import ENOUGH, Dispersion, DispersionState, worth_watching

FIELDS = 64
"""Fields that are paired; those beyond are not."""

SHIFTS = np.array([0.12, -0.12, 0.4, -0.4])
"""Changes of the transformed correlation that are looked for."""

REMEMBERED = 32
QUARANTINE = 16
"""Blocks kept to date a change, and those judged before they are learnt."""

SETTLED = 32
LONGEST = 500.0
FARTHEST = 3.0
"""Standard deviations a block counts at most: where two fields step within one block, that block is no correlation."""

ARRAYS = ("values", "recent", "learnt", "judged", "sums", "evidence")


class PairState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int
    filled: int
    arrays: dict[str, Packed]
    dispersion: DispersionState


class PairWatch:
    """Rank correlations of numeric fields against their own past.

    threshold: records for one false alarm of all pairs together. block: records judged together. reference: records
    learnt before a pair is judged. After a pair's alarm that pair learns a new reference; the others go on.
    """

    def __init__(
        self, fields: Sequence[str], threshold: float, *, block: int = 64, reference: int = 2_048
    ) -> None:
        self.fields = tuple(fields)[:FIELDS]
        if len(self.fields) < 2 or block < 16 or reference < 8 * block:
            raise ValueError("two fields at least, blocks of 16 records, a reference of 8 blocks")
        self.block = block
        self.needed = float(-(-reference // block))
        self._places = np.triu_indices(len(self.fields), 1)
        self.pairs = list(combinations(self.fields, 2))
        self.allow(threshold)
        shuffled = np.random.default_rng(0).permuted(np.tile(np.arange(block), (len(self.fields), 1)), axis=1)
        self._order = shuffled
        self._strides = 2 * np.arange(len(self.fields))[:, None] + 1
        self.index = 0
        self._filled = 0
        count = len(self.pairs)
        self._values = np.zeros((len(self.fields), block))
        self._recent = np.zeros((REMEMBERED, count))
        self._learnt = np.zeros(count)
        self._judged = np.zeros(count)
        self._sums = np.zeros(count)
        self._evidence = np.zeros((count, len(SHIFTS)))
        self._dispersion = Dispersion(count, 1)

    def allow(self, threshold: float) -> None:
        """Another threshold from the next block on; nothing is forgotten."""
        self.threshold = threshold * len(self.pairs)

    @property
    def ready(self) -> bool:
        """The reference is whole."""
        return bool((self._learnt >= self.needed).all())

    def update(self, columns: Mapping[str, Floats], count: int) -> list[Alarm]:
        """Judge the next `count` records; alarms in order. columns: by field, float64, NaN if missing."""
        found: list[Alarm] = []
        place = 0
        while place < count:
            take = min(self.block - self._filled, count - place)
            for row, name in enumerate(self.fields):
                self._values[row, self._filled : self._filled + take] = columns[name][place : place + take]
            self._filled += take
            self.index += take
            place += take
            if self._filled == self.block:
                self._filled = 0
                found += self._close()
        return found

    def _close(self) -> list[Alarm]:
        signal = self._correlations()
        ready = (self._learnt >= self.needed).astype(float)
        variance, worth = self._variance()
        gains = self._gains(signal, variance)
        information = SHIFTS * SHIFTS / (2 * variance[:, None] * self.block)
        alive = worth_watching(information, np.full_like(information, self.threshold))
        alive *= (ready * (worth >= ENOUGH))[:, None]
        self._evidence = (self._evidence + 1.0) * np.exp(np.minimum(gains, LONGEST)) * alive
        slot = self._blocks() % REMEMBERED
        self._recent[slot] = signal
        self._judged += ready
        evidence = self._evidence.mean(1) * self.block
        strongest = int(evidence.argmax())
        crossed = bool(evidence[strongest] >= self.threshold)
        found = [self._alarm(strongest, float(evidence[strongest]))] if crossed else []
        leaving = ready * (self._judged > QUARANTINE) * (self._learnt < SETTLED * self.needed)
        self._learn(self._recent[(slot - QUARANTINE) % REMEMBERED], leaving)
        self._learn(signal, 1.0 - ready)
        if crossed:
            self.restart()
        return found

    def restart(self) -> None:
        """Forget the reference of all pairs: what comes next is a new one."""
        for array in (self._learnt, self._judged, self._sums, self._evidence):
            array[:] = 0.0
        for pair in range(len(self.pairs)):
            self._dispersion.forget(pair)

    def _blocks(self) -> int:
        return self.index // self.block

    def _correlations(self) -> Floats:
        """Fisher's transformation of the block's rank correlations, by pair."""
        places = (self._order + self._blocks() * self._strides) % self.block
        shuffled = np.take_along_axis(self._values, places, 1)
        sorting = np.argsort(shuffled, axis=1, kind="stable")
        ranks = np.empty(shuffled.shape)
        np.put_along_axis(
            ranks, np.take_along_axis(places, sorting, 1), np.arange(float(self.block))[None], 1
        )
        ranks -= (self.block - 1) / 2
        found = (ranks @ ranks.T)[self._places] * (12.0 / (self.block * (self.block**2 - 1.0)))
        transformed: Floats = np.arctanh(np.clip(found, -0.99, 0.99))
        return transformed

    def _mean(self) -> Floats:
        mean: Floats = self._sums / np.maximum(self._learnt, 1.0)
        return mean

    def _variance(self) -> tuple[Floats, Floats]:
        """Long-run variance of the signal, by pair, and what it rests on: measured, and no less than pairs have on
        average, or in theory.

        That the mean is known from so many blocks only is added, as it is in the alternative's favour.
        """
        measured, worth = (found[:, 0] for found in self._dispersion.variance())
        floor = 1.0 / (self.block - 3)
        known = np.maximum(self._learnt, QUARANTINE / 2)
        variance: Floats = np.maximum(measured, max(floor, float(np.median(measured))))
        return variance * (1.0 + QUARANTINE / (2 * known)), worth

    def _gains(self, signal: Floats, variance: Floats) -> Floats:
        """Log likelihood ratios of normal signals [pairs, SHIFTS]."""
        bound = FARTHEST * np.sqrt(variance)
        apart = np.clip(signal - self._mean(), -bound, bound)[:, None]
        gains: Floats = (SHIFTS * apart - SHIFTS * SHIFTS / 2) / variance[:, None]
        return gains

    def _learn(self, signal: Floats, rows: Floats) -> None:
        # around a mean that is known, or around 0 in a first block: the running sums correct for it
        self._dispersion.add(signal[:, None], rows)
        self._sums += signal * rows
        self._learnt += rows

    def _alarm(self, pair: int, evidence: float) -> Alarm:
        best = SHIFTS[int(self._evidence[pair].argmax())]
        length = int(min(self._judged[pair], REMEMBERED))
        slots = (self._blocks() - np.arange(length)) % REMEMBERED
        recent = self._recent[slots, pair]
        mean = float(self._mean()[pair])
        since = int(np.cumsum(best * (recent - mean) - best * best / 2).argmax()) + 1
        first, second = self.pairs[pair]
        return Alarm(
            kind="data", subject=f"{first} x {second}", method="likelihood-ratio correlation",
            index=self.index - 1, since=self.index - since * self.block, before=float(np.tanh(mean)),
            after=float(np.tanh(recent[:since].mean())), evidence=evidence, threshold=self.threshold,
        )  # fmt: skip

    def state(self) -> PairState:
        """All of it, to go on from elsewhere."""
        arrays = {name: pack(getattr(self, f"_{name}")) for name in ARRAYS}
        return PairState(self.index, self._filled, arrays, self._dispersion.state())

    def resume(self, state: PairState) -> None:
        """Go on from there; the watch was made with the same arguments."""
        self.index, self._filled = state.index, state.filled
        for name in ARRAYS:
            setattr(self, f"_{name}", unpack(state.arrays[name]))
        self._dispersion.resume(state.dispersion)
