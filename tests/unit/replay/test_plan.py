"""What a what-if plan takes and refuses."""

import pytest

from headrace.contracts.left_out import parse
from headrace.errors import Unusable
from headrace.replay.plan import (
    Bound,
    Candidate,
    Plan,
    check,
    parse_bound,
    parse_policy,
    parse_thresholds,
)
from tests.unit.replay.streams import PLAIN, SCALED, contract_of

LOGISTIC = {"model": SCALED["binary"]}


def plan(**more):
    return Plan("s", more.pop("models", [Candidate("one", LOGISTIC)]), **more)


def test_bounds_are_offsets_or_times():
    assert parse_bound("120") == Bound("offset", 120)
    assert parse_bound("2013-01-02") == Bound("time", 1_357_084_800_000)
    assert parse_bound("2013-01-02T01:00:00+01:00") == parse_bound("2013-01-02")
    assert parse_bound("") is None
    with pytest.raises(Unusable, match="neither an offset nor a time"):
        parse_bound("yesterday")


def test_policies():
    assert parse_policy("wait=3d,expiry=negative,second=correct") == {
        "wait_seconds": 259_200,
        "expiry": "negative",
        "second": "correct",
    }
    assert parse_policy("wait=90s") == {"wait_seconds": 90}
    assert parse_policy("") == {}
    for text in ("wait=3", "expiry=maybe", "patience=2h", "wait"):
        with pytest.raises(Unusable):
            parse_policy(text)


def test_thresholds():
    assert parse_thresholds(["0.3", "0.2,0.3"]) == [0.3, 0.2]
    assert parse_thresholds([]) == []
    for text in ("x", "0", "1", "nan", "-0.2"):
        with pytest.raises(Unusable):
            parse_thresholds([text])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (plan(models=[]), "at least one model"),
        (plan(models=[Candidate("m", LOGISTIC)] * 2), "two models are called 'm'"),
        (plan(models=[Candidate("served", LOGISTIC)]), "another name"),
        (plan(models=[Candidate(f"m{n}", LOGISTIC) for n in range(13)]), "at most 12"),
        (plan(models=[Candidate("m", {"model": "no.Such"})]), "m does not fit s"),
        (plan(models=[Candidate("m", {"model": PLAIN["regression"]})]), "m does not fit s"),
        (plan(warm_up=Bound("time", 5)), "warm-up without a start"),
        (plan(start=Bound("time", 5), end=Bound("time", 5)), "ends before it begins"),
        (plan(start=Bound("time", 5), warm_up=Bound("time", 6)), "the warm-up ends before it begins"),
    ],
)
def test_what_contradicts_itself_is_refused(asked, said):
    with pytest.raises(Unusable, match=said):
        check(asked, contract_of("binary"))


def test_what_does_not_fit_the_stream_is_refused():
    regression = [Candidate("m", {"model": SCALED["regression"]})]
    with pytest.raises(Unusable, match="threshold needs a binary"):
        check(plan(models=regression, thresholds=[0.3]), contract_of("regression"))
    with pytest.raises(Unusable, match="negative"):
        check(plan(models=regression, policy={"expiry": "negative"}), contract_of("regression"))
    with pytest.raises(Unusable, match="give a time"):
        check(plan(start=Bound("offset", 7)), contract_of("binary", partitions=2))


def test_the_policy_is_the_contract_s_with_what_is_otherwise():
    changed = check(plan(policy={"wait_seconds": 60}), contract_of("binary"))
    assert changed.label.wait_seconds == 60
    assert changed.label.expiry == contract_of("binary").label.expiry


def test_the_digest_names_the_question():
    same = {plan().digest, plan().digest}
    other = {
        plan(thresholds=[0.2]).digest,
        plan(policy={"wait_seconds": 1}).digest,
        plan(without=parse(["entity:a"])).digest,
        plan(start=Bound("time", 1)).digest,
        plan(start=Bound("offset", 1)).digest,
        plan(end=Bound("time", 1)).digest,
        plan(models=[Candidate("two", LOGISTIC)]).digest,
        plan(models=[Candidate("one", {**LOGISTIC, "seed": 3})]).digest,
    }
    assert len(same) == 1
    assert len(other | same) == 9
