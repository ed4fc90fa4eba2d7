"""What should have come out of a stream's log: a plain River loop for several models, without Headrace's code.

One partition at a time, slow and obvious: JSON, dicts, a heap of deadlines. Gives every prediction and outcome as the
JSON object it must be, and the counts and metrics that scoring must show, ROC AUC from 1,000 bins as documented.
"""

import heapq
import json
import math
import numbers
from collections import Counter
from typing import Any

from river import compose, linear_model, preprocessing, tree

BINS = 1000
SMALLEST = 1e-15


def linear() -> Any:
    """Scaler, one-hot and logistic regression: the champion of `stream`, spelt out in River."""
    return (
        (compose.SelectType(numbers.Number) | preprocessing.StandardScaler())
        + (compose.SelectType(str) | preprocessing.OneHotEncoder())
    ) | linear_model.LogisticRegression()


def hoeffding() -> Any:
    """The challenger."""
    return tree.HoeffdingTreeClassifier(grace_period=50, max_depth=10)


MODELS = {"linear": linear, "tree": hoeffding}


class Model:
    """A deployed model and what it has to show."""

    def __init__(self, name: str, version: int, role: str) -> None:
        self.name, self.version, self.role = name, version, role
        self.river = MODELS[name]()
        self.frozen = False
        self.counts: Counter[str] = Counter()
        self.positives = [0] * (BINS + 1)
        self.negatives = [0] * (BINS + 1)
        self.loss = self.brier = 0.0

    def say(self, x: dict[str, Any]) -> dict[str, Any]:
        """The answer, as it stands in a prediction."""
        said: dict[str, Any] = {"model": self.name, "version": self.version}
        probabilities = self.river.predict_proba_one(x)
        if probabilities:
            score = float(probabilities.get(True, 0.0))
            said |= {"answer": score > 0.5, "score": score}
            self.counts["answered"] += 1
        return said

    def settle(self, x: dict[str, Any], y: bool, said: dict[str, Any]) -> None:
        """Score, then learn."""
        score = said.get("score")
        if score is None:
            self.counts["unanswered"] += 1
        else:
            self.counts["count"] += 1
            self.counts["positives"] += y
            self.counts["right"] += said["answer"] == y
            (self.positives if y else self.negatives)[int(score * BINS)] += 1
            likely = score if y else 1.0 - score
            self.brier += (1.0 - likely) ** 2
            self.loss -= math.log(max(likely, SMALLEST))
        if not self.frozen:
            self.river.learn_one(x, y)
            self.counts["learned"] += 1


class Expected:
    """One partition: feed it (offset, value) in order, then read what must have come out."""

    def __init__(self) -> None:
        self.predictions: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.models: dict[str, Model] = {}
        self.controls: list[str] = []
        self._wait_ms = 0
        self._now = 0
        self._seen: set[str] = set()
        self._waiting: dict[
            str, tuple[dict[str, Any], dict[str, Any], list[tuple[Model, dict[str, Any]]]]
        ] = {}
        self._early: dict[str, tuple[dict[str, Any], int]] = {}
        self._deadlines: list[tuple[int, int, str]] = []

    @property
    def pending(self) -> int:
        """Observations without label."""
        return len(self._waiting)

    def feed(self, offset: int, value: bytes) -> None:
        """The next record of the log."""
        record = json.loads(value)
        if record["at"] > self._now:
            self._now = record["at"]
            while self._deadlines and self._deadlines[0][0] < self._now:
                self._late(*heapq.heappop(self._deadlines), offset)
        match record["type"]:
            case "observation":
                self._observe(record, offset)
            case "label":
                self._label(record, offset)
            case _:
                if record["id"] not in self.controls:
                    self.controls.append(record["id"])
                    self._control(record)

    def _control(self, record: dict[str, Any]) -> None:
        match record["type"]:
            case "contract":
                self._wait_ms = 1000 * record["contract"]["label"]["wait_seconds"]
            case "deploy":
                role = record.get("role", "champion")
                self.models.pop(record["model"], None)
                self.models[record["model"]] = Model(record["model"], record["version"], role)
                if role == "champion":
                    self._crown(record["model"])
            case "promote":
                self._crown(record["model"])
            case "freeze":
                self.models[record["model"]].frozen = record.get("frozen", True)
            case other:
                raise AssertionError(f"the oracle does not know {other}")

    def _crown(self, name: str) -> None:
        for model in self.models.values():
            model.role = "champion" if model.name == name else "challenger"

    def _observe(self, record: dict[str, Any], offset: int) -> None:
        identity, x = record["id"], record["x"]
        if identity in self._seen:
            self.counts["duplicates"] += 1
            return
        self._seen.add(identity)
        self.counts["observations"] += 1
        champion = [model for model in self.models.values() if model.role == "champion"]
        others = [model for model in self.models.values() if model.role != "champion"]
        said = [(model, model.say(x)) for model in champion + others]
        prediction = {"id": identity, "entity": record["entity"], "at": record["at"], "offset": offset}
        if champion:
            prediction |= said[0][1]
        if others:
            prediction["challengers"] = [answer for _, answer in said[len(champion) :]]
        self.predictions.append(prediction)
        self._waiting[identity] = (x, prediction, said)
        heapq.heappush(self._deadlines, (record["at"] + self._wait_ms, offset, identity))
        if identity in self._early:
            label, _ = self._early.pop(identity)
            self._join(label, offset)

    def _label(self, record: dict[str, Any], offset: int) -> None:
        self.counts["labels"] += 1
        identity = record["id"]
        if identity in self._waiting:
            self._join(record, offset)
        elif identity in self._seen or identity in self._early:
            self.counts["second_labels"] += 1
            self._loose(record, offset, "ignored")
        else:
            self._early[identity] = (record, offset)
            heapq.heappush(self._deadlines, (record["at"] + self._wait_ms, offset, identity))

    def _join(self, label: dict[str, Any], offset: int) -> None:
        x, prediction, said = self._waiting.pop(label["id"])
        self.counts["labelled"] += 1
        for model, answer in said:
            model.settle(x, label["y"], answer)
        self.outcomes.append(_outcome(prediction, label["at"], "labelled", offset, y=label["y"]))

    def _late(self, deadline: int, opened: int, identity: str, offset: int) -> None:
        if identity in self._waiting and self._waiting[identity][1]["offset"] == opened:
            _, prediction, _ = self._waiting.pop(identity)
            self.counts["expired"] += 1
            self.outcomes.append(_outcome(prediction, deadline, "expired", offset))
        elif identity in self._early and self._early[identity][1] == opened:
            self.counts["unmatched"] += 1
            self._loose(self._early.pop(identity)[0], offset, "unmatched")

    def _loose(self, label: dict[str, Any], offset: int, status: str) -> None:
        outcome = {name: label[name] for name in ("id", "entity", "at", "y")}
        self.outcomes.append({**outcome, "status": status, "offset": offset})


def _outcome(prediction: dict[str, Any], at: int, status: str, offset: int, **label: Any) -> dict[str, Any]:
    return {
        **prediction,
        "at": at,
        "status": status,
        "offset": offset,
        "observed_at": prediction["at"],
        "prediction_offset": prediction["offset"],
        **label,
    }


def roc_auc(models: list[Model]) -> float | None:
    """From the score histograms of a model's shards, ties counted half."""
    positives = [sum(column) for column in zip(*(model.positives for model in models), strict=True)]
    negatives = [sum(column) for column in zip(*(model.negatives for model in models), strict=True)]
    if not sum(positives) or not sum(negatives):
        return None
    below, wins = 0, 0.0
    for p, n in zip(positives, negatives, strict=True):
        wins += p * (below + n / 2)
        below += n
    return wins / (sum(positives) * sum(negatives))
