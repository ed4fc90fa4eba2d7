"""The judge weighs each outcome once, whatever dies between two looks, and turns the rollout when they say enough."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.contracts.codec import encode
from headrace.contracts.events import Answer, Outcome
from headrace.contracts.topics import OUTCOMES, topic
from headrace.errors import Transient
from headrace.memory.broker import MemoryBroker
from headrace.memory.history import MemoryHistory
from services.registry.decisions import rollout_of
from services.registry.domain import rollouts
from services.registry.domain.evidence import differences
from services.registry.domain.rollouts import Rollout
from services.registry.judging import Judge
from services.registry.restoring import restore
from tests.unit.test_registry_rollouts import ANN, BOB, Memory

PARTITIONS = 2


class Turning:
    """The registry as the judge sees it; it may die before it keeps what was weighed."""

    def __init__(self, memory: Memory) -> None:
        self.rollouts = memory.rollouts
        self.dies = False

    def turn(self, *arguments: Any, **named: Any) -> None:
        if self.dies:
            raise Transient("killed")
        self.rollouts.turn(*arguments, **named)


class Court:
    """A rollout of `new` beside `old`, outcomes in two partitions, a judge."""

    def __init__(self, folder: Path, **plan: Any) -> None:
        self.memory = Memory(folder)
        self.broker = MemoryBroker()
        self.name = topic(OUTCOMES, "s")
        self.broker.create(self.name, PARTITIONS)
        self.written: list[Outcome] = []
        asked = rollouts.Plan(**{"warm_up_labels": 0} | plan)
        self.memory.rollouts.begin("s", self.memory.store.version("new"), "binary", asked, {0: 0, 1: 0}, ANN)
        self.registry = Turning(self.memory)
        self.metrics = CollectorRegistry()
        self.judge = Judge(self.registry, MemoryHistory(self.broker), self.metrics)

    def outcomes(self, count: int, served: str = "old", *, better: bool = True) -> None:
        """Labels come; `served` answered, the other was asked, and `better` says whether `new` is nearer."""
        chance = random.Random(len(self.written))
        for _ in range(count):
            old, new = (0.5, 0.1 + 0.3 * chance.random())
            if not better:
                old, new = new, old
            scores = {"old": old, "new": new}
            other = "new" if served == "old" else "old"
            made = Outcome(
                f"i{len(self.written)}", "e", 0, "labelled", 1, 0, 0, False, None, served, 1, False, scores[served],
                challengers=[Answer(other, 1, False, scores[other])],
            )  # fmt: skip
            self.written.append(made)
            self.broker.produce(
                self.name, [{"key": b"e", "value": encode(made)}], chance.randrange(PARTITIONS)
            )

    def look(self) -> Rollout:
        for row in self.memory.rollouts.under_way():
            self.judge.judge(row)
        return self.memory.rollout()


def test_evidence_is_that_of_all_outcomes_however_often_it_looks_and_dies(tmp_path: Path) -> None:
    court = Court(tmp_path, error_rate=1e-9, harm_rate=1e-9, most_labels=10**6)
    chance = random.Random(1)
    for _ in range(25):
        court.outcomes(chance.randrange(4), better=chance.random() < 0.5)
        court.registry.dies = chance.random() < 0.4
        try:
            court.look()
        except Transient:
            continue
    court.registry.dies = False
    evidence = court.look().evidence
    paired = differences("binary", court.written, ("old", 1), ("new", 1))
    assert evidence.labels == len(court.written) == len(paired) > 20
    assert evidence.total == pytest.approx(sum(paired))


def test_it_takes_every_stage_on_the_outcomes_of_that_stage(tmp_path: Path) -> None:
    court = Court(tmp_path, canary=(0.5,), canary_labels=10, guard_labels=300)
    turns = "headrace_registry_rollout_turns_total"
    court.look()
    assert court.metrics.get_sample_value(turns, {"stream": "s", "stage": "rolled_back"}) == 0
    court.outcomes(400)
    assert court.look().stage == "canary"
    assert court.memory.rollout().past[0].evidence.labels < 400
    court.outcomes(50)  # whom the champion answered: they say nothing of the canary
    assert court.look().evidence.labels == 0
    court.outcomes(10, "new")
    assert court.look().stage == "guard"
    court.outcomes(300, "new", better=False)
    ended = court.look()
    assert (ended.stage, ended.past[-1].ruling) == ("rolled_back", "worse")
    assert court.memory.roles() == {"old": "champion", "new": "retired"}
    for stage in ("canary", "guard", "rolled_back"):
        assert court.metrics.get_sample_value(turns, {"stream": "s", "stage": stage}) == 1


def test_a_rollout_is_shown_while_it_is_under_way(tmp_path: Path) -> None:
    court = Court(tmp_path)
    shown = partial(court.metrics.get_sample_value, "headrace_registry_rollout_under_way", {"stream": "s"})
    assert shown() is None
    court.judge.look()
    assert shown() == 1
    court.outcomes(2000, better=False)
    court.judge.look()
    assert court.memory.rollout().stage == "dropped"
    court.judge.look()
    assert shown() == 0


def test_what_comes_while_it_is_held_does_not_count(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.memory.rollouts.turn(
        "s", 1, lambda it, _: (rollouts.hold(it, True), []), BOB, action="rollout-hold"
    )
    court.outcomes(400)
    held = court.look()
    assert (held.stage, held.evidence.labels) == ("shadow", 0)
    court.memory.rollouts.turn(
        "s", 1, lambda it, _: (rollouts.hold(it, False), []), BOB, action="rollout-resume"
    )
    assert court.look().evidence.labels == 0
    court.outcomes(5)
    assert court.look().evidence.labels == 5


def test_it_waits_for_a_second_person(tmp_path: Path) -> None:
    court = Court(tmp_path, approval=True)
    court.outcomes(400)
    assert court.look().awaits
    assert court.memory.roles()["old"] == "champion"
    court.memory.rollouts.turn(
        "s", 1, lambda it, at: rollouts.approve(it, at, "bob"), BOB, action="rollout-approve"
    )
    assert court.memory.rollout().stage == "guard"
    assert court.memory.roles() == {"old": "challenger", "new": "champion"}


def test_an_operator_who_is_faster_than_the_judge_has_decided(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.outcomes(400)
    [row] = court.memory.rollouts.under_way()
    court.memory.rollouts.turn(
        "s", 1, lambda it, at: rollouts.abort(it, at, "bob"), BOB, action="rollout-abort"
    )
    court.judge.judge(row)
    assert rollout_of(court.memory.rollouts.get("s")).stage == "aborted"
    assert court.memory.roles() == {"old": "champion", "new": "retired"}


def test_a_registry_that_is_made_again_weighs_once_more_what_had_not_led_to_a_decision(
    tmp_path: Path,
) -> None:
    court = Court(tmp_path / "lost", error_rate=1e-9, harm_rate=1e-9, most_labels=10**6)
    court.outcomes(30)
    court.look()
    court.memory.rollouts.turn(
        "s", 1, lambda it, _: (rollouts.hold(it, True), []), BOB, action="rollout-hold"
    )
    court.memory.rollouts.turn(
        "s", 1, lambda it, _: (rollouts.hold(it, False), []), BOB, action="rollout-resume"
    )
    court.outcomes(20, better=False)
    before = court.look()
    told = [encode(message) for _, message in court.memory.journal.outgoing()]
    again = Court.__new__(Court)
    again.memory = Memory(tmp_path / "again", begun=False)
    restore(again.memory.database, None, lambda: told)
    kept = again.memory.rollout()
    assert (kept.evidence.labels, kept.held) == (30, False)
    again.judge = Judge(Turning(again.memory), MemoryHistory(court.broker), CollectorRegistry())
    after = again.look()
    assert after.evidence.labels == before.evidence.labels == 50
    assert after.evidence.total == pytest.approx(before.evidence.total)
