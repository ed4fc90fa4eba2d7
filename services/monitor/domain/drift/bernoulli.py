"""Watches a 0/1 signal: errors, positive answers, labels of one group. One multiplication a record and alternative.

A mixture of Shiryaev-Roberts e-detectors: for each alternative (the odds multiplied by a constant) the sum, over all
records at which the change may have come, of the likelihood ratio since then: R <- (R + 1) x ratio. If the ratio is
fair (mean 1 when nothing has changed), R minus the number of records is a martingale, so the mean time until R
reaches N is at least N: the threshold *is* the budget, with no table and no simulation. A weighted sum of such R has
the same property.

Two things make it fair without knowing the rate. The rate is the running mean of what came before, which is the
prediction under a Beta prior, so its uncertainty is inside the ratio (averaged over that prior). And the signal may
be dependent: the ratio is raised to the power 1 / V, V the long-run variance of sums over that of independent
records, measured in blocks of three sizes; by the central limit theorem it is fair again. Under dependence large odds
ratios are cut, as a burst of errors is no normal variable.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from services.monitor.domain.drift.dispersion import enough

STEP = 32
"""Rate and variance are brought up to date every so many records, counted from the stream."""

SCALES = (32, 128, 512)
"""Block lengths at which the variance of sums is measured."""

LEAST_INDEPENDENT = 256
"""A reference is worth at least so many independent records."""

DEPENDENT = 1.5
LEAST_BURSTS = 8
"""Beyond this dispersion the rarer value has been seen in at least so many bursts."""

REMEMBERED = 4_096
"""Values kept to date a change; one that began before them is dated there."""

RISES = (2.0, 8.0)
BOTH = (2.0, 8.0, 1 / 2, 1 / 8)
"""Factors on the odds of a 1 which are looked for."""

SHORTEST_TILT = math.log(2.0)
SHORTENED = 4 / 3
"""Under dependence odds ratios are cut: their logarithm by this over the squared dispersion, not below the other."""

LEAST_ODDS = 0.01
"""Of a signal that is hardly ever 1, the alternative is not twice as often, but these odds times the factor."""


class Crossing(NamedTuple):
    """The evidence has reached the threshold at record `at`, the change most likely being at `since`."""

    at: int
    since: int
    before: float
    after: float
    evidence: float


class Blocks(msgspec.Struct):
    """Sums of blocks of one length: how far a block lies above the one before it, squared, summed over `pairs`."""

    length: int
    filled: int = 0
    sum: int = 0
    previous: int = -1
    pairs: int = 0
    rises: float = 0.0
    falls: float = 0.0

    def add(self, ones: int, count: int) -> None:
        """Count `count` records, a part of one block."""
        self.filled += count
        self.sum += ones
        if self.filled < self.length:
            return
        if self.previous >= 0:
            self.pairs += 1
            step = self.sum - self.previous
            if step > 0:
                self.rises += step * step
            else:
                self.falls += step * step
        self.previous = self.sum
        self.filled = self.sum = 0


class BernoulliState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int = 0
    count: int = 0
    ones: int = 0
    pending: int = 0
    pending_ones: int = 0
    evidence: list[float] = []
    blocks: list[Blocks] = []
    recent: bytes = b""
    dispersion: float = 1.0
    tilts: list[float] = []
    up: list[float] = []
    down: list[float] = []


class BernoulliWatch:
    """One 0/1 signal against its own past.

    threshold: records for one false alarm. factors: on the odds, see RISES and BOTH. reference: records that are learnt
    before anything is judged, `rarer`: with so many of the rarer value; the rate goes on being learnt until `settled`
    records, then stays. After a crossing everything begins anew with the next record.
    """

    def __init__(
        self,
        threshold: float,
        *,
        factors: Sequence[float] = RISES,
        reference: int = 512,
        settled: int = 200_000,
        rarer: int = 0,
        state: BernoulliState | None = None,
    ) -> None:
        if reference < STEP or settled < reference:
            raise ValueError(f"a reference has at least {STEP} records, and is settled no earlier")
        self.threshold = threshold
        self.factors = tuple(factors)
        self.reference = -(-reference // STEP) * STEP
        self.settled = settled
        self.rarer = rarer
        self.state = state if state is not None else BernoulliState()
        if state is None:
            self.restart()

    @property
    def rate(self) -> float:
        """The mean so far, with half a 1 and half a 0 added."""
        return (self.state.ones + 0.5) / (self.state.count + 1.0)

    @property
    def ready(self) -> bool:
        """The reference is learnt; dependent records, and rare values in bursts, tell less, so more are needed."""
        state = self.state
        if state.count < max(self.reference, LEAST_INDEPENDENT * state.dispersion):
            return False
        rarer = min(state.ones, state.count - state.ones)
        bursts = LEAST_BURSTS * state.dispersion if state.dispersion >= DEPENDENT else 0.0
        return rarer >= max(self.rarer, bursts)

    def restart(self) -> None:
        """Forget the reference: what comes next is a new one."""
        self.state = BernoulliState(
            index=self.state.index,
            evidence=[0.0] * len(self.factors),
            blocks=[Blocks(length) for length in SCALES],
        )
        self._refresh()

    def update(self, values: bytes) -> list[Crossing]:
        """Judge the next records, one byte each, 0 or 1; crossings in order."""
        found = []
        place = 0
        while place < len(values):
            room = STEP - self.state.pending
            piece = values[place : place + room]
            crossing = self._judge(piece) if self.ready else None
            if crossing is not None:
                used = crossing.at - self.state.index + 1
                self._remember(piece[:used])
                found.append(self._dated(crossing))
                self.state.index += used
                self.restart()
                place += used
                continue
            self._remember(piece)
            self._learn(piece)
            place += len(piece)
        return found

    def _judge(self, piece: bytes) -> Crossing | None:
        """Advance the evidence through the piece, up to the first record at which it is enough."""
        state = self.state
        totals = [0.0] * len(piece)
        for k, (up, down) in enumerate(zip(state.up, state.down, strict=True)):
            held = state.evidence[k]
            for at, value in enumerate(piece):
                held = (held + 1.0) * (up if value else down)
                totals[at] += held
            state.evidence[k] = held
        if not totals or max(totals) < self.threshold * len(self.factors):
            return None
        bound = self.threshold * len(self.factors)
        at = next(at for at, total in enumerate(totals) if total >= bound)
        return Crossing(state.index + at, 0, 0.0, 0.0, totals[at] / len(self.factors))

    def _remember(self, piece: bytes) -> None:
        self.state.recent = (self.state.recent + piece)[-REMEMBERED:]

    def _learn(self, piece: bytes) -> None:
        state = self.state
        state.index += len(piece)
        state.pending += len(piece)
        state.pending_ones += sum(piece)
        if state.pending < STEP:
            return
        if state.count < self.settled:
            state.count += STEP
            state.ones += state.pending_ones
            for blocks in state.blocks:
                blocks.add(state.pending_ones, STEP)
            self._refresh()
        state.pending = state.pending_ones = 0

    def _refresh(self) -> None:
        """The ratios of the next STEP records, from all before them."""
        state = self.state
        rate = self.rate
        state.dispersion = self._dispersion()
        power = 1.0 / state.dispersion
        state.tilts, state.up, state.down = [], [], []
        for factor in self.factors:
            tilt = _tilt(factor, rate)
            tilt = math.copysign(
                max(min(abs(tilt), SHORTEST_TILT), abs(tilt) * min(1.0, SHORTENED * power**2)), tilt
            )
            raised = math.exp(tilt)
            level = -math.log1p(rate * (raised - 1.0))
            moved = rate * raised * math.exp(level)
            state.tilts.append(tilt)
            if not enough(power * (moved * tilt + level), self.threshold):
                state.up.append(0.0)
                state.down.append(0.0)
                continue
            state.up.append(math.exp(power * (tilt + level)))
            state.down.append(math.exp(power * level))

    def _dispersion(self) -> float:
        """Long-run variance over that of independent records, at least 1.

        If only rises are looked for, only rises count: a model that learns makes its error fall, which is no noise.
        The shortest blocks are many and count with half a standard error more; longer ones with one less, unless the
        short ones have shown that there is dependence.
        """
        expected = self.rate * (1.0 - self.rate)
        rising = min(self.factors) > 1.0
        found, dependent = 1.0, False
        for place, blocks in enumerate(self.state.blocks):
            if blocks.pairs < 4:
                continue
            squares = blocks.rises if rising else (blocks.rises + blocks.falls) / 2
            ratio = squares / blocks.pairs / (blocks.length * expected)
            error = math.sqrt((5.0 if rising else 3.0) / blocks.pairs)
            if place == 0:
                dependent = ratio * (1.0 - error) > 1.0
            found = max(found, ratio * (1.0 + error / 2 if place == 0 or dependent else 1.0 - error))
        return found

    def _dated(self, crossing: Crossing) -> Crossing:
        """The likeliest beginning: the start of the suffix with the largest likelihood ratio, best alternative."""
        values = np.frombuffer(self.state.recent, np.uint8)
        rate = self.rate
        best, since = -math.inf, len(values) - 1
        for tilt in self.state.tilts:
            gains = values * tilt - math.log1p(rate * math.expm1(tilt))
            suffix = np.cumsum(gains[::-1])[::-1]
            at = int(suffix.argmax())
            if suffix[at] > best:
                best, since = float(suffix[at]), at
        after = float(values[since:].mean())
        first = crossing.at + 1 - len(values) + since
        return Crossing(crossing.at, first, rate, after, crossing.evidence)


def _tilt(factor: float, rate: float) -> float:
    """The alternative's log odds less those of `rate`."""
    if factor < 1.0:
        return -_tilt(1.0 / factor, 1.0 - rate)
    odds = rate / (1.0 - rate)
    return math.log(max(factor, LEAST_ODDS * factor / odds))
