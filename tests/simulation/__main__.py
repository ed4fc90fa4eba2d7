"""`make sim SEED=n`: one seeded history, told in full. Without a seed: as many seeds as fit into the time.

A seed that fails prints the one command that plays it again, and what happened up to the failure.
"""

import argparse
import logging
import os
import random
import sys
import time
from collections import Counter

import structlog

from tests.simulation.checker import Violation
from tests.simulation.states import check_states
from tests.simulation.world import WEIGHTS, Action, World

ACTIONS = 500
BUDGET_SECONDS = 45.0
SHOWN = 30


def history(seed: int, actions: int = ACTIONS) -> list[Action]:
    """The history of a seed."""
    rng = random.Random(seed)
    words = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=actions)
    return [Action(word, rng.randrange(100), rng.randrange(100), rng.randrange(100)) for word in words]


def simulate(actions: list[Action], world: World | None = None) -> World:
    """Play a history to its end and check everything. Raises `Violation`."""
    world = World() if world is None else world
    world.play(actions)
    world.settle()
    check_states(world)
    return world


def run_seed(seed: int, *, verbose: bool) -> World | None:
    """Play one seed; None if a promise was broken, which has then been told."""
    world = World()
    try:
        simulate(history(seed), world)
    except Exception as failure:
        kind = "" if isinstance(failure, Violation) else f"{type(failure).__name__}: "
        print(f"seed {seed} failed after {len(world.trace)} of {ACTIONS} actions\n{kind}{failure}")
        print(f"the last of them:\n  {chr(10).join(world.trace[-SHOWN:])}".replace("\n", "\n  "))
        print(f"play it again: make sim SEED={seed}")
        if not isinstance(failure, Violation):
            raise
        return None
    if verbose:
        _tell("faults", world.faults)
        _tell("seen", world.checker.seen)
        _tell("checked", world.checker.checks)
        print(f"seed {seed}: {ACTIONS} actions, {world.events} events, {sum(world.faults.values())} faults")
    return world


def _tell(title: str, counts: dict[str, int] | Counter[str]) -> None:
    print(f"{title}:")
    for name, count in sorted(counts.items()):
        print(f"  {name:40} {count}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--budget-seconds", type=float, default=BUDGET_SECONDS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if arguments.seed is not None:
        return 0 if run_seed(arguments.seed, verbose=True) else 1
    started, first = time.process_time(), int.from_bytes(os.urandom(3), "big")
    faults: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    seeds = 0
    while time.process_time() - started < arguments.budget_seconds:
        world = run_seed(first + seeds, verbose=False)
        if world is None:
            return 1
        seeds += 1
        faults.update(world.faults)
        checks.update(world.checker.checks)
        seen.update(world.checker.seen)
    _tell("faults", faults)
    _tell("seen", seen)
    _tell("checked", checks)
    print(
        f"{seeds} seeds from {first} on, {time.process_time() - started:.0f} s of CPU: every promise was kept"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
