"""What an answer is worth once its label is known: the payoff of a deployment, and the value of counted outcomes.

A payoff is linear in what is counted anyway (the confusion matrix, right and wrong answers, summed errors). So the
value of a window is computed from its counts, at any time and with any payoff: it may be changed later, and the past is
right too. Without a payoff there is no value: None, never 0, as nobody said what an outcome is worth.
"""

from math import isfinite
from typing import Any

import msgspec

from headrace.contracts.statistics import Quality
from headrace.contracts.stream import Task
from headrace.errors import Unusable

LARGEST = 1e12
"""Of any amount in a payoff, so that a sum over all outcomes stays a finite number."""


class BinaryPayoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each true or false positive or negative is worth, in the currency; a loss is negative."""

    tp: float
    fp: float
    tn: float
    fn: float


class MulticlassPayoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an answer is worth that names the class, and one that names another."""

    right: float
    wrong: float


class RegressionPayoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an answer is worth: `constant`, and so much for each unit of its absolute and of its squared error."""

    constant: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0


Payoff = BinaryPayoff | MulticlassPayoff | RegressionPayoff

PAYOFFS: dict[Task, type[BinaryPayoff] | type[MulticlassPayoff] | type[RegressionPayoff]] = {
    "binary": BinaryPayoff,
    "multiclass": MulticlassPayoff,
    "regression": RegressionPayoff,
}


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts of answers held against their labels; a `contracts.statistics.Quality` has them too.

    count: answers; correct: equal to their label; tp..fn: of boolean labels; numeric, absolute, squared: how many had
    numbers for labels, and their summed errors.
    """

    count: int = 0
    correct: int = 0
    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0
    numeric: int = 0
    absolute: float = 0.0
    squared: float = 0.0

    def since(self, before: "Counts") -> "Counts":
        """What was counted after `before`, which is an earlier state of the same."""
        names = self.__struct_fields__
        return Counts(**{name: getattr(self, name) - getattr(before, name) for name in names})


def read_payoff(document: Any, task: Task) -> Payoff:
    """A payoff from its plain form, for a stream with this task. Raises `Unusable`."""
    kind = PAYOFFS[task]
    try:
        found = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise Unusable(
            f"a {task} stream's payoff has {', '.join(kind.__struct_fields__)}: {error}", where="payoff"
        ) from None
    for name in kind.__struct_fields__:
        amount = getattr(found, name)
        if not isfinite(amount) or abs(amount) > LARGEST:
            raise Unusable(f"{name} is a number within {LARGEST:g}", where="payoff")
    return found


Scored = Counts | Quality


def worth(payoff: Payoff, scored: Scored) -> float:
    """The value of all counted answers; answers that were not given are worth nothing."""
    match payoff:
        case BinaryPayoff(tp, fp, tn, fn):
            return tp * scored.tp + fp * scored.fp + tn * scored.tn + fn * scored.fn
        case MulticlassPayoff(right, wrong):
            return right * scored.correct + wrong * (scored.count - scored.correct)
        case RegressionPayoff(constant, absolute, squared):
            return constant * scored.numeric + absolute * scored.absolute + squared * scored.squared


def decisions(payoff: Payoff, scored: Scored) -> int:
    """How many answers `worth` has valued."""
    match payoff:
        case BinaryPayoff():
            return scored.tp + scored.fp + scored.tn + scored.fn
        case MulticlassPayoff():
            return scored.count
        case RegressionPayoff():
            return scored.numeric
