"""An independent reading of a stream's log: a plain River loop, written without any of Headrace's code.

The oracle of the "same bits" tests. It reads the log's JSON, keeps a dict and a heap, asks River, learns when the label
comes, and lists what the system should have said. Slow and obvious on purpose.
"""

import heapq
import json
import numbers
from typing import Any, NamedTuple

from river import compose, linear_model, preprocessing


class Expected(NamedTuple):
    """What the system should emit, in order, for one partition."""

    predictions: list[tuple[str, int, float]]
    """(id, log offset, score)"""
    outcomes: list[tuple[str, str, bool | None, float]]
    """(id, status, label, score)"""


def flights_model() -> Any:
    """The demo's champion, spelt out in River."""
    return (
        (compose.SelectType(numbers.Number) | preprocessing.StandardScaler())
        + (compose.SelectType(str) | preprocessing.OneHotEncoder())
    ) | linear_model.LogisticRegression()


def replay(log: list[tuple[int, bytes]], model: Any, wait_seconds: int) -> Expected:
    """Run the log, (offset, value) pairs of one partition, through `model` (binary, one deployment)."""
    predictions: list[tuple[str, int, float]] = []
    outcomes: list[tuple[str, str, bool | None, float]] = []
    waiting: dict[str, tuple[dict[str, Any], float]] = {}
    seen: set[str] = set()
    deadlines: list[tuple[int, int, str]] = []
    now = 0
    for offset, value in log:
        record = json.loads(value)
        if record["at"] > now:
            now = record["at"]
            while deadlines and deadlines[0][0] < now:
                _, _, late = heapq.heappop(deadlines)
                if late in waiting:
                    outcomes.append((late, "expired", None, waiting.pop(late)[1]))
        if record["type"] == "observation" and record["id"] not in seen:
            seen.add(record["id"])
            score = model.predict_proba_one(record["x"])[True]
            predictions.append((record["id"], offset, score))
            waiting[record["id"]] = (record["x"], score)
            heapq.heappush(deadlines, (record["at"] + 1000 * wait_seconds, offset, record["id"]))
        elif record["type"] == "label" and record["id"] in waiting:
            x, score = waiting.pop(record["id"])
            outcomes.append((record["id"], "labelled", record["y"], score))
            model.learn_one(x, record["y"])
    return Expected(predictions, outcomes)
