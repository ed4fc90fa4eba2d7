"""What becomes of a proposal: the laws of its way, and the table of what it waits for."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.events import RetrainProposed
from services.registry.domain import proposals as rules
from services.registry.domain import story as stories
from services.registry.domain.evidence import Evidence
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.proposals import Begin, Circumstances, PassOver, Proposal, Wait
from services.registry.domain.race import begun as begun_race
from services.registry.domain.retraining import Ask, Policy, Retraining, cancelled, ended
from services.registry.domain.rollouts import Contender, Passed, Plan, Rollout
from services.registry.domain.search import Search
from services.registry.domain.story import Lasted

EVENT = RetrainProposed("e", "s", 5, "error has moved", {0: 7}, model="lr", version=2)
POLICY = Policy(Ask(Search(({"n": 1},))), on_events=True, cool_down_seconds=60, expires_seconds=100)
FREE = Circumstances(Contender("lr", 2), POLICY, "", None)
CAME = 1_000_000


def with_policy(**more):
    return msgspec.structs.replace(FREE, policy=msgspec.structs.replace(POLICY, **more))


def so(**more):
    return msgspec.structs.replace(FREE, **more)


BY_ITSELF, FOR_PERSON = Proposal(EVENT, for_person=False), Proposal(EVENT, for_person=True)
TABLE = [
    # what waits, what is so, ms since it came, what comes of it, and if a person approves
    (BY_ITSELF, FREE, 0, Begin, Begin),
    (BY_ITSELF, so(champion=None), 0, PassOver, PassOver),
    (BY_ITSELF, so(champion=Contender("lr", 3)), 0, PassOver, PassOver),
    (BY_ITSELF, so(champion=Contender("tree", 2)), 0, PassOver, PassOver),
    (BY_ITSELF, so(policy=None), 0, "policy", "policy"),
    (BY_ITSELF, so(policy=None), 7 * 86_400_000 - 1, "policy", "policy"),
    (BY_ITSELF, so(policy=None), 7 * 86_400_000, PassOver, PassOver),
    (BY_ITSELF, with_policy(on_events=False), 0, "approval", Begin),
    (BY_ITSELF, with_policy(approval=True), 99_999, "approval", Begin),
    (BY_ITSELF, with_policy(approval=True), 100_000, PassOver, Begin),
    (BY_ITSELF, so(under_way="retraining 3"), 10**9, "turn", "turn"),
    (BY_ITSELF, so(last_begun_ms=CAME - 59_999), 0, "cool_down", Begin),
    (BY_ITSELF, so(last_begun_ms=CAME - 60_000), 0, Begin, Begin),
    (FOR_PERSON, FREE, 0, "approval", Begin),
    (FOR_PERSON, FREE, 100_000, PassOver, Begin),
    (FOR_PERSON, so(under_way="rollout 2"), 0, "approval", "turn"),
]


def kind(step):
    return step.awaited if isinstance(step, Wait) else type(step)


@pytest.mark.parametrize(("proposal", "known", "since", "comes", "approved"), TABLE)
def test_the_table(proposal, known, since, comes, approved):
    now = CAME + since
    assert kind(rules.step(proposal, CAME, known, now)) == comes
    assert kind(rules.step(proposal, CAME, known, now, approved=True)) == approved


contenders = st.builds(Contender, st.sampled_from(["lr", "tree"]), st.integers(1, 3))
policies = st.builds(
    Policy,
    st.just(POLICY.ask),
    on_events=st.booleans(),
    approval=st.booleans(),
    cool_down_seconds=st.integers(0, 100),
    expires_seconds=st.integers(1, 100),
)
circumstances = st.builds(
    Circumstances,
    champion=st.none() | contenders,
    policy=st.none() | policies,
    under_way=st.sampled_from(["", "retraining 1", "rollout 1"]),
    last_begun_ms=st.none() | st.integers(CAME - 200_000, CAME + 200_000),
)
events = st.builds(
    RetrainProposed,
    id=st.just("e"), stream=st.just("s"), at=st.just(5), cause=st.just("x"),
    since=st.dictionaries(st.integers(0, 3), st.integers(0, 9)),
    model=st.sampled_from(["", "lr", "tree"]), version=st.integers(0, 3),
)  # fmt: skip
waiting = st.builds(Proposal, events, for_person=st.booleans())


@given(waiting, circumstances, st.integers(0, 300_000))
def test_nothing_begins_without_whoever_has_a_say_in_it(proposal, known, since):
    now = CAME + since
    found = rules.step(proposal, CAME, known, now)
    approved = rules.step(proposal, CAME, known, now, approved=True)
    for step in (found, approved):
        if isinstance(step, Begin):
            assert step.policy == known.policy
            assert not known.under_way
            assert proposal.event.model in ("", known.champion.model)
            assert proposal.event.version in (0, known.champion.version)
    if isinstance(found, Begin):
        assert not proposal.for_person
        assert rules.begins_by_itself(known.policy)
        assert isinstance(approved, Begin)  # a person can let begin whatever would begin
        assert (
            known.last_begun_ms is None or now >= known.last_begun_ms + 1000 * found.policy.cool_down_seconds
        )
    if known.policy is not None and isinstance(approved, PassOver):
        assert isinstance(found, PassOver)  # what a person cannot begin does not wait either


@given(waiting, circumstances, st.integers(0, 300_000))
def test_what_waits_until_a_time_waits_until_then_and_no_longer(proposal, known, since):
    found = rules.step(proposal, CAME, known, CAME + since)
    if isinstance(found, Wait) and found.until_ms is not None:
        assert found.until_ms > CAME + since
        assert rules.step(proposal, CAME, known, found.until_ms - 1) == found
        after = rules.step(proposal, CAME, known, found.until_ms)
        assert isinstance(after, Begin if found.awaited == "cool_down" else PassOver)


WAYS = {
    "begun": lambda one: rules.begun(one, 3, "ann"),
    "dismissed": lambda one: rules.dismissed(one, "bob", "no need"),
    "passed_over": lambda one: rules.passed_over(one, "too late", "the registry"),
}


@given(waiting, st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=4))
def test_it_leaves_the_wait_once_and_stays_as_it_left(proposal, ways):
    after = WAYS[ways[0]](proposal)
    assert (after.status, after.event, after.for_person) == (ways[0], proposal.event, proposal.for_person)
    assert (after.retraining is not None) == (ways[0] == "begun")
    for way in ways[1:]:
        with pytest.raises(Conflict, match=r"3 was begun for it by ann|bob has dismissed it|too late"):
            WAYS[way](after)


@given(waiting, policies)
def test_a_race_learns_from_where_the_event_says(proposal, policy):
    found = rules.ask_of(policy, proposal.event)
    assert found.start == proposal.event.since
    assert msgspec.structs.replace(found, start={}) == policy.ask


# -- its story ------------------------------------------------------------------------------------------------------

RACE = begun_race("binary", {"0": (7, 107)}, [], least_rung=1)
RACING = Retraining("new", Contender("lr", 2), Search(), RACE, Plan(), False, "x", "a retrain event", {})
DONE = ended(RACING, "new@1 is rolled out", version=1, rollout=4)
SHADOW = Rollout(Contender("new", 1), Contender("lr", 2), "binary", Plan(), "the trainer")
BEGUN = rules.begun(BY_ITSELF, 3, "a retrain event")


def went(*stages):
    """A rollout that went through these stages and stands at the last."""
    past = tuple(
        Passed(stage, Evidence(labels=9), "better", 50 + place, "the judge")
        for place, stage in enumerate(stages[:-1])
    )
    return msgspec.structs.replace(SHADOW, stage=stages[-1], past=past)


@pytest.mark.parametrize(
    ("proposal", "retraining", "rollout", "outcome"),
    [
        (BY_ITSELF, None, None, "waiting"),
        (rules.dismissed(BY_ITSELF, "bob", ""), None, None, "dismissed"),
        (rules.passed_over(BY_ITSELF, "late", "x"), None, None, "passed_over"),
        (BEGUN, RACING, None, "racing"),
        (BEGUN, cancelled(RACING, "ann"), None, "cancelled"),
        (BEGUN, ended(RACING, "no better"), None, "no_winner"),
        (BEGUN, ended(RACING, "registered", version=1), None, "registered"),
        (BEGUN, DONE, went("shadow"), "shadow"),
        (BEGUN, DONE, went("shadow", "canary"), "canary"),
        (BEGUN, DONE, went("shadow", "guard"), "guard"),
        (BEGUN, DONE, went("shadow", "guard", "kept"), "promoted"),
        (BEGUN, DONE, went("shadow", "kept"), "promoted"),
        (BEGUN, DONE, went("shadow", "dropped"), "dropped"),
        (BEGUN, DONE, went("shadow", "guard", "rolled_back"), "rolled_back"),
        (BEGUN, DONE, went("shadow", "aborted"), "aborted"),
        (BEGUN, DONE, went("shadow", "guard", "aborted"), "promoted"),  # its guard left, it stays
    ],
)
def test_how_far_a_proposal_has_come(proposal, retraining, rollout, outcome):
    assert stories.outcome(proposal, retraining, rollout) == outcome


def test_a_story_tells_every_step_with_its_time_and_who_took_it():
    told = stories.story(
        Lasted(BEGUN, 10, 20),
        Lasted(DONE, 20, 33),  # noted as over when its winner was on its way
        Lasted(went("shadow", "canary", "guard", "kept"), 31, 60),
        proposed_by="a retrain event",
        trained_by="the trainer",
    )
    assert [(one.at_ms, one.what, one.by) for one in told] == [
        (10, "proposed", "a retrain event"),
        (20, "begun", "a retrain event"),
        (31, "raced", "the trainer"),
        (31, "shadow", "the trainer"),
        (50, "canary", "the judge"),
        (51, "guard", "the judge"),
        (52, "kept", "the judge"),
    ]
    assert told[0].says == EVENT.cause
    assert "100 records" in told[1].says
    assert told[-1].says == "better after 9 labels as guard"


def test_the_story_of_one_that_nothing_came_of_ends_with_why():
    gone = Lasted(rules.dismissed(BY_ITSELF, "bob", "no need"), 10, 25)
    told = stories.story(gone, None, None, proposed_by="a retrain event", trained_by="the trainer")
    assert told[1:] == [stories.Happened(25, "dismissed", "bob", "no need")]
    given_up = Lasted(cancelled(RACING, "ann"), 20, 30)
    told = stories.story(Lasted(BEGUN, 10, 20), given_up, None, proposed_by="x", trained_by="y")
    assert (told[-1].what, told[-1].says) == ("cancelled", "cancelled by ann")
