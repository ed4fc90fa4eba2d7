"""An alert's life: acknowledged, escalated once, ended, muted; the same whatever was heard twice or after a restart."""

import itertools

import pytest

from headrace.contracts.events import AlertsMuted
from services.monitor.domain import alerts
from services.monitor.domain.life import Lives, Mutes, muted_by
from tests.unit.monitor.told import Plane, drift, drift_rule, kept

ESCALATES = drift_rule(escalate_after_seconds=600)


def fired(rule=ESCALATES, number=0):
    return alerts.of_drift(rule, drift(number, subject=f"f{number}"))


def begun(rule=ESCALATES):
    plane = Plane([rule])
    plane.receive_drift(kept([drift(0)])[0])
    [told] = plane.tell()
    return plane, told


def test_what_nobody_acknowledges_is_told_once_more_one_severity_higher_and_only_once():
    plane, told = begun()
    plane.time += 599
    assert plane.tell() == []
    plane.time += 1
    [raised] = plane.tell()
    assert (raised.state, raised.severity, raised.fired, told.severity) == (
        "escalated",
        "critical",
        told.id,
        "warning",
    )
    plane.time += 10_000
    assert plane.tell() == []
    life = plane.lives.get(told.id)
    assert (life.state, life.severity) == ("firing", "critical")


def test_what_is_acknowledged_is_not_escalated_and_the_first_to_say_so_counts():
    plane, told = begun()
    answered = []
    life = plane.lives.get(told.id)
    plane.acknowledge(life, "ada", "known", lambda: answered.append("ada"))
    plane.acknowledge(life, "bob", "also", lambda: answered.append("bob"))
    assert answered == []
    assert [step.by for step in plane.tell()] == ["ada", "bob"]
    assert answered == ["ada", "bob"]
    plane.time += 10_000
    assert plane.tell() == []
    step = plane.lives.get(told.id).acknowledged.alert
    assert (step.by, step.why, step.state, step.fired) == ("ada", "known", "acknowledged", told.id)


def test_a_restart_and_another_process_know_what_was_told_and_since_when():
    plane, told = begun()
    plane.acknowledge(plane.lives.get(told.id), "ada", "known", lambda: None)
    plane.tell()
    again = Plane([ESCALATES])
    again.recover([], kept(plane.alerts, written_at=5_000_000), kept([drift(0)]))
    assert again.lives.get(told.id).acknowledged.alert.by == "ada"
    assert again.lives.get(told.id).fired.told_at == 5_000_000
    assert again.tell() == []
    other = Plane([ESCALATES], time=1_000.0)
    other.recover([], kept([told], written_at=400_000), kept([drift(0)]))
    assert [step.state for step in other.tell()] == ["escalated"]


def test_steps_may_be_heard_twice_and_in_any_order_behind_the_first():
    first = fired()
    steps = [alerts.acknowledged(first, "ada", ""), alerts.escalated(first, 1), alerts.rearmed(first, 9)]
    for order in itertools.permutations(steps):
        lives = Lives()
        assert lives.tell(first, 0)
        for place, step in enumerate(order):
            assert lives.tell(step, place + 1)
            assert not lives.tell(step, 99)
        life = lives.get(first.id)
        assert (life.state, life.severity, life.acknowledged.alert.by) == ("resolved", "critical", "ada")
        assert [step.alert.state for step in life.steps] == ["firing", *(step.state for step in order)]


def test_lives_are_bounded_and_those_that_ended_go_first():
    lives = Lives(lives_kept=3)
    begun = [fired(number=number) for number in range(5)]
    for alert in begun[:3]:
        lives.tell(alert, 0)
    lives.tell(alerts.rearmed(begun[1], 9), 0)
    lives.tell(begun[3], 0)
    assert [life.fired.alert for life in lives.all()] == [begun[0], begun[2], begun[3]]
    lives.tell(begun[4], 0)
    assert [life.fired.alert for life in lives.all()] == begun[2:]


def test_each_step_has_an_id_of_its_own_made_of_what_it_says():
    first = fired()
    steps = [first, alerts.acknowledged(first, "a", ""), alerts.escalated(first, 1), alerts.rearmed(first, 9)]
    assert len({step.id for step in steps}) == 4
    assert alerts.acknowledged(first, "b", "other").id == steps[1].id
    assert fired(drift_rule(subject="f0")).id != first.id


@pytest.mark.parametrize(
    ("about", "fits"),
    [
        ({"rule": "moved"}, True), ({"rule": "other"}, False), ({"stream": "s"}, True), ({"stream": "t"}, False),
        ({"kind": "concept"}, True), ({"kind": "bias"}, False), ({"model": "lr"}, False),
        ({"rule": "moved", "kind": "bias"}, False),
    ],
)  # fmt: skip
def test_a_mute_is_about_what_it_names(about, fits):
    mute = AlertsMuted("m", 0, 10, "ada", "", **about)
    assert (muted_by(fired(), [mute]) is mute) == fits


def test_a_mute_lasts_until_its_time_or_until_it_is_ended_whichever_record_is_read_last():
    made = AlertsMuted("m", 0, 10, "ada", "noise", stream="s")
    ended = AlertsMuted("m", 0, 10, "ada", "noise", stream="s", ended=5, ended_by="bob")
    mutes = Mutes()
    mutes.tell(made)
    assert (mutes.active(9), mutes.active(10)) == ([made], [])
    mutes.tell(ended)
    mutes.tell(made)
    assert mutes.active(6) == []
    assert mutes.get("m").ended_by == "bob"
