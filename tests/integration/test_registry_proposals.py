"""Proposals to retrain, from the topic to their end: both databases, over HTTP, two registries, killed anywhere."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import RetrainProposed
from headrace.contracts.topics import RETRAINS
from headrace.history import Bounds
from headrace.memory import MemoryBroker, MemoryHistory
from services.registry import proposals as module
from services.registry.domain import retraining as rules
from services.registry.domain.audit import By
from services.registry.domain.rollouts import settle
from services.registry.proposing import LONGEST_EVENT
from services.registry.retrainings import RetrainingStore, retraining_of
from services.registry.tables import ProposalRow
from tests.integration.registry_memory import OTHER, Crash, FakeLog, contract
from tests.integration.registry_served import Clock, Served, problem
from tests.integration.test_registry_restore import lost, rows_of

POLICY = {
    "ask": {"search": {"candidates": [OTHER]}},
    "on_events": True,
    "cool_down_seconds": 60,
    "expires_seconds": 1_000,
}
PATH = "/v1/streams/s/proposals"


class Logs:
    """5,000 records in every log; the topic of proposals is what was written to it."""

    def __init__(self):
        self.broker = MemoryBroker()
        self.broker.create(RETRAINS.name)
        self._history = MemoryHistory(self.broker)

    def bounds(self, name, partition):
        return self._history.bounds(name, partition) if name == RETRAINS.name else Bounds(0, 5_000)

    def read(self, name, partition, start, end):
        return self._history.read(name, partition, start, end) if name == RETRAINS.name else iter(())

    def write(self, *values):
        for value in values:
            self.broker.produce(RETRAINS.name, [{"key": b"s", "value": value}], 0)


class World(Served):
    """A served registry with a policy, and the topic of proposals."""

    def propose(self, id, stream="s", model="m", version=1, **more):
        drift = {"drift": f"drift of {id}", "subject": "error", "before": 0.1, "after": 0.3}
        event = RetrainProposed(
            id, stream, 5, f"{id} has moved", {0: 7}, model=model, version=version, **drift | more
        )
        self.logs.write(encode(event))

    def policy(self, **more):
        sent = self.send("PUT", "/v1/streams/s/retraining-policy", json=POLICY | more)
        assert sent.status_code == 200, sent.text

    def look(self):
        self.proposing.look()

    def listed(self):
        return self.get(PATH).json()["proposals"]

    def states(self):
        """By event, the oldest first."""
        return {one["event"]: one["status"] for one in reversed(self.listed())}

    def waits(self):
        """What the newest waits for."""
        return self.listed()[0]["waits_for"]

    def races(self):
        """The events that retrainings answer, the oldest first."""
        found = self.get("/v1/streams/s/retrainings").json()["retrainings"]
        return [one["cause"].removesuffix(" has moved") for one in reversed(found)]

    def end_race(self, number=1):
        self.proposing._asking.store.turn(
            "s", number, lambda one: rules.ended(one, "no better"), By("the trainer")
        )

    def wait(self, seconds):
        self.clock.ahead_ms += 1000 * seconds


def world_on(url, folder, logs=None, secrets=None):
    logs, clock = logs or Logs(), Clock()
    made = World(url, FakeLog(), folder, clock, logs=logs)
    made.logs, made.clock, made.url, made.folder = logs, clock, url, folder
    if secrets is not None:
        made.secrets = secrets
    return made


@pytest.fixture
def world(database, tmp_path):
    made = world_on(database, tmp_path)
    made.begin()
    made.policy()
    yield made
    made.memory.database.close()


# -- what events propose ---------------------------------------------------------------------------------------------


def test_an_event_is_answered_once_and_what_was_read_is_kept(world):
    world.logs.write(b"no event", encode(RetrainProposed("", "s", 5, "x")))
    world.propose("one")
    world.look()
    world.propose("one")
    world.look()
    assert world.states() == {"one": "begun"}
    assert world.races() == ["one"]
    policies = world.proposing._asking.policies
    assert policies.read_up_to(RETRAINS.name) == 4
    began = world.get("/v1/streams/s/retrainings/1").json()
    assert (began["asked_by"], began["proposal"], began["spans"]["0"]) == ("a retrain event", 1, [7, 5_000])
    acts = [(one["action"], one["who"], one["why"]) for one in world.get("/v1/audit").json()["records"][:2]]
    assert acts == [
        ("retrain", "a retrain event", "one has moved"),
        ("propose", "a retrain event", "one has moved"),
    ]


@pytest.mark.parametrize("read_again", [False, True])
def test_a_cause_whose_winner_was_no_better_is_not_asked_again(world, read_again):
    world.propose("one")
    world.look()
    world.end_race()
    world.wait(3_600)
    world.propose("one")
    if read_again:  # as after a database that was put back, and without what it knew of proposals
        world.memory.database.write(lambda session: session.delete(session.get_one(ProposalRow, ("s", 1))))
    world.look()
    assert world.races() == ["one"]
    assert world.states() == ({} if read_again else {"one": "begun"})
    world.propose("two")
    world.look()
    assert world.races() == ["one", "two"]  # another alarm is another cause


@pytest.mark.parametrize("busy", ["a race", "a shadow", "the cool-down"])
def test_one_that_is_early_waits_also_over_a_restart_and_holds_up_no_other(world, busy):
    if busy == "a shadow":
        assert world.post("/v1/streams/s/rollouts", json={"model": "n"}).status_code == 201
    else:
        world.propose("before")
        world.look()
        if busy == "the cool-down":
            world.end_race()
        else:
            world.wait(61)
    world.propose("early")
    world.propose("elsewhere", stream="unknown")
    world.look()
    world.look()
    assert world.states()["early"] == "waiting"
    assert world.waits() == ("cool_down" if busy == "the cool-down" else "turn")
    assert (
        world.proposing._asking.policies.read_up_to(RETRAINS.name) == world.logs.bounds(RETRAINS.name, 0).end
    )

    if busy == "a shadow":  # under guard, the next challenger may come
        crowned = lambda one, now: settle(one, "better", now, "the judge")  # noqa: E731
        world.registry.turn("s", 1, crowned, By("the judge"), action="rollout-judge")
        world.look()
        assert world.states() == {"early": "passed_over"}  # the champion that it was about answers no more
        assert "n@1 does" in world.listed()[0]["says"]
        world.propose("next", model="n")
        world.look()
        assert world.races() == ["next"]
        return
    if busy == "a race":
        world.end_race()
    world.wait(61)
    again = world_on(world.url, world.folder, world.logs, world.secrets)
    again.clock.ahead_ms = world.clock.ahead_ms
    again.look()
    assert again.races() == ["before", "early"]
    again.memory.database.close()


def test_of_two_that_are_early_the_newer_is_answered(world):
    world.propose("race")
    world.look()
    world.propose("first")
    world.look()
    world.propose("second")
    world.look()
    assert world.states() == {"race": "begun", "first": "passed_over", "second": "waiting"}
    assert world.listed()[1]["says"] == "proposal 3 came after it"
    world.end_race()
    world.wait(61)
    world.look()
    assert world.races() == ["race", "second"]


@pytest.mark.parametrize(
    ("model", "version", "status"),
    [("m", 1, "begun"), ("m", 2, "passed_over"), ("tree", 1, "passed_over"), ("", 0, "begun")],
)
def test_only_who_answers_can_be_mended(world, model, version, status):
    world.propose("one", model=model, version=version)
    world.look()
    assert world.states() == {"one": status}


def test_one_that_comes_to_nothing_takes_no_place_from_one_that_waits(world):
    world.policy(approval=True)
    world.propose("one")
    world.look()
    world.propose("late", version=7)
    world.look()
    assert world.states() == {"one": "waiting", "late": "passed_over"}


def test_what_cannot_begin_is_passed_over_and_says_why(world):
    world.policy(ask={"search": {"candidates": [{"model": "no.such.Model"}]}})
    world.propose("one")
    world.look()
    assert world.states() == {"one": "passed_over"}
    assert "it could not begin" in world.listed()[0]["says"]
    assert "no.such" in world.listed()[0]["says"]


def test_an_id_that_another_stream_has_is_not_kept_and_holds_up_no_other(world):
    assert world.post("/v1/streams", json={"contract": contract("t")}).status_code == 201
    world.propose("one")
    world.propose("one", stream="t")
    world.propose("two")
    world.look()
    assert world.states() == {"one": "begun", "two": "waiting"}
    assert world.get("/v1/streams/t/proposals").json()["proposals"] == []


def test_what_would_fill_the_database_is_not_kept(world):
    world.propose("x" * LONGEST_EVENT)
    world.propose("long", subject="x" * LONGEST_EVENT)
    world.propose("zero\x00")
    world.look()
    assert world.listed() == []


def test_so_many_are_kept_of_a_stream_and_the_oldest_go(world, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 3)
    world.policy(approval=True)
    for number in range(6):
        world.propose(f"e{number}")
    world.look()
    assert world.states() == {"e2": "passed_over", "e3": "passed_over", "e4": "passed_over", "e5": "waiting"}
    assert [one["proposal"] for one in world.listed()] == [6, 5, 4, 3]
    page = world.get(f"{PATH}?limit=3").json()
    assert page["next"] == 4
    rest = world.get(f"{PATH}?limit=3&below=4").json()
    assert ([one["proposal"] for one in rest["proposals"]], rest["next"]) == ([3], None)


# -- a person's word -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["none", "by hand", "approval"])
def test_without_a_policy_that_lets_it_begin_it_waits_for_a_person(world, policy):
    if policy == "none":
        assert world.send("DELETE", "/v1/streams/s/retraining-policy").status_code == 204
    else:
        world.policy(**{"approval": {"approval": True}, "by hand": {"on_events": False}}[policy])
    world.propose("one")
    world.look()
    world.look()
    assert (world.states(), world.races()) == ({"one": "waiting"}, [])
    assert world.waits() == ("policy" if policy == "none" else "approval")
    if policy == "none":
        shown = world.get(f"{PATH}/1").json()
        assert shown["expected"] is None
        assert "no retraining policy" in shown["untold"]
        assert "policy first" in problem(world.post(f"{PATH}/1/approve"), 409)["detail"]
        world.policy()
    world.look()
    assert world.races() == []  # a policy that comes later begins nothing that has waited for a person
    world.propose("two", model="tree")
    world.look()
    approved = world.post(f"{PATH}/1/approve", who="bob", params={"reason": "it may"})
    assert approved.status_code == 200, approved.text
    assert (approved.json()["outcome"], approved.json()["retraining"]) == ("racing", 1)
    assert [(one["what"], one["by"]) for one in approved.json()["steps"]] == [
        ("proposed", "a retrain event"),
        ("begun", "bob"),
    ]
    last = world.get("/v1/audit").json()["records"][0]
    assert (last["action"], last["who"], last["why"]) == ("retrain", "bob", "it may")
    assert world.races() == ["one"]


def test_what_nobody_looked_at_is_passed_over(world):
    world.policy(approval=True)
    world.propose("one")
    world.look()
    world.wait(999)
    world.look()
    assert world.states() == {"one": "waiting"}
    world.wait(2)
    world.look()
    assert world.states() == {"one": "passed_over"}
    assert "1,000 s" in world.listed()[0]["says"]
    assert "waits no more" in problem(world.post(f"{PATH}/1/approve"), 409)["detail"]


def test_a_person_need_not_wait_for_the_cool_down_but_for_its_turn(world):
    world.propose("race")
    world.look()
    world.propose("one")
    world.look()
    assert "retraining 1 is under way" in problem(world.post(f"{PATH}/2/approve"), 409)["detail"]
    world.end_race()
    assert world.post(f"{PATH}/2/approve").status_code == 200
    world.end_race(2)
    assert world.post("/v1/streams/s/rollouts", json={"model": "n"}).status_code == 201
    world.propose("two")
    world.look()
    assert "rollout 1 is under way" in problem(world.post(f"{PATH}/3/approve"), 409)["detail"]


def test_dismissed_is_dismissed(world):
    world.policy(approval=True)
    world.propose("one")
    world.look()
    gone = world.post(f"{PATH}/1/dismiss", params={"reason": "a holiday"}, who="bob")
    assert (gone.status_code, gone.json()["outcome"]) == (200, "dismissed")
    assert (gone.json()["by"], gone.json()["says"]) == ("bob", "a holiday")
    for verb in ("approve", "dismiss"):
        assert "bob has dismissed it" in problem(world.post(f"{PATH}/1/{verb}"), 409)["detail"]
    world.policy()
    world.propose("one")
    world.look()
    assert (world.states(), world.races()) == ({"one": "dismissed"}, [])
    last = world.get("/v1/audit").json()["records"]
    assert ("dismiss", "bob", "a holiday") in [(one["action"], one["who"], one["why"]) for one in last]


def test_what_it_would_take_and_may_gain_is_said_before_anybody_decides(world):
    world.policy(approval=True)
    world.propose("one")
    world.look()
    shown = world.get(f"{PATH}/1").json()
    assert shown["expected"]["lost"] == pytest.approx(0.2)
    assert shown["expected"]["lost_of"] == "error"
    assert shown["expected"]["cpu_seconds"] is None  # nothing was measured on this stream yet
    assert shown["expected"]["most_cpu_seconds"] == 2 * 3_600
    world.policy(approval=True, ask={"search": {"candidates": [{"model": "no.such.Model"}]}})
    shown = world.get(f"{PATH}/1").json()
    assert shown["expected"] is None
    assert "cannot be told" in shown["untold"]


def test_who_may_decide_and_what_is_there(world):
    world.policy(approval=True)
    world.propose("one")
    world.look()
    for verb in ("approve", "dismiss"):
        problem(world.post(f"{PATH}/1/{verb}", who="eve"), 403)
        problem(world.post(f"{PATH}/9/{verb}"), 404)
    for path in ("/v1/streams/t/proposals", "/v1/streams/t/proposals/1", f"{PATH}/9"):
        problem(world.get(path), 404)
    assert world.get(f"{PATH}/1", who="eve").status_code == 200
    assert world.states() == {"one": "waiting"}


@pytest.mark.parametrize("verb", ["approve", "dismiss"])
def test_a_decision_is_made_once_and_on_a_condition(world, verb):
    world.policy(approval=True)
    world.propose("one")
    world.look()
    seen = world.get(f"{PATH}/1").headers["etag"]
    problem(world.post(f"{PATH}/1/{verb}", headers={"If-Match": '"x-y"'}), 412)
    world.wait(10)
    first = world.post(f"{PATH}/1/{verb}", "k", headers={"If-Match": seen})
    assert first.status_code == 200, first.text
    again = world.post(f"{PATH}/1/{verb}", "k", headers={"If-Match": seen})
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    problem(world.post(f"{PATH}/1/{verb}", headers={"If-Match": seen}), 412)
    problem(world.post(f"{PATH}/1/{verb}", "l"), 409)
    assert first.headers["etag"].split("-")[0] == world.get(f"{PATH}/1").headers["etag"].split("-")[0]
    assert len(world.races()) == (verb == "approve")


def test_an_approval_whose_answer_was_lost_is_answered_when_it_comes_again(world, monkeypatch):
    """Killed after it was decided: who asks again with the key gets the retraining that there is, not a conflict."""
    world.policy(approval=True)
    world.propose("one")
    world.look()
    begin = RetrainingStore.begin

    def begin_and_die(*given):
        begin(*given)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(RetrainingStore, "begin", begin_and_die)
        with pytest.raises(Crash):
            world.post(f"{PATH}/1/approve", "k")
    world.wait(31)  # its claim lapses
    answer = world.post(f"{PATH}/1/approve", "k")
    assert (answer.status_code, answer.json()["retraining"]) == (200, 1)
    assert world.races() == ["one"]


# -- at once ---------------------------------------------------------------------------------------------------------


def test_of_many_who_approve_and_dismiss_at_once_one_wins(world):
    world.policy(approval=True)
    for turn in range(1, 4):
        world.propose(f"e{turn}")
        world.look()
        together = threading.Barrier(6)

        def send(place, turn=turn, together=together):
            together.wait(20)
            return world.post(f"{PATH}/{turn}/{('approve', 'dismiss')[place % 2]}")

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(send, range(6)))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
        [won] = [answer.json() for answer in answers if answer.status_code == 200]
        assert world.states()[f"e{turn}"] == won["status"]
        assert (won["retraining"] is not None) == (won["status"] == "begun")
        if won["retraining"] is not None:
            world.end_race(won["retraining"])
    begun = [one["event"] for one in reversed(world.listed()) if one["status"] == "begun"]
    assert world.races() == begun


def test_two_registries_that_look_at_once_begin_one_retraining_a_cause(world):
    others = [world_on(world.url, world.folder, world.logs) for _ in range(2)]
    for turn in range(1, 5):
        world.propose(f"e{turn}")
        for one in others:
            one.clock.ahead_ms = world.clock.ahead_ms
        together = threading.Barrier(3)

        def look(one, together=together):
            together.wait(20)
            one.look()

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(look, [world, *others]))
        assert world.races() == [f"e{number}" for number in range(1, turn + 1)]
        world.end_race(turn)
        world.wait(61)
    assert set(world.states().values()) == {"begun"}
    for one in others:
        one.memory.database.close()


# -- killed, and lost ------------------------------------------------------------------------------------------------


def test_killed_at_any_transaction_there_is_one_retraining_a_cause(tmp_path):
    """kill -9 before or after each transaction of a look: the next process ends where the first would have."""
    fresh = world_on(f"sqlite:///{tmp_path}/fresh/registry.db", tmp_path)
    fresh.begin()
    fresh.policy()
    fresh.memory.database.close()
    crashes = 0
    for crash_after in (False, True):
        for crash_at in range(1, 50):
            folder = shutil.copytree(tmp_path / "fresh", tmp_path / f"{crash_after}-{crash_at}")
            url = f"sqlite:///{folder}/registry.db"
            world = world_on(url, tmp_path, secrets=fresh.secrets)
            world.propose("one")
            world.propose("two")
            killed = _dying(world, crash_at, crash_after)
            try:
                world.look()
            except Crash:
                crashes += 1
            world.memory.database.close()
            again = world_on(url, tmp_path, world.logs, world.secrets)
            again.look()
            assert (again.races(), again.states()) == (["one"], {"one": "begun", "two": "waiting"})
            again.end_race()
            again.wait(61)
            again.look()
            assert again.races() == ["one", "two"]
            assert again.get("/v1/audit/verify").json()["fault"] is None
            again.memory.database.close()
            if killed() < crash_at:
                break
    assert crashes >= 6


def _dying(world, crash_at, crash_after):
    """Let the process die at its n-th transaction that writes."""
    steps = 0
    write = type(world.memory.database).write

    def dying(work):
        nonlocal steps
        steps += 1
        if steps == crash_at and not crash_after:
            raise Crash
        result = write(world.memory.database, work)
        if steps == crash_at:
            raise Crash
        return result

    database = world.memory.database
    database.write = dying
    for store in (world.proposals, world.proposing._asking.policies, world.proposing._asking.store):
        store._write = dying
    return lambda: steps


def test_what_was_proposed_comes_back_with_the_registry(world, tmp_path):
    world.propose("one")
    world.look()
    world.end_race()
    world.policy(approval=True)
    for event in ("two", "three", "four"):
        world.propose(event)
        world.look()
        if event == "three":
            assert world.post(f"{PATH}/3/dismiss").status_code == 200
    world.registry.restore()
    before = [world.get(f"{PATH}/{number}").json() for number in range(1, 5)]
    assert [one["outcome"] for one in before] == ["no_winner", "passed_over", "dismissed", "waiting"]
    url = f"sqlite:///{tmp_path}/again/registry.db"
    again, _ = lost(world.registry._log, url, tmp_path, world.secrets)
    assert rows_of(again.memory.database) == rows_of(world.memory.database)
    assert [again.get(f"{PATH}/{number}").json() for number in range(1, 5)] == before
    again.memory.database.close()


def test_the_winners_lineage_names_the_proposal_and_the_drift(world):
    world.propose("one")
    world.look()
    known = retraining_of(world.proposing._asking.store.get("s", 1))
    assert rules.origin("s", 1, known) == "retraining 1 of s, for proposal 1 (drift drift of one)"
    by_hand = msgspec.structs.replace(known, proposal=None, drift="")
    assert rules.origin("s", 1, by_hand) == "retraining 1 of s"
