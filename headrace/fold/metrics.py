"""Prequential metrics: every answer is scored on its label before the model learns from it (test, then train).

Tallies are sums and integer counts, so they merge exactly over blocks and over shards, and cost under a microsecond an
outcome. ROC AUC comes from the two score histograms (1,000 equal bins, ties count half): within about 1e-3 of the
exact rank statistic for scores that spread, and unlike it bounded in memory and mergeable. Answers of None are counted
as `unanswered` and enter no other figure.
"""

from collections import deque
from itertools import accumulate
from math import log, sqrt
from typing import Any, Protocol, Self

from headrace.contracts.events import Answer, Outcome, Prediction, Scalar
from headrace.contracts.stream import Task

BINS = 1000
BLOCK_OUTCOMES = 500
"""Outcomes a block; the windowed metrics cover the last `WINDOW_BLOCKS` full blocks and the one being filled."""
WINDOW_BLOCKS = 10
SMALLEST_PROBABILITY = 1e-15

Said = Answer | Prediction | Outcome


class Tally(Protocol):
    """Sums over some outcomes of one model. `weight` -1 takes an outcome back (a correction)."""

    count: int
    unanswered: int

    def update(self, y: Any, said: Said, weight: int = 1) -> None:
        """Score one answer on its label."""
        ...

    def merge(self, other: Self) -> None:
        """Add another tally's outcomes to this one."""
        ...

    def view(self) -> dict[str, Any]:
        """The figures, by their usual names; those without a meaning yet are None."""
        ...


class BinaryTally:
    """Counts of a binary model: score histograms by truth, confusion by answer, log loss and Brier sums."""

    __slots__ = (
        "brier",
        "count",
        "fn",
        "fp",
        "loss",
        "negatives",
        "positives",
        "scored",
        "tn",
        "tp",
        "unanswered",
    )

    def __init__(self) -> None:
        self.count = self.unanswered = self.scored = 0
        self.tp = self.fp = self.tn = self.fn = 0
        self.loss = self.brier = 0.0
        self.positives = [0] * (BINS + 1)
        self.negatives = [0] * (BINS + 1)

    def update(self, y: Any, said: Said, weight: int = 1) -> None:
        """Score one answer: `y` is a bool, `said.score` is P(positive), None if the model gives no probability."""
        answer = said.answer
        if answer is None:
            self.unanswered += weight
            return
        self.count += weight
        if y:
            if answer:
                self.tp += weight
            else:
                self.fn += weight
        elif answer:
            self.fp += weight
        else:
            self.tn += weight
        p = said.score
        if p is not None:
            self.scored += weight
            (self.positives if y else self.negatives)[int(p * BINS)] += weight
            right = p if y else 1.0 - p
            self.brier += weight * (1.0 - right) * (1.0 - right)
            self.loss -= weight * log(right if right > SMALLEST_PROBABILITY else SMALLEST_PROBABILITY)

    def merge(self, other: Self) -> None:
        """Add another tally's outcomes to this one."""
        for name in ("count", "unanswered", "scored", "tp", "fp", "tn", "fn", "loss", "brier"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.positives = [a + b for a, b in zip(self.positives, other.positives, strict=True)]
        self.negatives = [a + b for a, b in zip(self.negatives, other.negatives, strict=True)]

    def view(self) -> dict[str, Any]:
        """count, unanswered, roc_auc, log_loss, brier, accuracy, precision, recall, f1, positives."""
        n = self.count
        precision = _ratio(self.tp, self.tp + self.fp)
        recall = _ratio(self.tp, self.tp + self.fn)
        return {
            "count": n,
            "unanswered": self.unanswered,
            "roc_auc": roc_auc(self.positives, self.negatives),
            "log_loss": _ratio(self.loss, self.scored),
            "brier": _ratio(self.brier, self.scored),
            "accuracy": _ratio(self.tp + self.tn, n),
            "precision": precision,
            "recall": recall,
            "f1": _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn),
            "positives": self.tp + self.fn,
        }


class MulticlassTally:
    """Counts of a multiclass model: confusion by class (for accuracy and macro F1) and log loss."""

    __slots__ = ("count", "hits", "loss", "said", "scored", "truth", "unanswered")

    def __init__(self) -> None:
        self.count = self.unanswered = self.scored = 0
        self.loss = 0.0
        self.hits: dict[Scalar, int] = {}
        self.said: dict[Scalar, int] = {}
        self.truth: dict[Scalar, int] = {}

    def update(self, y: Any, said: Said, weight: int = 1) -> None:
        """Score one answer: `y` is the class, `said.probabilities` maps classes (as text) to probability."""
        answer = said.answer
        if answer is None:
            self.unanswered += weight
            return
        self.count += weight
        self.truth[y] = self.truth.get(y, 0) + weight
        self.said[answer] = self.said.get(answer, 0) + weight
        if answer == y:
            self.hits[y] = self.hits.get(y, 0) + weight
        if said.probabilities is not None:
            self.scored += weight
            p = said.probabilities.get(str(y), 0.0)
            self.loss -= weight * log(p if p > SMALLEST_PROBABILITY else SMALLEST_PROBABILITY)

    def merge(self, other: Self) -> None:
        """Add another tally's outcomes to this one."""
        for name in ("count", "unanswered", "scored", "loss"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("hits", "said", "truth"):
            mine = getattr(self, name)
            for key, value in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + value

    def view(self) -> dict[str, Any]:
        """count, unanswered, accuracy, f1 (macro over classes seen), log_loss."""
        classes = [c for c in self.truth if self.truth[c] or self.said.get(c)]
        scores = [2 * self.hits.get(c, 0) / (self.truth[c] + self.said.get(c, 0)) for c in classes]
        return {
            "count": self.count,
            "unanswered": self.unanswered,
            "accuracy": _ratio(sum(self.hits.values()), self.count),
            "f1": _ratio(sum(scores), len(scores)),
            "log_loss": _ratio(self.loss, self.scored),
            "classes": len(classes),
        }


class RegressionTally:
    """Sums of a regression model: absolute and squared errors, and the label's moments for R2.

    Labels are summed as distances from the first one, `shift`: that keeps the sums linear, so that outcomes can be
    taken back, without the cancellation that raw squares of numbers far from zero would suffer.
    """

    __slots__ = ("absolute", "count", "shift", "squared", "unanswered", "y_squares", "y_sum")

    def __init__(self) -> None:
        self.count = self.unanswered = 0
        self.absolute = self.squared = 0.0
        self.shift: float | None = None
        self.y_sum = self.y_squares = 0.0

    def update(self, y: Any, said: Said, weight: int = 1) -> None:
        """Score one answer: `y` and `said.answer` are finite numbers."""
        answer = said.answer
        if answer is None:
            self.unanswered += weight
            return
        self.count += weight
        error = y - answer
        self.absolute += weight * abs(error)
        self.squared += weight * error * error
        if self.shift is None:
            self.shift = y
        distance = y - self.shift
        self.y_sum += weight * distance
        self.y_squares += weight * distance * distance

    def merge(self, other: Self) -> None:
        """Add another tally's outcomes to this one."""
        if other.shift is not None:
            if self.shift is None:
                self.shift = other.shift
            apart = other.shift - self.shift
            self.y_squares += other.y_squares + apart * (2 * other.y_sum + apart * other.count)
            self.y_sum += other.y_sum + apart * other.count
        self.count += other.count
        self.unanswered += other.unanswered
        self.absolute += other.absolute
        self.squared += other.squared

    def view(self) -> dict[str, Any]:
        """count, unanswered, mae, rmse, r2 (against the mean label)."""
        mse = _ratio(self.squared, self.count)
        spread = self.y_squares - self.y_sum * self.y_sum / self.count if self.count > 0 else 0.0
        return {
            "count": self.count,
            "unanswered": self.unanswered,
            "mae": _ratio(self.absolute, self.count),
            "rmse": None if mse is None else sqrt(max(mse, 0.0)),
            "r2": 1.0 - self.squared / spread if spread > 0 else None,
        }


TALLIES: dict[Task, type[BinaryTally] | type[MulticlassTally] | type[RegressionTally]] = {
    "binary": BinaryTally,
    "multiclass": MulticlassTally,
    "regression": RegressionTally,
}


class Prequential:
    """One model's metrics, overall and over the last few thousand outcomes.

    Only the block being filled is touched per outcome; full blocks are merged into the overall tally and kept for the
    window. Blocks count outcomes, so their borders depend on the log alone, never on batches. Bounds: `WINDOW_BLOCKS`
    and two tallies, of fixed size; but multiclass counts by class, and how many there may be is the shard's to say.
    """

    __slots__ = ("_block", "_closed", "_filled", "_recent", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self._block: Any = TALLIES[task]()
        self._closed: Any = TALLIES[task]()
        self._recent: deque[Any] = deque(maxlen=WINDOW_BLOCKS)
        self._filled = 0

    def update(self, y: Any, said: Said) -> None:
        """Score one answer on its first label."""
        self._block.update(y, said)
        self._filled += 1
        if self._filled == BLOCK_OUTCOMES:
            self._closed.merge(self._block)
            self._recent.append(self._block)
            self._block = TALLIES[self.task]()
            self._filled = 0

    def correct(self, before: Any, after: Any, said: Said) -> None:
        """Replace an answer's label. Revises the overall figures; windows already shown keep what was known then."""
        if before is not None:
            self._closed.update(before, said, -1)
        self._closed.update(after, said)

    def overall(self) -> Any:
        """A tally of all outcomes so far (a copy)."""
        return self._merged((self._closed, self._block))

    def windowed(self) -> Any:
        """A tally of the last outcomes (a copy)."""
        return self._merged((*self._recent, self._block))

    def _merged(self, parts: tuple[Any, ...]) -> Any:
        total = TALLIES[self.task]()
        for part in parts:
            total.merge(part)
        return total


def roc_auc(positives: list[int], negatives: list[int]) -> float | None:
    """Area under the ROC curve from two score histograms of equal bins; None unless both classes were seen."""
    n_positive, n_negative = sum(positives), sum(negatives)
    if n_positive <= 0 or n_negative <= 0:
        return None
    below = accumulate(negatives, initial=0)
    wins = sum(p * (b + 0.5 * n) for p, n, b in zip(positives, negatives, below, strict=False) if p)
    return wins / (n_positive * n_negative)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
