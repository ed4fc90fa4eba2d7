"""An operator in a process of its own, who may be killed at any moment: `python -m tests.integration.registry_worker`.

Random commands against one database, a line of JSON for each that was answered: what it was, when it was sent and when
its answer came (the machine's monotonic clock, so that processes can be compared), and what the answer was.
"""

import json
import random
import sys
import time
from typing import Any

from headrace.errors import HeadraceError
from services.registry.database import Database
from services.registry.domain import rollouts
from services.registry.domain.audit import By, Seal
from services.registry.domain.rollouts import Plan
from services.registry.registry import now_ms
from services.registry.rollouts import RolloutStore
from services.registry.store import Absent, Store
from services.registry.trail import Trail

SEAL = Seal(bytes(32))
MODELS = "abcd"
VERBS = (
    "promote",
    "promote",
    "retire",
    "freeze",
    "unfreeze",
    "deploy",
    "challenge",
    "begin",
    "turn",
    "turn",
    "abort",
)


def command(store: Store, memory: RolloutStore, verb: Any, model: str, by: By) -> int | bool | None:
    """Carry out a command; a decision's number where there is one."""
    match verb:
        case "deploy" | "challenge":
            role: Any = "champion" if verb == "deploy" else "challenger"
            return store.deploy("s", store.version(model), role, by)
        case "begin":
            return memory.begin("s", store.version(model), "binary", Plan(canary=(0.5,)), {0: 0}, by) > 0
        case "turn":
            turn = random.choice([rollouts.promote, rollouts.roll_back])
            number = memory.get("s").number
            return memory.turn("s", number, lambda it, at: turn(it, at, by.name), by, action="rollout-turn")
        case "abort":
            number = memory.get("s").number
            return memory.turn(
                "s", number, lambda it, at: rollouts.abort(it, at, by.name), by, action="rollout-abort"
            )
        case _:
            return store.change("s", model, verb, by)


def main(url: str, seed: int) -> None:
    """Go on until somebody ends it."""
    chance = random.Random(seed)
    random.seed(seed)
    database = Database(url)
    trail = Trail(database, SEAL, now_ms)
    store, memory = Store(database, now_ms, trail), RolloutStore(database, now_ms, trail)
    by = By(f"operator-{seed}")
    while True:
        verb, model = chance.choice(VERBS), chance.choice(MODELS)
        sent = time.monotonic_ns()
        try:
            answer: Any = command(store, memory, verb, model, by)
        except (HeadraceError, Absent) as error:
            answer = type(error).__name__
        print(
            json.dumps([verb, model, by.name, sent, time.monotonic_ns(), answer]), flush=True
        )  # the protocol


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
