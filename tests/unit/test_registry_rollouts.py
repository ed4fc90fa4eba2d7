"""Rollouts: the rules as a state machine, and their memory, where two who decide at once cannot both have decided."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.codec import decode_log_record
from headrace.contracts.stream import Field, StreamContract, from_dict
from headrace.errors import Unusable
from services.registry.database import Database
from services.registry.decisions import rollout_of
from services.registry.domain import lifecycle, rollouts
from services.registry.domain.audit import By, Seal
from services.registry.domain.evidence import Evidence
from services.registry.domain.history import standing
from services.registry.domain.lifecycle import Conflict, Deployed
from services.registry.domain.rollouts import Contender, Plan, Rollout
from services.registry.journal import Journal
from services.registry.rollouts import RolloutStore
from services.registry.store import Store
from services.registry.trail import Trail

ANN, BOB, BY_LABELS = By("ann"), By("bob"), By("the judge")
OLD, NEW = Contender("old", 1), Contender("new", 2)


def begun(**plan: Any) -> Rollout:
    return Rollout(NEW, OLD, "binary", rollouts.check(Plan(**plan)), proposed_by="ann")


def ruled(rollout: Rollout, *rulings: Any) -> tuple[Rollout, list[Any]]:
    """What comes of rulings, and all moves."""
    moves: list[Any] = []
    for ruling in rulings:
        rollout, more = rollouts.settle(rollout, ruling, 5, "the judge")
        moves += more
    return rollout, moves


@pytest.mark.parametrize(
    ("plan", "rulings", "stage", "moves"),
    [
        ({}, ["better"], "guard", [("promote", "new")]),
        ({}, ["worse"], "dropped", [("retire", "new")]),
        ({}, ["undecided"], "dropped", [("retire", "new")]),
        ({}, ["better", "no_worse"], "kept", [("promote", "new"), ("retire", "old")]),
        ({}, ["better", "worse"], "rolled_back", [("promote", "new"), ("promote", "old"), ("retire", "new")]),
        ({"guard_labels": 0}, ["better"], "kept", [("promote", "new"), ("retire", "old")]),
        ({"canary": (0.1, 0.5)}, ["better"], "canary", [("share", "new", 0.1)]),
        ({"canary": (0.1, 0.5)}, ["better", "worse"], "dropped", [("share", "new", 0.1), ("retire", "new")]),
        ({"canary": (0.1, 0.5)}, ["better", "no_worse", "no_worse"], "guard",
         [("share", "new", 0.1), ("share", "new", 0.5), ("promote", "new")]),
    ],
)  # fmt: skip
def test_what_comes_of_what_the_labels_say(plan, rulings, stage, moves) -> None:
    after, made = ruled(begun(**plan), *rulings)
    assert after.stage == stage
    assert made == moves
    assert after.is_open == (stage in ("canary", "guard"))
    assert [passed.ruling for passed in after.past] == rulings


def test_a_second_person_has_to_approve_before_it_answers_anybody() -> None:
    waits, moves = ruled(begun(approval=True, canary=(0.1,)), "better")
    assert (waits.stage, waits.awaits, moves) == ("shadow", True, [])
    with pytest.raises(Conflict, match="second person"):
        rollouts.approve(waits, 6, "ann")
    with pytest.raises(Conflict, match="second person"):
        rollouts.promote(waits, 6, "ann")
    after, moves = rollouts.approve(waits, 6, "bob")
    assert (after.stage, after.approved_by, after.awaits) == ("canary", "bob", False)
    assert moves == [("share", "new", 0.1)]
    early, moves = rollouts.approve(begun(approval=True), 6, "bob")
    assert (early.stage, moves) == ("shadow", [])
    assert ruled(early, "better")[0].stage == "guard"


def test_by_hand() -> None:
    crowned, moves = rollouts.promote(begun(), 5, "bob")
    assert (crowned.stage, moves) == ("guard", [("promote", "new")])
    with pytest.raises(Conflict, match="already"):
        rollouts.promote(crowned, 5, "bob")
    back, moves = rollouts.roll_back(crowned, 5, "bob")
    assert (back.stage, moves) == ("rolled_back", [("promote", "old"), ("retire", "new")])
    for act in (rollouts.promote, rollouts.abort, rollouts.approve):
        with pytest.raises(Conflict, match="over"):
            act(back, 5, "bob")
    with pytest.raises(Conflict, match="nothing to roll back"):
        rollouts.roll_back(begun(), 5, "bob")
    assert rollouts.abort(begun(), 5, "bob")[1] == [("retire", "new")]
    assert rollouts.abort(crowned, 5, "bob")[1] == [("retire", "old")]


def test_the_labels_of_a_stage_are_counted_to_the_last_and_no_further() -> None:
    rollout, ruling = rollouts.weighed(begun(most_labels=100, warm_up_labels=0), np.zeros(250))
    assert (rollout.evidence.labels, ruling) == (100, "undecided")
    canary, _ = ruled(begun(canary=(0.1,), canary_labels=70), "better")
    canary, ruling = rollouts.weighed(canary, np.zeros(69))
    assert ruling is None
    assert rollouts.weighed(canary, np.zeros(5))[1] == "no_worse"


def test_what_the_shadow_learns_first_does_not_count() -> None:
    rollout = begun(most_labels=100, warm_up_labels=30)
    for count, warmed, labels in ((20, 20, 0), (15, 30, 5), (10, 30, 15)):
        rollout, _ = rollouts.weighed(rollout, np.full(count, -0.001))
        assert (rollout.warmed, rollout.evidence.labels) == (warmed, labels)


def test_under_guard_the_old_champion_that_is_better_means_harm() -> None:
    guard, _ = ruled(begun(harm_rate=0.01, error_rate=0.05), "better")
    after, ruling = rollouts.weighed(guard, np.full(50, 0.9))
    assert ruling == "worse"
    assert after.evidence.for_better >= 100 > after.evidence.for_better / 1.9
    assert rollouts.weighed(guard, np.full(50, -0.9))[1] == "better"


@pytest.mark.parametrize(
    ("plan", "where"),
    [
        ({"error_rate": 0.0}, "plan.error_rate"),
        ({"harm_rate": 0.6}, "plan.harm_rate"),
        ({"most_labels": 0}, "plan.most_labels"),
        ({"canary": (0.5, 0.1)}, "plan.canary"),
        ({"canary": (0.5, 1.5)}, "plan.canary"),
        ({"canary": (0.0,)}, "plan.canary"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(plan, where) -> None:
    with pytest.raises(Unusable) as refused:
        begun(**plan)
    assert refused.value.where == where


actions = st.lists(
    st.sampled_from(
        [
            "better",
            "worse",
            "undecided",
            "no_worse",
            "promote",
            "roll_back",
            "abort",
            "approve",
            "hold",
            "resume",
        ]
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(actions, st.booleans(), st.sampled_from([(), (0.2,), (0.1, 0.9)]), st.sampled_from([0, 10]))
def test_whatever_happens_there_is_one_champion_and_the_line_up_allows_it(
    asked, approval, canary, guard
) -> None:
    rollout = begun(approval=approval, canary=canary, guard_labels=guard)
    line_up: Any = {
        "old": Deployed("old", 1, "d", "champion"),
        "new": Deployed("new", 2, "d", "challenger"),
        "other": Deployed("other", 1, "d", "challenger"),
    }
    for step, what in enumerate(asked):
        if not rollout.is_open:
            break
        try:
            if what in ("better", "worse", "undecided", "no_worse"):
                if rollout.held or rollout.awaits or (what == "undecided" and rollout.stage != "shadow"):
                    continue
                rollout, moves = rollouts.settle(rollout, what, step, "the judge")
            elif what in ("hold", "resume"):
                rollout, moves = rollouts.hold(rollout, what == "hold"), []
            else:
                rollout, moves = getattr(rollouts, what)(rollout, step, "bob")
        except Conflict:
            continue
        for move in moves:
            change = getattr(lifecycle, move[0])
            line_up = change(line_up, *move[1:])
            assert line_up is not None
        champions = [name for name, deployed in line_up.items() if deployed.role == "champion"]
        assert champions == ["new" if rollout.stage in ("guard", "kept") or _stays(rollout) else "old"]
        assert line_up["new"].share == rollout.share
        assert line_up["other"].role == "challenger"
        assert msgspec.json.decode(msgspec.json.encode(rollout), type=Rollout) == rollout


def _stays(rollout: Rollout) -> bool:
    return rollout.stage == "aborted" and rollout.past[-1].stage == "guard"


# -- memory -----------------------------------------------------------------------------------------------------------


class Memory:
    """A stream with a champion `old` and a registered `new`; not begun: nothing."""

    def __init__(self, folder: Path, *, begun: bool = True) -> None:
        self.clock = 1000
        self.database = Database(f"sqlite:///{folder / 'registry.db'}")
        self.database.prepare()
        self.trail = Trail(self.database, Seal(bytes(32)), lambda: self.clock)
        self.store = Store(self.database, lambda: self.clock, self.trail)
        self.rollouts = RolloutStore(self.database, lambda: self.clock, self.trail)
        self.journal = Journal(self.database)
        if begun:
            self._begin()

    def _begin(self) -> None:
        contract = StreamContract("s", "binary", [Field("a", "number")])
        self.store.adopt(contract, lambda _: None, from_dict, ANN)
        for model in ("old", "new"):
            self.store.submit(model, f"digest-{model}", {"model": model}, "", ANN)
        self.store.deploy("s", self.store.version("old"), "champion", ANN)

    def begin(self, **plan: Any) -> int:
        plan = {"warm_up_labels": 0} | plan
        return self.rollouts.begin("s", self.store.version("new"), "binary", Plan(**plan), {0: 7}, ANN)

    def rollout(self) -> Rollout:
        return rollout_of(self.rollouts.get("s"))

    def roles(self) -> dict[str, str]:
        return {row.model: row.role for row, _ in self.store.deployments("s")}


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def test_a_rollout_takes_its_turns_with_the_line_up_and_the_log(memory: Memory) -> None:
    assert memory.begin(canary=(0.25,)) == 1
    assert memory.roles() == {"old": "champion", "new": "challenger"}
    turns = [("better", "canary"), ("no_worse", "guard"), ("worse", "rolled_back")]
    for ruling, stage in turns:
        memory.rollouts.turn(
            "s",
            1,
            lambda r, now, ruling=ruling: rollouts.settle(r, ruling, now, "judge"),
            BY_LABELS,
            action="judge",
        )
        assert memory.rollout().stage == stage
    assert memory.roles() == {"old": "champion", "new": "retired"}
    kinds = [type(decode_log_record(one.record)).__name__ for one in memory.journal.pending("s")]
    assert kinds[2:] == ["ModelDeployed", "TrafficShared", "ModelPromoted", "ModelPromoted", "ModelRetired"]
    then = standing(memory.journal.decided("s", 10**6)).line_up
    assert {model: placed.role for model, placed in then.items()} == memory.roles()
    assert memory.rollouts.under_way() == []
    assert memory.begin() == 2
    assert [row.number for row in memory.rollouts.all("s", 10)] == [2, 1]


def test_its_models_are_left_alone_while_it_is_under_way(memory: Memory) -> None:
    memory.begin()
    with pytest.raises(Conflict, match="under way"):
        memory.begin()
    for verb in ("promote", "retire"):
        with pytest.raises(Conflict, match="takes part in rollout 1"):
            memory.store.change("s", "new", verb, BOB)
    memory.store.submit("third", "digest-third", {"model": "third"}, "", ANN)
    with pytest.raises(Conflict, match="old takes part"):
        memory.store.deploy("s", memory.store.version("third"), "champion", BOB)
    assert memory.store.deploy("s", memory.store.version("third"), "challenger", BOB)
    assert memory.store.change("s", "new", "freeze", BOB) is not None
    memory.rollouts.turn("s", 1, lambda r, now: rollouts.abort(r, now, "bob"), BOB, action="abort")
    assert memory.store.change("s", "third", "promote", BOB) is not None


def test_without_a_champion_or_against_itself_there_is_nothing_to_compare(memory: Memory) -> None:
    with pytest.raises(Conflict, match="champion itself"):
        memory.rollouts.begin("s", memory.store.version("old"), "binary", Plan(), {0: 0}, ANN)
    memory.store.change("s", "old", "retire", ANN)
    with pytest.raises(Conflict, match="no champion"):
        memory.begin()


def test_who_looked_at_an_older_state_is_told_so(memory: Memory) -> None:
    memory.begin()
    seen = memory.rollouts.get("s").revision
    memory.rollouts.turn(
        "s", 1, lambda r, now: rollouts.promote(r, now, "ann"), ANN, action="promote", revision=seen
    )
    with pytest.raises(Conflict, match="changed meanwhile"):
        memory.rollouts.turn(
            "s", 1, lambda r, now: rollouts.abort(r, now, "bob"), BOB, action="abort", revision=seen
        )
    assert memory.rollout().stage == "guard"


def test_outcomes_count_once_though_two_judges_read_them(memory: Memory) -> None:
    memory.begin(warm_up_labels=3)

    def weighs(labels: int) -> Any:
        return lambda r, _: (rollouts.weighed(r, np.zeros(labels))[0], [])

    memory.rollouts.turn("s", 1, weighs(5), BY_LABELS, action="judge", judged=({0: 7}, {0: 12}))
    with pytest.raises(Conflict, match="changed meanwhile"):
        memory.rollouts.turn("s", 1, weighs(6), BY_LABELS, action="judge", judged=({0: 7}, {0: 13}))
    memory.rollouts.turn("s", 1, weighs(6), BY_LABELS, action="judge", judged=({0: 12}, {0: 18}))
    assert memory.rollout().evidence == Evidence(labels=8)
    assert memory.rollouts.get("s").positions == {"0": 18}
    assert memory.rollouts.get("s").revision == 1  # labels are no change that an operator could overlook
