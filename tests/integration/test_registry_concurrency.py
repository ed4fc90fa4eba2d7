"""Many operators at once, killed at random: one history, in which everybody's answers have their place."""

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from headrace.contracts.stream import Field, StreamContract, from_dict
from services.registry.database import Database, compare_and_set
from services.registry.decisions import rollout_of
from services.registry.domain import lifecycle
from services.registry.domain.audit import By
from services.registry.domain.history import Decision, standing
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.rollouts import Plan, promote
from services.registry.journal import Journal
from services.registry.registry import now_ms
from services.registry.rollouts import RolloutStore
from services.registry.store import Store
from services.registry.tables import StreamRow
from services.registry.trail import Trail
from tests.integration.registry_worker import SEAL

pytestmark = pytest.mark.slow

ME = By("me")
COMMANDS = 1000
OPERATORS = 4


class Operator:
    """A process of commands, and what it was answered."""

    def __init__(self, url: str, seed: int, answers: list[list[Any]]) -> None:
        command = [sys.executable, "-m", "tests.integration.registry_worker", url, str(seed)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._answers = answers
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # or it was killed while it wrote
                self._answers.append(json.loads(line))

    def kill(self) -> None:
        """As the kernel does, in the middle of anything."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)


def registry(url: str, models: str) -> tuple[Database, Trail, Store, RolloutStore]:
    """A registry's memory with a stream `s` and models of one letter each."""
    opened = Database(url)
    opened.prepare()
    trail = Trail(opened, SEAL, now_ms)
    store, memory = Store(opened, now_ms, trail), RolloutStore(opened, now_ms, trail)
    store.adopt(StreamContract("s", "binary", [Field("a", "number")]), lambda _: None, from_dict, ME)
    for model in models:
        store.submit(model, f"digest-{model}", {"model": model}, "", ME)
    return opened, trail, store, memory


def test_a_thousand_commands_of_operators_who_are_killed_are_one_history(database: str) -> None:
    opened, trail, store, memory = registry(database, "abcd")
    answers: list[list[Any]] = []
    chance, seeds = random.Random(4), iter(range(1, 10_000))
    operators = [Operator(database, next(seeds), answers) for _ in range(OPERATORS)]
    kills, deadline = 0, time.monotonic() + 200
    try:
        while len(answers) < COMMANDS:
            assert time.monotonic() < deadline, f"only {len(answers)} answers"
            time.sleep(chance.uniform(1.5, 3.0))  # a process needs a second to begin
            victim = chance.randrange(OPERATORS)
            operators[victim].kill()
            kills += 1
            operators[victim] = Operator(database, next(seeds), answers)
    finally:
        for operator in operators:
            operator.kill()

    decisions = Journal(opened).decided("s", now_ms())
    every_state_has_at_most_one_champion(decisions)
    the_tables_are_what_the_history_says(store, memory, decisions)
    answers_lie_in_their_order(answers, decisions)
    the_audit_trail_tells_the_same(trail, decisions)
    done = Counter(
        verb for verb, *_, answer in answers if answer not in (None, False) and answer != "Conflict"
    )
    assert all(done[verb] for verb in ("promote", "retire", "freeze", "deploy", "begin", "turn", "abort")), (
        done
    )
    assert kills >= 2
    opened.close()


def every_state_has_at_most_one_champion(decisions: list[Decision]) -> None:
    assert [one.sequence for one in decisions] == list(range(1, len(decisions) + 1))
    for end in range(len(decisions) + 1):
        placed = standing(decisions[:end]).line_up.values()
        assert sum(one.role == "champion" for one in placed) <= 1


def the_tables_are_what_the_history_says(
    store: Store, memory: RolloutStore, decisions: list[Decision]
) -> None:
    then = standing(decisions).line_up
    now = {row.model: (row.version, row.role, row.frozen, row.share) for row, _ in store.deployments("s")}
    assert now == {name: (one.version, one.role, one.frozen, one.share) for name, one in then.items()}
    rows = memory.all("s", 10_000)
    assert [row.number for row in rows] == list(range(len(rows), 0, -1))
    assert sum(row.open for row in rows) <= 1
    for row in rows[:1]:
        rollout = rollout_of(row)
        if row.open:
            ahead = rollout.challenger if rollout.stage == "guard" else rollout.champion
            assert then[ahead.model].role == "champion"


def answers_lie_in_their_order(answers: list[list[Any]], decisions: list[Decision]) -> None:
    """What was answered is in the history, and before whatever was asked for after the answer."""
    by = {one.sequence: one for one in decisions}
    placed = [
        (sent, answered, answer, who)
        for verb, _, who, sent, answered, answer in answers
        if verb in ("promote", "retire", "freeze", "unfreeze") and type(answer) is int
    ]
    assert len(placed) > 50
    for sent, _, sequence, who in placed:
        assert by[sequence].made_by == who
        assert not any(answered < sent and other > sequence for _, answered, other, _ in placed)


def the_audit_trail_tells_the_same(trail: Trail, decisions: list[Decision]) -> None:
    """Whole, though whoever wrote it was killed anywhere; and what it says became of the models is what became."""
    assert trail.examine([]).fault is None
    records = trail.page(100_000)[::-1]
    assert [record.sequence for record in records] == list(range(1, len(records) + 1))
    placed: dict[str, Any] = {}
    for record in records:
        before, after = (
            msgspec.json.decode(side).get("places", {}) for side in (record.before, record.after)
        )
        assert before == {name: placed[name] for name in after if name in placed}
        placed |= after
    then = standing(decisions).line_up
    assert {
        name: (one["version"], one["role"], one["frozen"], one["share"]) for name, one in placed.items()
    } == {name: (one.version, one.role, one.frozen, one.share) for name, one in then.items()}
    # One record for each decision, but for a rollout's turns, which may take none or several.
    alone = [record for record in records if not record.action.startswith("rollout-") and record.stream]
    assert len(alone) > 50
    assert Counter(record.who for record in alone) <= Counter(decision.made_by for decision in decisions)


def test_of_two_who_promote_at_once_one_is_told_that_it_is_done(database: str) -> None:
    opened, _, store, memory = registry(database, "ab")
    store.deploy("s", store.version("a"), "champion", ME)
    for _ in range(10):
        number = memory.begin("s", store.version("b"), "binary", Plan(guard_labels=0), {0: 0}, ME)
        start, told = threading.Barrier(2), []

        def press(who: str, number: int = number, start: Any = start, told: Any = told) -> None:
            start.wait()
            try:
                memory.turn("s", number, lambda it, at: promote(it, at, who), By(who), action="promote")
                told.append("done")
            except Conflict:
                told.append("409")

        pressing = [threading.Thread(target=press, args=(who,)) for who in ("ann", "bob")]
        for thread in pressing:
            thread.start()
        for thread in pressing:
            thread.join()
        assert sorted(told) == ["409", "done"]
        store.deploy("s", store.version("a"), "champion", ME)
        store.change("s", "b", "retire", ME)
    opened.close()


def test_a_challenger_that_leaves_while_its_rollout_begins_takes_part_or_is_gone(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands already, so beginning takes no decision that a faster one could have overtaken."""
    opened, _, store, memory = registry(database, "ab")
    store.deploy("s", store.version("a"), "champion", ME)
    store.deploy("s", store.version("b"), "challenger", ME)
    told: list[str] = []

    def retire() -> None:
        try:
            store.change("s", "b", "retire", ME)
            told.append("gone")
        except Conflict:
            told.append("takes part")

    leaving = threading.Thread(target=retire)
    looked = lifecycle.deploy

    def meanwhile(*arguments: Any) -> Any:
        if not leaving.ident:
            leaving.start()
            leaving.join(1.5)  # it is over, or it waits for us
        return looked(*arguments)

    monkeypatch.setattr(lifecycle, "deploy", meanwhile)
    number = memory.begin("s", store.version("b"), "binary", Plan(), {0: 0}, ME)
    leaving.join()
    roles = {row.model: row.role for row, _ in store.deployments("s")}
    assert memory.get("s", number).open
    assert (told, roles["b"]) == (["takes part"], "challenger")
    opened.close()


def test_writers_wait_in_line(database: str) -> None:
    """Eight threads of two registries read, think and write: none finds that another was faster meanwhile."""
    registries = [Database(database), Database(database)]
    opened, _, _, _ = registry(database, "")
    begun = []

    def decide(session: Session) -> None:
        begun.append(True)
        row = session.get_one(StreamRow, "s")
        time.sleep(0.005)
        follows = update(StreamRow).where(StreamRow.name == "s", StreamRow.sequence == row.sequence)
        compare_and_set(session, row, follows.values(sequence=row.sequence + 1))

    with ThreadPoolExecutor(8) as pool:
        before = opened.read(lambda session: session.get_one(StreamRow, "s").sequence)
        list(pool.map(lambda number: registries[number % 2].write(decide), range(80)))
    assert opened.read(lambda session: session.get_one(StreamRow, "s").sequence) == before + 80
    assert len(begun) == 80
    for one in (opened, *registries):
        one.close()
