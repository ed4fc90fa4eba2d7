"""The promises hold under seeded and under searched-for histories; what the histories contain is checked too."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.memory import POINTS
from tests.simulation.__main__ import history, run_seed, simulate
from tests.simulation.stream import POISON
from tests.simulation.world import DAMAGES, DISTURBANCES, WEIGHTS, Action

SEEDS = range(12)
numbers = st.integers(0, 99)
actions = st.builds(Action, st.sampled_from(list(WEIGHTS)), numbers, numbers, numbers)
working = st.builds(
    Action, st.sampled_from(["observe", "label", "work", "disturb"]), numbers, numbers, numbers
)


def test_seeded_histories_keep_every_promise_and_leave_nothing_out() -> None:
    """Twelve seeds; together they have every fault at every point, every rule, every end of a prediction."""
    faults: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        world = run_seed(seed, verbose=False)
        assert world is not None, f"make sim SEED={seed}"
        faults.update(world.faults)
        seen.update(world.checker.seen)
    wanted = {f"{kind} {point}" for kind in DISTURBANCES for point in POINTS}
    wanted |= {f"snapshot {how}" for how in DAMAGES}
    wanted |= {"clock step", "decision half written", "duplicate", "kill", "poison", "rebalance", "zombie"}
    assert wanted - faults.keys() == set()
    ends = {f"outcome {status}" for status in ("labelled", "expired", "corrected", "unmatched", "ignored")}
    rules = {f"rejected as {rule}" for rule in {rule for _, rule in POISON}}
    more = {"outlier", "anomaly", "forgotten id", "prediction of nobody", "answer of a canary", "challenger asked",
            "no answer", "label before its observation", "false label", "expired as a negative",
            "rejected as label_type", "rejected as control", "rejected as log_record",
            "rejected as no_contract"}  # fmt: skip
    assert (ends | rules | more) - {name for name, count in seen.items() if count} == set()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(st.one_of(working, actions), max_size=80))
def test_no_history_breaks_a_promise(actions: list[Action]) -> None:
    simulate(actions)


def test_a_seed_always_does_the_same() -> None:
    first, again = (simulate(history(77)) for _ in range(2))
    assert first.trace == again.trace
    for name in ("s.log", "s.predictions", "s.outcomes", "headrace.statistics"):
        for partition in range(first.broker.partitions(name)):
            assert first.broker.read(name, partition) == again.broker.read(name, partition)


@pytest.mark.parametrize("name", ["checker.py", "reading.py"])
def test_the_judge_shares_no_code_with_what_it_judges(name: str) -> None:
    tree = ast.parse((Path(__file__).parent / name).read_text("utf-8"))
    imported = {
        module
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    own = {"tests.simulation.reading"}
    assert {module.partition(".")[0] for module in imported - own} <= sys.stdlib_module_names | {"river"}
