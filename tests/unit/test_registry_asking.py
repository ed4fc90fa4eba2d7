"""Events that propose retrainings: each is answered once, in its time, and one that is early is not lost."""

from types import SimpleNamespace

import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import RetrainProposed
from headrace.contracts.topics import RETRAINS
from headrace.memory import MemoryBroker, MemoryHistory
from services.registry import asking as module
from services.registry.asking import Asking
from services.registry.decisions import Absent
from services.registry.domain.retraining import Ask, Policy
from services.registry.domain.search import Search

ASK = Ask(Search(candidates=({"model": "tree.HoeffdingTreeClassifier"},)))


class World:
    """A registry with one stream, `s`, whose champion is lr@2; what is asked of it, and the topic of proposals."""

    def __init__(self):
        self.broker = MemoryBroker()
        self.broker.create(RETRAINS.name)
        self.now, self.champion, self.kept = 1_000_000, ("lr", 2), 0
        self.policy = Policy(ASK, on_events=True, cool_down_seconds=60)
        self.races, self.rollouts, self.begun = [], [], []

    def asking(self):
        """A registry that has just started."""
        return Told(self)

    def propose(self, id, stream="s", model="lr", version=2, **more):
        value = encode(
            RetrainProposed(id, stream, 5, "it moved", {0: 7}, model=model, version=version, **more)
        )
        self.broker.produce(RETRAINS.name, [{"key": b"s", "value": value}], 0)

    # What stands in for the registry, its store of rollouts and retrainings, and its policies.

    def deployments(self, _):
        model, version = self.champion
        return [(SimpleNamespace(role="champion", model=model, version=version), None)]

    def version(self, model, version):
        return SimpleNamespace(model=model, version=version)

    def all(self, _, limit):
        return self.races[-limit:]

    def get(self, stream):
        if stream != "s":
            raise Absent(stream)
        return self.policy

    def take_due(self):
        return []

    def read_up_to(self, _):
        return self.kept

    def has_read(self, _, offset):
        self.kept = offset


class Told(Asking):
    """Notes what is begun instead of beginning it."""

    def __init__(self, world):
        rollouts = SimpleNamespace(all=lambda _, limit: world.rollouts[-limit:])
        super().__init__(
            SimpleNamespace(store=world, rollouts=rollouts), world, world, MemoryHistory(world.broker)
        )
        self.world = world

    def begin(self, stream, ask, by, *, cause="a person", proposed=None):
        assert (by.name, cause, ask.start) == ("a retrain event", "it moved", {0: 7})
        self.world.begun.append(proposed.id)
        self.world.races.append(SimpleNamespace(is_open=True, created_ms=self.world.now))
        return len(self.world.begun)

    def look(self):
        self._next_look = 0.0
        super().look()


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(module, "now_ms", lambda: made.now)
    monkeypatch.setattr(module, "retraining_of", lambda row: row)
    return made


def test_an_event_is_answered_once_and_what_was_read_is_kept(world):
    asking = world.asking()
    world.broker.produce(RETRAINS.name, [{"key": b"s", "value": b"no event"}], 0)
    world.propose("one")
    asking.look()
    asking.look()
    assert (world.begun, world.kept) == (["one"], 2)
    world.asking().look()
    assert world.begun == ["one"]


@pytest.mark.parametrize("busy", ["a race", "a shadow", "a canary", "the cool-down"])
def test_one_that_is_early_waits_also_over_a_restart_and_holds_up_no_other(world, busy):
    race = SimpleNamespace(is_open=busy == "a race", created_ms=world.now)
    stage = {"a shadow": "shadow", "a canary": "canary"}.get(busy, "guard")
    rollout = SimpleNamespace(open=True, state={"stage": stage})
    world.races, world.rollouts = [race], [rollout]
    if busy != "the cool-down":
        world.now += 61_000
    world.propose("early")
    world.propose("elsewhere", stream="unknown")
    asking = world.asking()
    asking.look()
    asking.look()
    assert (world.begun, world.kept) == ([], 0)

    world.now += 61_000
    race.is_open, rollout.state = False, {"stage": "guard"}
    asking = world.asking()
    asking.look()
    assert world.begun == ["early"]
    asking.look()
    assert world.kept == 2


def test_of_two_that_are_early_the_newer_is_answered(world):
    world.races = [SimpleNamespace(is_open=True, created_ms=0)]
    asking = world.asking()
    world.propose("first")
    asking.look()
    world.propose("second")
    asking.look()
    world.races[0].is_open = False
    asking.look()
    assert world.begun == ["second"]


@pytest.mark.parametrize(
    ("model", "version", "answered"), [("lr", 2, True), ("lr", 1, False), ("tree", 2, False), ("", 0, True)]
)
def test_only_who_answers_can_be_mended(world, model, version, answered):
    world.propose("one", model=model, version=version)
    asking = world.asking()
    asking.look()
    assert (world.begun == ["one"], world.kept) == (answered, 1)


def test_without_a_policy_for_it_nothing_begins(world):
    for policy in (None, Policy(ASK)):
        world.policy = policy
        world.propose("one")
        world.asking().look()
    assert (world.begun, world.kept) == ([], 2)
