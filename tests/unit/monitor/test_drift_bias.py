"""Groups: the one that is treated otherwise is named with the metric and dated, others are left in peace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.drift.bias import GROUPS, BiasWatch
from tests.unit.monitor.drifting import cuts, restored, spans

COUNT = 5_000
CHANGES = 4_000


def replay(seed=3, count=COUNT):
    """Groups, labels, answers that are right four times in five; half of b's positive answers are taken away."""
    rng = np.random.default_rng(seed)
    groups = list(np.array(["a", "b", "tiny", None], object)[rng.choice(4, count, p=[0.5, 0.4, 0.02, 0.08])])
    labels = (rng.random(count) < 0.4).astype(np.uint8)
    answers = np.where(rng.random(count) < 0.8, labels, 1 - labels).astype(np.uint8)
    taken = np.array([group == "b" for group in groups]) & (np.arange(count) >= CHANGES)
    answers[taken & (rng.random(count) < 0.6)] = 0
    return groups, labels.tobytes(), answers.tobytes()


def told(made, data, start, end):
    groups, labels, answers = data
    return made.update(groups[start:end], labels[start:end], answers[start:end])


def test_the_group_and_the_metric_are_named_and_the_change_is_dated():
    alarms = told(BiasWatch("g", 1e4, model="m"), replay(), 0, COUNT)
    assert {alarm.group for alarm in alarms} == {"g=b"}
    assert {"selection_rate", "true_positive_rate"} <= {alarm.subject for alarm in alarms}
    assert "base_rate" not in {alarm.subject for alarm in alarms}
    first = alarms[0]
    assert (first.kind, first.model) == ("bias", "m")
    assert CHANGES <= first.index < CHANGES + 600
    assert abs(first.since - CHANGES) < 600
    assert first.after < 0.75 * first.before


@settings(max_examples=4, deadline=None)
@given(cuts)
def test_alarms_and_state_do_not_depend_on_how_records_are_cut(lengths):
    data = replay()
    whole, pieces = BiasWatch("g", 1e4), BiasWatch("g", 1e4)
    expected = told(whole, data, 0, COUNT)
    found = [alarm for start, end in spans(COUNT, lengths) for alarm in told(pieces, data, start, end)]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert restored(pieces.state()) == restored(whole.state())


@settings(max_examples=4, deadline=None)
@given(st.integers(0, COUNT))
def test_a_restored_watch_goes_on_as_the_one_that_was_saved(cut):
    data = replay()
    first, second = BiasWatch("g", 1e4), BiasWatch("g", 1e4)
    told(first, data, 0, cut)
    second.resume(restored(first.state()))
    assert told(second, data, cut, COUNT) == told(first, data, cut, COUNT)
    assert restored(second.state()) == restored(first.state())


def test_a_small_group_is_said_not_to_be_judged():
    made = BiasWatch("g", 1e4)
    told(made, replay(), 0, COUNT)
    standing = {(each.group, each.metric): each for each in made.standing()}
    tiny, large = standing["g=tiny", "error"], standing["g=a", "error"]
    assert not tiny.judged
    assert tiny.count < tiny.needed
    assert large.judged
    assert large.rate == pytest.approx(0.2, abs=0.03)


def test_after_a_restart_everybody_is_learnt_anew_before_he_is_judged():
    data = replay()
    made = BiasWatch("g", 1e4)
    told(made, data, 0, CHANGES)
    assert any(each.judged for each in made.standing())
    made.restart()
    assert not any(each.judged for each in made.standing())
    assert told(made, data, CHANGES, COUNT) == []


def test_groups_beyond_the_bound_are_not_judged_and_harm_nothing():
    made = BiasWatch("g", 1e4)
    groups = [f"g{at % 20}" for at in range(4_000)]
    made.update(groups, b"\0\1" * 2_000, b"\0\1" * 2_000)
    assert len({each.group for each in made.standing()}) == GROUPS


def test_a_group_that_sends_fewer_records_is_seen_against_the_reference_and_a_stated_mix():
    rng = np.random.default_rng(8)
    names = np.array(["a", "b"], object)
    even = list(names[(rng.random(4_000) < 0.5).astype(int)])
    fewer = list(names[(rng.random(2_000) < 0.25).astype(int)])
    bytes_of = (rng.random(6_000) < 0.4).astype(np.uint8).tobytes()
    learnt = BiasWatch("g", 1e4).update(even + fewer, bytes_of, bytes_of)
    assert {alarm.subject for alarm in learnt} == {"representation"}
    assert learnt[0].group in ("g=a", "g=b")
    assert 4_000 <= learnt[0].index < 4_500
    stated = BiasWatch("g", 1e4, stated={"a": 0.5, "b": 0.5})
    assert stated.update(even, bytes_of[:4_000], bytes_of[:4_000]) == []
    otherwise = BiasWatch("g", 1e4, stated={"a": 0.75, "b": 0.25})
    found = otherwise.update(even, bytes_of[:4_000], bytes_of[:4_000])
    assert found[0].index < 500
    assert found[0].before == pytest.approx(0.25, abs=0.01) or found[0].before == pytest.approx(
        0.75, abs=0.01
    )
