"""The memory of retrainings, on SQLite and PostgreSQL: who may run one, and what two at once cannot both do."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import pytest

from headrace import child
from headrace.contracts.stream import Field, StreamContract, from_dict
from headrace.errors import Unusable
from services.registry.database import Database
from services.registry.decisions import Absent
from services.registry.domain import race as races
from services.registry.domain import retraining as rules
from services.registry.domain.audit import By, Seal
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.race import Step, Trial
from services.registry.domain.retraining import Ask, Policy, Retraining, Served
from services.registry.domain.rollouts import Contender, Plan
from services.registry.domain.search import Search
from services.registry.policies import PolicyStore
from services.registry.retrainings import HOLD_MS, RetrainingStore, retraining_of
from services.registry.store import Store
from services.registry.trail import Trail

ANN, TRAINER = By("ann", "it drifts"), By("the trainer")


class Clock:
    """Goes when told."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


class Opened:
    """A registry's memory with two streams in it."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.database.prepare()
        self.clock = Clock()
        self.trail = Trail(self.database, Seal(b"k" * 32), self.clock)
        self.store = RetrainingStore(self.database, self.clock, self.trail)
        self.policies = PolicyStore(self.database, self.clock, self.trail)
        streams = Store(self.database, self.clock, self.trail)
        for name in ("s", "t"):
            contract = StreamContract(name, "binary", [Field("a", "number")])
            streams.adopt(contract, lambda _: None, from_dict, ANN)


@pytest.fixture
def opened(database: str) -> Iterator[Opened]:
    made = Opened(database)
    yield made
    made.database.close()


def retraining(**more: object) -> Retraining:
    trials = [Trial(number, {"n": number}, f"d{number}", reference=number == 0) for number in range(4)]
    race = races.begun("binary", {"0": (0, 900)}, trials, least_rung=1)
    made = Retraining(
        "new", Contender("old", 1), Search(({"n": 1},)), race, Plan(), False, "a person", "ann", {}
    )
    return msgspec.structs.replace(made, **more)


def step(loss: float) -> Step:
    return Step(100, loss, {"count": 100, "roc_auc": None}, 0.5, 0.6, 80.0, "f")


def reached(number: int, loss: float, known: Retraining) -> Retraining:
    return rules.raced(known, races.stepped(known.race, number, step(loss)))


def test_what_is_kept_comes_back(opened: Opened) -> None:
    number = opened.store.begin("s", retraining(served=Served(3, 0.1 + 0.2)), ANN)
    opened.store.turn("s", number, partial(reached, 1, 1 / 3), TRAINER)
    row = opened.store.get("s", number)
    assert retraining_of(row) == reached(1, 1 / 3, retraining(served=Served(3, 0.1 + 0.2)))
    assert [one.number for one in opened.store.all("s", 10)] == [1]
    assert opened.store.all("t", 10) == []
    for ask in (partial(opened.store.get, "s", 2), partial(opened.store.all, "nowhere", 1)):
        with pytest.raises(Absent):
            ask()


def test_one_at_a_time_on_a_stream_numbered_without_gaps(opened: Opened) -> None:
    def begin(_: int) -> int | None:
        try:
            return opened.store.begin("s", retraining(), ANN)
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        began = [one for one in pool.map(begin, range(24)) if one is not None]
    assert began == [1]
    assert opened.store.begin("t", retraining(), ANN) == 1
    opened.store.turn("s", 1, partial(rules.cancelled, by="ann"), ANN)
    assert opened.store.begin("s", retraining(), ANN) == 2


def test_only_one_process_holds_it_until_it_says_nothing_for_a_while(opened: Opened) -> None:
    opened.store.begin("s", retraining(), ANN)
    with ThreadPoolExecutor(8) as pool:
        taken = [one for one in pool.map(opened.store.take, [f"p{number}" for number in range(16)]) if one]
    assert len(taken) == 1
    holder = opened.store.get("s", 1).holder
    opened.clock.now += HOLD_MS - 1
    assert opened.store.tell("s", 1, holder, {"1": (5, 10)})
    opened.clock.now += HOLD_MS - 1
    assert opened.store.take("another") is None
    assert opened.store.take(holder) is not None
    opened.clock.now += HOLD_MS + 1
    assert opened.store.take("another") is not None
    assert not opened.store.tell("s", 1, holder, {})
    with pytest.raises(Conflict, match="another process"):
        opened.store.turn("s", 1, partial(reached, 1, 0.1), TRAINER, holder=holder)
    assert opened.store.get("s", 1).progress == {"1": [5, 10]}


def test_steps_that_end_at_once_are_all_kept(opened: Opened) -> None:
    opened.store.begin("s", retraining(), ANN)
    with ThreadPoolExecutor(4) as pool:
        turns = [partial(reached, number, number / 10) for number in range(4)]
        list(pool.map(lambda turn: opened.store.turn("s", 1, turn, TRAINER), turns))
    race = retraining_of(opened.store.get("s", 1)).race
    assert [len(trial.steps) for trial in race.trials] == [1] * 4
    assert (race.rung, [trial.number for trial in races.due(race)]) == (1, [0, 1])


def test_its_begin_and_its_end_are_on_the_trail_and_nothing_comes_after_the_end(opened: Opened) -> None:
    opened.store.begin("s", retraining(), ANN)
    opened.store.turn("s", 1, partial(reached, 1, 0.1), TRAINER)
    opened.store.turn("s", 1, partial(rules.cancelled, by="bob"), By("bob", "no need"))
    with pytest.raises(Conflict, match="is over"):
        opened.store.turn("s", 1, partial(reached, 2, 0.1), TRAINER)
    assert opened.store.take("p") is None
    about = [(one.action, one.who, one.why) for one in opened.trail.page(10, model="new")]
    assert sorted(about) == [("retrain", "ann", "it drifts"), ("retrained", "bob", "no need")]
    assert opened.trail.examine([]).fault is None


POLICY = Policy(
    Ask(Search(({"n": 1},)), start={}, plan=Plan(canary=(0.1,))), every_seconds=60, on_events=True
)


def test_a_policy_is_kept_until_it_is_taken_away(opened: Opened) -> None:
    assert opened.policies.get("s") is None
    assert opened.policies.set("s", POLICY, ANN)
    assert not opened.policies.set("s", POLICY, ANN)
    assert opened.policies.get("s") == POLICY
    assert opened.policies.set("s", None, ANN)
    assert opened.policies.get("s") is None
    assert [one.action for one in opened.trail.page(10, stream="s")][:2] == ["retraining-policy"] * 2
    with pytest.raises(Absent):
        opened.policies.set("nowhere", POLICY, ANN)


def test_what_is_due_by_the_clock_is_taken_once_by_whoever_looks_first(opened: Opened) -> None:
    opened.policies.set("s", POLICY, ANN)
    opened.policies.set("t", msgspec.structs.replace(POLICY, every_seconds=0), ANN)
    opened.clock.now += 59_999
    assert opened.policies.take_due() == []
    opened.clock.now += 1
    with ThreadPoolExecutor(8) as pool:
        taken = [one for some in pool.map(lambda _: opened.policies.take_due(), range(8)) for one in some]
    assert taken == [("s", POLICY)]
    opened.clock.now += 500_000  # it was away for long: once is enough
    assert opened.policies.take_due() == [("s", POLICY)]
    assert opened.policies.take_due() == []


def test_a_topic_is_read_on_from_where_it_was_acted_on(opened: Opened) -> None:
    assert opened.policies.read_up_to("a.topic") == 0
    opened.policies.has_read("a.topic", 5)
    opened.policies.has_read("a.topic", 3)
    assert opened.policies.read_up_to("a.topic") == 5


@pytest.mark.parametrize(
    ("policy", "where"),
    [
        (msgspec.structs.replace(POLICY, every_seconds=59), "every_seconds"),
        (msgspec.structs.replace(POLICY, cool_down_seconds=-1), "cool_down_seconds"),
        (msgspec.structs.replace(POLICY, expires_seconds=0), "expires_seconds"),
        (msgspec.structs.replace(POLICY, ask=Ask(Search(), start={0: 5})), "ask.start"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(policy: Policy, where: str) -> None:
    with pytest.raises(Unusable) as refused:
        rules.check_policy(policy)
    assert refused.value.where == where


def test_processes_that_work_for_the_registry_are_not_told_its_settings(monkeypatch) -> None:
    monkeypatch.setenv("HEADRACE_DATABASE_URL", "postgresql://registry:secret@host/name")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    told = child.environment()
    assert "secret" not in "".join(told.values())
    assert told["AWS_REGION"] == "eu-west-1"  # the archive may lie there
