"""Answers scored on their labels, in sums that merge: the monitor's own tally, independent of the one in the fold.

One struct serves every task: which sums are fed is seen from the label (a boolean, a text, a number), and which
figures are shown is decided by the contract's task. Histograms have as many bins as the fold's, so both give the same
ROC AUC. `weight` -1 takes an outcome back, when a correction replaces its label.
"""

from collections.abc import Sequence
from math import log, sqrt
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from headrace.contracts.events import Scalar
from headrace.contracts.statistics import SCORE_BINS, Quality
from headrace.contracts.stream import Task

SMALLEST_PROBABILITY = 1e-15
CLASSES_CONFUSED = 16
"""Labels told apart in a confusion matrix, and answers to each; more are counted as `other`."""
OTHER_CLASS = "other"
CLASS_LENGTH = 32
"""Characters of a class by which it is told apart."""
LARGEST_ERROR = 1e150
"""Errors are held within this, so that a sum of squares stays finite (JSON knows no infinity)."""

BINARY_METRICS = ("roc_auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1")
MULTICLASS_METRICS = ("accuracy", "log_loss")
REGRESSION_METRICS = ("mae", "rmse", "r2")
METRICS = tuple(dict.fromkeys((*BINARY_METRICS, *MULTICLASS_METRICS, *REGRESSION_METRICS)))


Places = NDArray[np.intp]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


class Said(Protocol):
    """An answer, as predictions and outcomes carry it."""

    answer: Scalar | None
    score: float | None
    probabilities: dict[str, float] | None


def update(quality: Quality, y: Scalar, said: Said, weight: int = 1, bins: int = SCORE_BINS) -> None:
    """Score one answer on its label. bins: of the score histograms; a group, with fewer, has no confusion matrix."""
    answer = said.answer
    if answer is None:
        quality.unanswered += weight
        return
    quality.count += weight
    if answer == y:
        quality.correct += weight
    if y is True or y is False:
        _binary(quality, y, answer, said.score, weight, bins)
        return
    if bins == SCORE_BINS and not isinstance(y, float):
        _confuse(quality.confusion, class_text(y), class_text(answer), weight)
    if said.probabilities is not None:
        _add_loss(quality, said.probabilities.get(str(y), 0.0), weight)
    elif not isinstance(y, str) and not isinstance(answer, str):
        _numeric(quality, float(y), float(answer), weight)


def update_binary(
    tallies: Sequence[Quality], which: Places, y: Flags, answer: Flags, score: Numbers, bins: int = SCORE_BINS
) -> None:
    """Score many answers, each in its tally, exactly as `update` would one after the other.

    which: of each answer, the index of its tally. y, answer: booleans; score: NaN without one.
    """
    cells = np.bincount(which * 4 + y * 2 + answer, minlength=4 * len(tallies)).reshape(-1, 4)
    for tally, (tn, fp, fn, tp) in zip(tallies, cells.tolist(), strict=True):
        tally.tn, tally.fp, tally.fn, tally.tp = tally.tn + tn, tally.fp + fp, tally.fn + fn, tally.tp + tp
        tally.count += tn + fp + fn + tp
        tally.correct += tn + tp
    scored = (score >= 0.0) & (score <= 1.0)  # False for NaN
    if not scored.all():
        which, y, score = which[scored], y[scored], score[scored]
    right = np.where(y, score, 1.0 - score)
    miss = 1.0 - right
    # One logarithm at a time: those of a whole array need not agree to the last bit wherever a batch begins.
    losses = [-log(one) for one in np.maximum(right, SMALLEST_PROBABILITY).tolist()]
    brier = np.array([tally.brier for tally in tallies])
    loss = np.array([tally.loss for tally in tallies])
    np.add.at(brier, which, miss * miss)
    np.add.at(loss, which, np.array(losses, np.float64))
    counts = np.bincount(which, minlength=len(tallies)).tolist()
    for n, tally in enumerate(tallies):
        if counts[n]:  # or a sum that nothing was added to would be written out
            tally.brier, tally.loss = float(brier[n]), float(loss[n])
            tally.scored += counts[n]
    cells = (which * 2 + y) * (bins + 1) + (score * bins).astype(np.intp)
    found, first, times = np.unique(cells, return_index=True, return_counts=True)
    for n in np.argsort(first).tolist():
        side, place = divmod(int(found[n]), bins + 1)
        tally = tallies[side // 2]
        histogram = tally.positives if side % 2 else tally.negatives
        histogram[place] = histogram.get(place, 0) + int(times[n])


def is_score(score: float | None) -> TypeGuard[float]:
    """Whether this is a probability. The topics may be written by others, and a bin for each number has no bound."""
    return score is not None and 0.0 <= score <= 1.0


def _binary(quality: Quality, y: bool, answer: Scalar, score: float | None, weight: int, bins: int) -> None:
    if y:
        if answer:
            quality.tp += weight
        else:
            quality.fn += weight
    elif answer:
        quality.fp += weight
    else:
        quality.tn += weight
    if not is_score(score):
        return
    histogram = quality.positives if y else quality.negatives
    place = int(score * bins)
    histogram[place] = histogram.get(place, 0) + weight
    right = score if y else 1.0 - score
    miss = 1.0 - right
    quality.brier += weight * miss * miss
    _add_loss(quality, right, weight)


def class_text(answer: Scalar) -> str:
    """A class as JSON has it under a name, short."""
    text = answer if isinstance(answer, str) else str(answer).lower()
    return text[:CLASS_LENGTH]


def _confuse(confusion: dict[str, dict[str, int]], label: str, answer: str, by: int) -> None:
    if label not in confusion and len(confusion) >= CLASSES_CONFUSED:
        label = OTHER_CLASS
    row = confusion.setdefault(label, {})
    if answer not in row and len(row) >= CLASSES_CONFUSED:
        answer = OTHER_CLASS
    row[answer] = row.get(answer, 0) + by


def _add_loss(quality: Quality, right: float, weight: int) -> None:
    quality.scored += weight
    quality.loss -= weight * log(right if right > SMALLEST_PROBABILITY else SMALLEST_PROBABILITY)


def _numeric(quality: Quality, y: float, answer: float, weight: int) -> None:
    if quality.numeric == 0 and quality.y_sum == 0.0 and quality.y_squares == 0.0:
        quality.y_origin = y
    error = min(max(y - answer, -LARGEST_ERROR), LARGEST_ERROR)
    distance = y - quality.y_origin
    quality.numeric += weight
    quality.absolute += weight * abs(error)
    quality.squared += weight * error * error
    quality.y_sum += weight * distance
    quality.y_squares += weight * distance * distance


def merge(into: Quality, other: Quality) -> None:
    """Add another tally's outcomes."""
    for name in ("count", "unanswered", "correct", "tp", "fp", "tn", "fn", "scored", "loss", "brier"):
        setattr(into, name, getattr(into, name) + getattr(other, name))
    for mine, more in ((into.positives, other.positives), (into.negatives, other.negatives)):
        for place, count in more.items():
            mine[place] = mine.get(place, 0) + count
    for label, row in other.confusion.items():
        for answer, count in row.items():
            _confuse(into.confusion, label, answer, count)
    if other.numeric == 0 and other.y_sum == 0.0 and other.y_squares == 0.0:
        pass
    elif into.numeric == 0 and into.y_sum == 0.0 and into.y_squares == 0.0:
        into.y_origin, into.y_sum, into.y_squares = other.y_origin, other.y_sum, other.y_squares
    else:
        shift = other.y_origin - into.y_origin
        into.y_sum += other.y_sum + other.numeric * shift
        into.y_squares += other.y_squares + 2.0 * shift * other.y_sum + other.numeric * shift * shift
    into.numeric += other.numeric
    into.absolute += other.absolute
    into.squared += other.squared


def figures(quality: Quality, task: Task | None) -> dict[str, float | int | None]:
    """The usual figures by their usual names, None where they have no meaning yet; `task` None gives the counts."""
    shown: dict[str, float | int | None] = {"count": quality.count, "unanswered": quality.unanswered}
    if task == "binary":
        shown |= _binary_figures(quality)
    elif task == "multiclass":
        shown["accuracy"] = _ratio(quality.correct, quality.count)
        shown["log_loss"] = _ratio(quality.loss, quality.scored)
    elif task == "regression":
        shown |= _regression_figures(quality)
    return shown


def _binary_figures(quality: Quality) -> dict[str, float | int | None]:
    return {
        "roc_auc": roc_auc(quality.positives, quality.negatives),
        "log_loss": _ratio(quality.loss, quality.scored),
        "brier": _ratio(quality.brier, quality.scored),
        "accuracy": _ratio(quality.tp + quality.tn, quality.count),
        "precision": _ratio(quality.tp, quality.tp + quality.fp),
        "recall": _ratio(quality.tp, quality.tp + quality.fn),
        "f1": _ratio(2 * quality.tp, 2 * quality.tp + quality.fp + quality.fn),
        "positives": quality.tp + quality.fn,
    }


def _regression_figures(quality: Quality) -> dict[str, float | int | None]:
    n = quality.numeric
    mse = _ratio(quality.squared, n)
    spread = quality.y_squares - quality.y_sum * quality.y_sum / n if n > 0 else 0.0
    return {
        "mae": _ratio(quality.absolute, n),
        "rmse": None if mse is None else sqrt(max(mse, 0.0)),
        "r2": 1.0 - quality.squared / spread if spread > 0.0 else None,
    }


def roc_auc(positives: dict[int, int], negatives: dict[int, int]) -> float | None:
    """Area under the ROC curve from two sparse score histograms, ties half; None unless both classes were seen."""
    n_positive, n_negative = sum(positives.values()), sum(negatives.values())
    if n_positive <= 0 or n_negative <= 0:
        return None
    wins = 0.0
    below = 0
    for place in sorted(positives.keys() | negatives.keys()):
        here = negatives.get(place, 0)
        wins += positives.get(place, 0) * (below + 0.5 * here)
        below += here
    return wins / (n_positive * n_negative)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
