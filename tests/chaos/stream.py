"""The stream that is under load: its contract, its two models, and the events, drawn from a seed.

Labels follow a rule with noise, so models have something to learn. Most come soon, some after the wait is over, some
never: expiry, late and missing labels are part of every run. `at` is the wall clock, as in life.
"""

import json
import random
import time
from typing import Any, NamedTuple

STREAM = "chaos"
PARTITIONS = 2
WAIT_SECONDS = 20

CONTRACT: dict[str, Any] = {
    "name": STREAM,
    "task": "binary",
    "fields": [
        {"name": "amount", "type": "number", "required": True, "minimum": -1000, "maximum": 1000},
        {"name": "hour", "type": "integer", "required": True, "minimum": 0, "maximum": 23},
        {"name": "channel", "type": "string", "categories": ["web", "phone", "shop"]},
        {"name": "note", "type": "string", "max_length": 40},
        {"name": "vip", "type": "boolean"},
        {"name": "customer", "type": "string", "required": True, "feature": False},
        {"name": "opened", "type": "time", "required": True, "feature": False},
    ],
    "event_time": "opened",
    "entity": "customer",
    "partitions": PARTITIONS,
    "label": {"wait_seconds": WAIT_SECONDS},
}

CHAMPION = "linear"
CHALLENGER = "tree"
MODELS: dict[str, dict[str, Any]] = {
    CHAMPION: {
        "model": [
            {
                "union": [
                    [
                        {"class": "compose.SelectType", "parameters": {"types": ["number"]}},
                        "preprocessing.StandardScaler",
                    ],
                    [
                        {"class": "compose.SelectType", "parameters": {"types": ["str"]}},
                        "preprocessing.OneHotEncoder",
                    ],
                ]
            },
            "linear_model.LogisticRegression",
        ],
    },
    CHALLENGER: {
        "model": {
            "class": "tree.HoeffdingTreeClassifier",
            "parameters": {"grace_period": 50, "max_depth": 10},
        },
    },
}


class Event(NamedTuple):
    """One event to send: when (seconds, monotonic clock), its id, its entity, its body without the time."""

    due: float
    is_label: bool
    id: str
    entity: str
    body: dict[str, Any]

    def line(self) -> bytes:
        """The event as JSON, stamped with the time of now."""
        now = time.time_ns() // 1_000_000
        stamp = {"at": now} if self.is_label else {"opened": now}
        return json.dumps({**stamp, **self.body}).encode()  # an odd one brings a time of its own


def observation(rng: random.Random, identity: str, due: float) -> tuple[Event, bool]:
    """A new observation and the truth about it."""
    amount, hour = rng.gauss(0, 100), rng.randrange(24)
    body: dict[str, Any] = {
        "id": identity,
        "amount": max(-1000.0, min(1000.0, amount)),
        "hour": hour,
        "customer": f"c{rng.randrange(50)}",
    }
    if rng.random() < 0.9:
        body["channel"] = rng.choice(["web", "phone", "shop"])
    if rng.random() < 0.5:
        body["vip"] = rng.random() < 0.3
    if rng.random() < 0.1:
        body["note"] = "ü" * rng.randrange(1, 9)
    truth = (amount > 20) != (hour > 18)
    y = truth if rng.random() < 0.9 else not truth
    return Event(due, False, identity, body["customer"], body), y


def label(rng: random.Random, seen: Event, y: bool) -> Event | None:
    """The label of an observation, due when it becomes known; None if it never does."""
    draw = rng.random()
    if draw < 0.1:
        return None
    delay = WAIT_SECONDS + rng.uniform(1, 8) if draw < 0.13 else rng.uniform(0.0, 4.0)
    body = {"id": seen.id, "label": y, "entity": seen.entity}
    return Event(seen.due + delay, True, seen.id, seen.entity, body)
