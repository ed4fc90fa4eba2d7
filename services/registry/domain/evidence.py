"""Evidence that one model is better than another on the same events, valid however often one looks.

Somebody bets, before each label, that the second model loses less than the first: a stake `s` of the capital on the
difference of their losses, which multiplies it by 1 + s * difference. If the second is not better, no betting wins on
average, and the chance that capital 1 ever reaches 1 / error_rate is at most `error_rate` (Ville's inequality): at any
time, at every look, with no need to fix the number of labels. A second purse bets the other way. The capital is spread
over `STAKES`, as the best stake is not known; so it depends on which differences came, hardly on their order, and those
of several partitions may be mixed as they come. After Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting" (2024), and Shafer, "Testing by betting" (2021).

What is claimed is about each next difference given all before it. "Not better" is: at no time better on average.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.contracts.events import Answer, Outcome, Scalar
from headrace.contracts.stream import Task

STAKES = (0.95, 0.4, 0.17, 0.07, 0.03, 0.013)
"""Within 15 % of the best growth for any best stake between 0.01 and 1, at the price of a sixth of the capital each."""

Verdict = Literal["better", "worse"]

Differences = npt.NDArray[np.float64]
"""Losses of the first model minus those of the second, each in [-1, 1]: above 0 where the second is better."""


class Evidence(msgspec.Struct, frozen=True):
    """What the labels so far say of the second model against the first.

    mean, squares: of the differences, summed. better, worse: logarithm of the factor by which each stake has multiplied
    what was put on it.
    """

    labels: int = 0
    total: float = 0.0
    squares: float = 0.0
    better: tuple[float, ...] = (0.0,) * len(STAKES)
    worse: tuple[float, ...] = (0.0,) * len(STAKES)

    @property
    def mean(self) -> float:
        """How much less the second model loses an event, on average; 0 before the first label."""
        return self.total / self.labels if self.labels else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the differences."""
        return sqrt(max(self.squares / self.labels - self.mean**2, 0.0)) if self.labels else 0.0

    @property
    def for_better(self) -> float:
        """Capital of who bet on "better" from the start with 1: an e-value against "not better"."""
        return _capital(self.better)

    @property
    def for_worse(self) -> float:
        """Capital of who bet on "worse"."""
        return _capital(self.worse)


def weigh(
    evidence: Evidence, differences: Differences, error_rate: float, harm_rate: float
) -> tuple[Evidence, Verdict | None]:
    """The evidence after some more labels, up to the one that decides, if one does.

    error_rate: how often "better" may be said of one that is not; harm_rate: "worse", of one that is not.
    """
    if not len(differences):
        return evidence, None
    stakes = np.array(STAKES)
    better = np.cumsum(np.log1p(np.outer(differences, stakes)), axis=0) + evidence.better
    worse = np.cumsum(np.log1p(-np.outer(differences, stakes)), axis=0) + evidence.worse
    decided: list[tuple[int, Verdict]] = []
    sides: tuple[tuple[Verdict, npt.NDArray[np.float64], float], ...] = (
        ("better", better, error_rate),
        ("worse", worse, harm_rate),
    )
    for verdict, capitals, rate in sides:
        reached = np.logaddexp.reduce(capitals, axis=1) - log(len(STAKES)) >= -log(rate)
        if reached.any():
            decided.append((int(reached.argmax()), verdict))
    last, found = min(decided) if decided else (len(differences) - 1, None)
    used = differences[: last + 1]
    after = Evidence(
        evidence.labels + last + 1,
        evidence.total + float(used.sum()),
        evidence.squares + float(np.square(used).sum()),
        tuple(better[last].tolist()),
        tuple(worse[last].tolist()),
    )
    return after, found


def differences(
    task: Task, outcomes: Sequence[Outcome], served: tuple[str, int], beside: tuple[str, int]
) -> list[float]:
    """Of the outcomes that `served` answered with `beside` asked too: the loss of `served` minus that of `beside`.

    served, beside: (model, version). Only first labels count, and the expiry that counts as one.
    """
    found = []
    for outcome in outcomes:
        if (outcome.model, outcome.version) != served or outcome.y is None:
            continue
        if outcome.status not in ("labelled", "expired"):
            continue
        for other in outcome.challengers:
            if (other.model, other.version) == beside:
                found.append(difference(task, outcome.y, outcome, other))
                break
    return found


def difference(task: Task, y: Scalar, first: Answer | Outcome, second: Answer | Outcome) -> float:
    """The loss of the first answer minus that of the second, in [-1, 1]. No answer loses as much as the worst one.

    binary, multiclass: Brier score, or 0 and 1 where there is no probability. regression: absolute errors, relative to
    both together, as they have no bound of their own.
    """
    if task != "regression":
        return _loss(task, y, first) - _loss(task, y, second)
    a, b = _error(y, first), _error(y, second)
    if a == b:
        return 0.0
    if a == float("inf") or b == float("inf"):
        return 1.0 if a > b else -1.0
    return (a - b) / (a + b)


def _loss(task: Task, y: Scalar, said: Answer | Outcome) -> float:
    if said.answer is None:
        return 1.0
    if task == "binary" and said.score is not None:
        return (said.score - (1.0 if y else 0.0)) ** 2
    if task == "multiclass" and said.probabilities is not None:
        right = str(y)
        missed = sum(p * p for name, p in said.probabilities.items() if name != right)
        return min((missed + (1.0 - said.probabilities.get(right, 0.0)) ** 2) / 2, 1.0)
    return 0.0 if said.answer == y else 1.0


def _error(y: Scalar, said: Answer | Outcome) -> float:
    return float("inf") if said.answer is None else abs(float(said.answer) - float(y))


def _capital(logarithms: tuple[float, ...]) -> float:
    highest = max(logarithms)
    # More than 1e300 is told as that much: it has to be a number that JSON can hold.
    return exp(min(highest + log(sum(exp(one - highest) for one in logarithms) / len(STAKES)), 690.0))
