"""A model's place on a shard: it answers, is scored, learns, and cannot be left half-changed.

River models are easily broken: a `learn_one` that raises leaves a half-changed model behind. So a slot keeps a recent
pickled copy and the examples learnt since; on an exception it goes back to the copy and learns those again, which gives
exactly the model that had never seen the bad example. When the copy was taken does not matter for the result, so
batches and restarts do not either.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any

import msgspec

from headrace import checkpoint
from headrace.contracts.events import Answer, Features, ModelDeployed, Prediction, Role, Scalar
from headrace.contracts.left_out import Below
from headrace.contracts.stream import Task
from headrace.fold import specification
from headrace.fold.features import FeaturePlan
from headrace.fold.metrics import Prequential

JOURNAL_EXAMPLES = 4000
"""Examples learnt between two copies: bounds both the memory and the time of a recovery."""

# Kept packed, the journal is a fifth of the size, and the memory of the dicts is reused while the cache holds it:
# measured at two microseconds an example for a light model.
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[Features, Scalar]).decode

Said = tuple[Scalar | None, float | None, dict[str, float] | None]
NO_ANSWER: Said = (None, None, None)
MEASURED = ("clock", "ticks")


class ModelSlot:
    """One deployed model version with its features, metrics and safety copy.

    Bounds: a journal of `JOURNAL_EXAMPLES`, the features' and the metrics' own. The model has none but what its class
    declares: a linear model keeps a weight for every feature name it ever saw, a one-hot encoder every category.
    """

    clock: Callable[[], int] | None = None
    """Set from outside, for a while, by whoever wants to know how long the model works; never part of a state."""
    ticks = 0
    """What it worked while there was a clock."""

    def __init__(self, deployed: ModelDeployed, task: Task, since: int = -1) -> None:
        checked = specification.check(deployed.specification, task=task)
        self.model = deployed.model
        self.version = deployed.version
        self.role: Role = deployed.role
        self.task: Task = task
        self.since = since
        """Offset of its deployment."""
        self.deployed = deployed if deployed.learnt else None
        """What is needed to make it again, if it learnt before its deployment."""
        self.left_out: tuple[Below, ...] = ()
        """What it was rebuilt without."""
        self.frozen = False
        self.answered = 0
        self.learned = 0
        self.failures = 0
        self.metrics = Prequential(task)
        self._inputs = checked.inputs
        self._takes_all = checked.inputs is None and not checked.features
        self.plan = FeaturePlan(checked.features) if checked.features else None
        """Features by key; it learns labels too, whether or not the model is frozen."""
        self._estimator: Any = specification.build(checked)
        self._has_probabilities = True
        self._journal: list[bytes] = []
        """Examples learnt since the copy was taken."""
        self._copy = b""
        self._take_copy()
        self.clock = None
        self.ticks = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in MEASURED}

    def ask(self, x: Features, entity: str, at: int) -> tuple[Features, Said]:
        """The features as served for `x`, and what the model says to them (see `answer`)."""
        clock = self.clock
        began = clock() if clock is not None else 0
        served = x if self._takes_all else self.served(x, entity, at)
        said = self.answer(served)
        if clock is not None:
            self.ticks += clock() - began
        return served, said

    def tell(
        self, x: Features, entity: str, at: int, served: Features, y: Scalar, said: Answer | Prediction
    ) -> None:
        """The label of an observation that it was asked about: score what was said, learn."""
        began = self.clock() if self.clock is not None else 0
        self.settle(served, y, said)
        if self.plan is not None:
            self.plan.learn(x, entity, at, y)
        if self.clock is not None:
            self.ticks += self.clock() - began

    def served(self, x: Features, entity: str, at: int) -> Features:
        """The features this model sees for `x`; computed once and kept until the label comes."""
        if self._takes_all:
            return x
        chosen = x if self._inputs is None else {name: x[name] for name in self._inputs if name in x}
        if self.plan is None:
            return chosen
        return {**chosen, **self.plan.compute(x, entity, at)}

    def answer(self, x: Features) -> Said:
        """(answer, score, probabilities) for `x`; all None if the model cannot say (failures are counted)."""
        try:
            if self.task == "binary" and self._has_probabilities:
                probabilities = self._estimator.predict_proba_one(x)
                if not probabilities:
                    return NO_ANSWER  # an untrained tree has no opinion yet
                score = float(probabilities.get(True, 0.0))
                if 0.0 <= score <= 1.0:  # False for NaN
                    self.answered += 1
                    return score > 0.5, score, None
            elif self.task == "multiclass" and self._has_probabilities:
                return self._answer_multiclass(x)
            else:
                return self._answer_plainly(x)
        except NotImplementedError:
            if (
                self._has_probabilities
            ):  # asking is the only way to know; a trial call could initialise the model
                self._has_probabilities = False
                return self.answer(x)
        except Exception:  # noqa: S110  any estimator may raise anything; counted below, the stream goes on
            pass
        self.failures += 1
        return NO_ANSWER

    def _answer_multiclass(self, x: Features) -> Said:
        probabilities = self._estimator.predict_proba_one(x)
        if not probabilities:
            return NO_ANSWER
        if not all(0.0 <= p <= 1.0 for p in probabilities.values()):
            raise ValueError("probabilities out of [0, 1]")
        self.answered += 1
        best = max(probabilities, key=probabilities.get)
        return best, None, {str(name): float(p) for name, p in probabilities.items()}

    def _answer_plainly(self, x: Features) -> Said:
        """Regressors, and classifiers that only name a class."""
        value = self._estimator.predict_one(x)
        if value is None:
            return NO_ANSWER
        if self.task == "regression":
            value = float(value)
            if not isfinite(value):
                raise ValueError("not a finite number")
        self.answered += 1
        return value, None, None

    def settle(self, x: Features, y: Scalar, said: Answer | Prediction) -> None:
        """Score what was said on the label, then learn, on the features as served.

        On any exception from the model it is as if the example had not come (see the module's text).
        """
        self.metrics.update(y, said)
        if self.frozen:
            return
        try:
            self._estimator.learn_one(x, y)
        except Exception:
            self.failures += 1
            self._restore()
            return
        self.learned += 1
        journal = self._journal
        journal.append(_pack((x, y)))
        if len(journal) == JOURNAL_EXAMPLES:
            self._take_copy()

    def _take_copy(self) -> None:
        self._copy = checkpoint.dumps(self._estimator)
        self._journal.clear()

    def _restore(self) -> None:
        self._estimator = checkpoint.loads(self._copy)
        for example in self._journal:
            self._estimator.learn_one(*_unpack(example))
        self._take_copy()  # what fails once may fail often

    def state_bytes(self) -> int:
        """Bytes that the model takes where it is stored, as of its last copy, and its features by key now.

        The model is not pickled for it: CPython looks attributes up more slowly in whatever has been pickled.
        """
        return len(self._copy) + (0 if self.plan is None else len(checkpoint.dumps(self.plan)))

    def fingerprint(self) -> str:
        """sha256 of the model's state, equal for equal states in any process."""
        return checkpoint.fingerprint(self._estimator)
