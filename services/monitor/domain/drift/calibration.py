"""Watches whether a score still means what it meant: P(positive) against what then was true.

On the reference a line is fitted, logit of the truth = a + b x logit of the score, so a model that was badly
calibrated to begin with is held against itself. The alternatives move that line: positives more frequent or rarer
than the score says (offset), or the score saying less than it did (slope). Block by block their log likelihood ratio,
divided by the dispersion of the residuals, goes into Shiryaev-Roberts e-detectors as elsewhere. A score that has come
to say more is no alarm: models that learn do that.
"""

import msgspec
import numpy as np

from services.monitor.domain.drift.arrays import Floats, Packed, pack, unpack
from services.monitor.domain.drift.bernoulli import Crossing
from services.monitor.domain.drift.dispersion import Dispersion, DispersionState, worth_watching

BLOCK = 64
OFFSETS = np.array([0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 0.0, 0.0, 0.0])
SLOPES = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0, -1.0])
LARGEST = 6.0
"""Logits are cut here: a score of 0 or 1 is not infinitely sure."""

REMEMBERED = 64
LONGEST = 500.0
ROUNDS = 12
LONGEST_STEP = 2.0
"""Newton steps to fit the line, and how far one may go."""


class CalibrationState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int
    filled: int
    learnt: int
    judged: int
    ready: bool
    expected_variance: float
    arrays: dict[str, Packed]
    dispersion: DispersionState


class CalibrationWatch:
    """Scores and labels of one model, or of one group, against their own past.

    threshold: records for one false alarm. reference: records learnt before anything is judged, rounded up to blocks.
    The reference stays as it is until a crossing, when everything begins anew.
    """

    def __init__(self, threshold: float, *, reference: int = 2_048) -> None:
        if reference < 8 * BLOCK:
            raise ValueError(f"a reference has at least {8 * BLOCK} records")
        self.threshold = threshold
        self.reference = -(-reference // BLOCK) * BLOCK
        self.index = 0
        self._filled = 0
        self._block = np.zeros((2, BLOCK))
        self._held = np.zeros((2, self.reference))
        self._recent = np.zeros((REMEMBERED, len(OFFSETS) + 2))
        self._clear()

    def _clear(self) -> None:
        self._learnt = self._judged = 0
        self.ready = False
        self._line = np.array([0.0, 1.0])
        self._evidence = np.zeros(len(OFFSETS))
        self._alive = np.zeros(len(OFFSETS))
        self._dispersion = Dispersion(1, 1)
        self._expected_variance = 0.0
        self._power = 1.0

    def restart(self) -> None:
        """Forget the reference: the next block begins a new one."""
        self._clear()

    def update(self, scores: Floats, labels: bytes) -> list[Crossing]:
        """Judge the next records; crossings in order.

        scores: P(positive), NaN if the model gave none (then the record only counts). labels: a byte each, 0 or 1.
        """
        found = []
        truths = np.frombuffer(labels, np.uint8)
        place = 0
        while place < len(truths):
            take = min(BLOCK - self._filled, len(truths) - place)
            span = slice(self._filled, self._filled + take)
            self._block[0, span] = scores[place : place + take]
            self._block[1, span] = truths[place : place + take]
            self._filled += take
            self.index += take
            place += take
            if self._filled == BLOCK:
                self._filled = 0
                crossing = self._close(_logits(self._block[0]), self._block[1])
                if crossing is not None:
                    found.append(crossing)
        return found

    def _close(self, logits: Floats, truths: Floats) -> Crossing | None:
        if not self.ready:
            self._gather(logits, truths)
            return None
        gains = self._gains(logits, truths)
        self._evidence = (self._evidence + 1.0) * np.exp(np.minimum(gains, LONGEST)) * self._alive
        known = np.isfinite(logits)
        said = _chance(self._line[0] + self._line[1] * logits[known])
        slot = (self.index // BLOCK) % REMEMBERED
        self._recent[slot] = [*gains, float((truths[known] - said).sum()), float(known.sum())]
        self._judged += 1
        evidence = float(self._evidence.mean()) * BLOCK
        return self._crossing(evidence) if evidence >= self.threshold else None

    def _gather(self, logits: Floats, truths: Floats) -> None:
        """Add the block to the reference; fit the line when it is whole."""
        self._held[:, self._learnt : self._learnt + BLOCK] = logits, truths
        self._learnt += BLOCK
        if self._learnt < self.reference:
            return
        known = np.isfinite(self._held[0])
        self._line = _fitted(self._held[0, known], self._held[1, known])
        for block in self._held.reshape(2, -1, BLOCK).transpose(1, 0, 2):
            there = np.isfinite(block[0])
            said = _chance(self._line[0] + self._line[1] * block[0, there])
            self._expected_variance += float((said * (1.0 - said)).sum())
            self._dispersion.add(np.array([[(block[1, there] - said).sum()]]), np.ones(1))
        self.ready = True
        self._power = self._tempering()
        if not known.any():  # there are no scores: nothing can be told apart
            self._alive = np.zeros(len(OFFSETS))
            return
        logits = self._held[0, known]
        information = -self._parts(logits, _chance(self._line[0] + self._line[1] * logits))[1].mean(0)
        self._alive = worth_watching(information * self._power, np.full(len(OFFSETS), self.threshold))

    def _tempering(self) -> float:
        """One over the dispersion of the residuals, no more than 1."""
        expected = self._expected_variance / max(float(self._dispersion.blocks[0]), 1.0)
        measured = float(self._dispersion.variance()[0][0, 0])
        return min(1.0, expected / measured) if measured > 0 and expected > 0 else 1.0

    def _gains(self, logits: Floats, truths: Floats) -> Floats:
        """Tempered log likelihood ratio of the block, by alternative."""
        known = np.isfinite(logits)
        found: Floats = self._parts(logits[known], truths[known])[0].sum(0) * self._power
        return found

    def _parts(self, logits: Floats, truths: Floats) -> tuple[Floats, Floats]:
        """Log likelihood ratios [records, alternatives], and what they are on average if nothing has changed."""
        base = (self._line[0] + self._line[1] * logits)[:, None]
        moved = OFFSETS + SLOPES * base
        level = np.logaddexp(0.0, base) - np.logaddexp(0.0, moved)
        chance = _chance(base)
        return truths[:, None] * (moved - base) + level, chance * (moved - base) + level

    def _crossing(self, evidence: float) -> Crossing:
        best = int(self._evidence.argmax())
        length = min(self._judged, REMEMBERED)
        slots = (self.index // BLOCK - np.arange(length)) % REMEMBERED
        since = int(np.cumsum(self._recent[slots, best]).argmax()) + 1
        residuals, count = self._recent[slots[:since], -2:].sum(0)
        first = self.index - since * BLOCK
        found = Crossing(self.index - 1, first, 0.0, float(residuals / max(count, 1.0)), evidence)
        self.restart()
        return found

    def state(self) -> CalibrationState:
        """All of it, to go on from elsewhere."""
        arrays = {name: pack(getattr(self, f"_{name}")) for name in ARRAYS}
        return CalibrationState(
            self.index, self._filled, self._learnt, self._judged, self.ready, self._expected_variance,
            arrays, self._dispersion.state(),
        )  # fmt: skip

    def resume(self, state: CalibrationState) -> None:
        """Go on from there; the watch was made with the same arguments."""
        self.index, self._filled, self._learnt = state.index, state.filled, state.learnt
        self._judged, self.ready = state.judged, state.ready
        self._expected_variance = state.expected_variance
        for name in ARRAYS:
            setattr(self, f"_{name}", unpack(state.arrays[name]))
        self._dispersion.resume(state.dispersion)
        self._power = self._tempering() if self.ready else 1.0


ARRAYS = ("block", "held", "recent", "line", "evidence", "alive")


def _logits(scores: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.clip(np.log(scores) - np.log1p(-scores), -LARGEST, LARGEST)
    return found


def _chance(logits: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-logits))
    return found


def _fitted(logits: Floats, truths: Floats) -> Floats:
    """Offset and slope of the truth's logit, by Newton's method, drawn to (0, 1) as by one record or so."""
    line = np.array([0.0, 1.0])
    design = np.stack([np.ones_like(logits), logits])
    for _ in range(ROUNDS):
        said = _chance(line @ design)
        slope = design @ (truths - said) - (line - [0.0, 1.0])
        curve = (design * (said * (1.0 - said))) @ design.T + np.eye(2)
        step = np.linalg.solve(curve, slope)
        line = line + step / max(1.0, float(np.abs(step).max()) / LONGEST_STEP)
    return line
