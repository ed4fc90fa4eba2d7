"""A rule tried on the past: the alerts that it would have told are those that it did tell, over any stretch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain.rules import Rule
from services.monitor.domain.trial import STEP_WINDOWS, try_rule
from tests.unit.monitor.test_figures import hour_of
from tests.unit.monitor.told import HOUR, Plane, drift, drift_rule, kept

EVER = (-(1 << 62), 1 << 62)
RULE = Rule("r", "s", "missing.age.share", above=0.25, clear=0.15)


def windows(rules, missing):
    plane = Plane(rules)
    for number, count in enumerate(missing):
        for value in hour_of(number, missing=count):
            plane.receive(value)
    return plane


def tried(rule, plane, start=EVER[0], end=EVER[1]):
    *_, trial = try_rule(rule, plane.tables, [seen.drift for seen in plane.drifts], start, end)
    return trial


@given(st.lists(st.integers(0, 4), max_size=2 * STEP_WINDOWS + 5), st.integers(1, 3))
def test_it_fires_as_often_when_and_on_which_values_as_it_did(missing, for_windows):
    rule = Rule("r", "s", "missing.age.share", above=0.25, clear=0.15, for_windows=for_windows)
    plane = windows([rule], missing)
    told = plane.tell()
    trial = tried(rule, plane)
    assert trial.alerts == told
    assert (trial.fired, trial.resolved) == tuple(
        sum(one.state == state for one in told) for state in ("firing", "resolved")
    )
    assert (trial.looked_at, trial.judged) == (len(missing), len(missing))
    assert plane.tell() == [], "trying changed something"


def test_a_stretch_is_looked_at_from_its_first_window_to_before_its_end():
    plane = windows([], [0, 3, 0, 3, 0, 3, 0])
    trial = tried(RULE, plane, 2 * HOUR, 5 * HOUR)
    assert [(one.at // HOUR, one.state) for one in trial.alerts] == [(4, "firing"), (5, "resolved")]
    assert (trial.looked_at, trial.kept_from) == (3, 2 * HOUR)
    nothing = tried(RULE, plane, 9 * HOUR, 10 * HOUR)
    assert (nothing.looked_at, nothing.kept_from, nothing.alerts) == (0, None, [])


def test_windows_without_the_figure_are_looked_at_and_not_judged():
    trial = tried(Rule("r", "s", "cost.total", above=1.0), windows([], [1, 1, 1]))
    assert (trial.looked_at, trial.judged, trial.fired) == (3, 0, 0)


def test_drift_that_is_kept_would_have_been_told_as_it_was():
    rule = drift_rule()
    plane = windows([rule], [1] * 12)
    moves = [drift(n, at=at) for n, at in enumerate((0, HOUR - 1, HOUR, 4 * HOUR, 9 * HOUR))]
    for record in kept([*moves, drift(9, at=2 * HOUR, kind="data")]):
        plane.receive_drift(record)
    told = plane.tell()
    assert [one.state for one in told].count("firing") == 4
    trial = tried(rule, plane)
    assert {one.id for one in trial.alerts if one.state == "firing"} == {
        one.id for one in told if one.state == "firing"
    }
    assert (trial.looked_at, trial.judged, trial.fired) == (6, 5, 4)
    assert tried(rule, plane, HOUR, 5 * HOUR).fired == 2


def test_a_rule_for_every_stream_goes_through_each():
    plane = windows([], [3, 0])
    assert tried(Rule("r", "*", RULE.metric, above=0.25), plane).fired == 1
    assert tried(Rule("r", "t", RULE.metric, above=0.25), plane).looked_at == 0


@pytest.mark.parametrize("since", [None, 0, HOUR])
def test_since_is_not_looked_behind(since):
    rule = Rule("r", "s", RULE.metric, above=0.25, since=since)
    assert tried(rule, windows([], [3, 0])).fired == (0 if since == HOUR else 1)
