"""Errors, loss, calibration: the same alarms however the records are cut, silence without drift, sight of one."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.errors import Unusable
from services.monitor.domain.drift import concept
from services.monitor.domain.drift.bernoulli import BOTH, BernoulliWatch
from services.monitor.domain.drift.concept import ConceptWatch
from services.monitor.domain.drift.river_signals import DETECTORS, RiverWatch
from services.monitor.domain.drift.selfcheck import of_signal
from tests.unit.monitor.drifting import bits, cuts, restored, spans

COUNT = 2_200
CHANGES = 1_300


def outcomes(seed=5, begins=CHANGES, count=COUNT):
    """Scores that mean what they say until `begins`, and then the opposite."""
    rng = np.random.default_rng(seed)
    scores = rng.random(count) * 0.9 + 0.05
    scores[7::50] = np.nan
    chance = np.where(
        np.arange(count) < begins, np.nan_to_num(scores, nan=0.5), 1 - np.nan_to_num(scores, nan=0.5)
    )
    labels = (rng.random(count) < chance).astype(np.uint8)
    answers = (np.nan_to_num(scores) >= 0.5).astype(np.uint8)
    return labels, answers, scores


def watch():
    return ConceptWatch(
        "binary", {"error": 1e4, "log_loss": 2e4, "calibration": 2e4}, model="m", reference=256
    )


def told(made, data, start, end):
    labels, answers, scores = data
    return made.update(
        concept.binary(labels[start:end].tobytes(), answers[start:end].tobytes(), scores[start:end])
    )


@settings(max_examples=15, deadline=None)
@given(cuts)
def test_a_models_alarms_and_state_do_not_depend_on_how_its_outcomes_are_cut(lengths):
    data = outcomes()
    whole, pieces = watch(), watch()
    expected = told(whole, data, 0, COUNT)
    found = [alarm for start, end in spans(COUNT, lengths) for alarm in told(pieces, data, start, end)]
    assert found == expected
    assert expected
    assert pieces.state() == whole.state()


@settings(max_examples=15, deadline=None)
@example(1_024)  # the reference has just become whole
@given(st.integers(0, COUNT))
def test_a_restored_watch_goes_on_as_the_one_that_was_saved(cut):
    data = outcomes()
    first, second = watch(), watch()
    told(first, data, 0, cut)
    second.resume(restored(first.state()))
    assert told(second, data, cut, COUNT) == told(first, data, cut, COUNT)
    assert second.state() == first.state()


def test_a_reversed_concept_is_seen_by_all_three_dated_and_told_once():
    data = outcomes(begins=3_000, count=4_000)
    alarms = told(watch(), data, 0, 4_000)
    assert alarms[0].kind == "concept"
    assert alarms[0].subject == "error"
    assert 3_000 <= alarms[0].index < 3_060
    assert abs(alarms[0].since - 3_000) < 25
    assert alarms[0].before < 0.4
    assert alarms[0].after > 0.6
    assert alarms[0].evidence >= alarms[0].threshold == 1e4
    assert {alarm.model for alarm in alarms} == {"m"}
    assert len(alarms) == 1
    for name in ("log_loss", "calibration"):
        alone = ConceptWatch("binary", {name: 2e4}, reference=512)
        found = told(alone, data, 0, 4_000)
        assert [alarm.subject for alarm in found] == [name]
        assert 3_000 <= found[0].index < 3_300


def test_after_its_alarm_a_model_learns_anew_and_what_is_worse_still_is_told_again():
    first, second = outcomes(seed=1, begins=3_000, count=3_000), outcomes(seed=2, begins=3_000, count=3_000)
    random = (np.random.default_rng(3).random(3_000) < 0.5).astype(np.uint8)
    third = outcomes(seed=4, begins=0, count=600)
    labels, answers, scores = (np.concatenate(held) for held in zip(first, second, third, strict=True))
    labels[3_000:6_000] = random
    alarms = told(watch(), (labels, answers, scores), 0, 6_600)
    assert [alarm.index // 3_000 for alarm in alarms] == [1, 2]


@pytest.mark.parametrize("sticky", [0.0, 0.8])
def test_errors_that_do_not_change_alarm_no_oftener_than_the_budget_allows(sticky):
    alarms = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        drawn = rng.random(100_000) < 0.2
        stays = rng.random(100_000) < sticky
        stays[0] = False
        held = np.maximum.accumulate(np.where(stays, 0, np.arange(100_000)))
        alarms += len(BernoulliWatch(10_000, factors=BOTH).update(drawn[held].astype(np.uint8).tobytes()))
    assert alarms <= 4 * 100_000 / 10_000


def test_a_model_that_gets_better_or_never_errs_is_left_in_peace():
    better = bits(0.5, 3_000, 1) + bits(0.1, 20_000, 2)
    assert BernoulliWatch(1e5).update(better) == []
    made = BernoulliWatch(1e5, factors=BOTH)
    assert made.update(b"\0" * 300_000) == []
    assert 300_000 <= made.update(bits(0.1, 500, 3))[0].at < 300_100


def test_a_larger_error_of_a_regression_is_seen_a_smaller_one_is_not():
    rng = np.random.default_rng(3)
    truths = rng.normal(size=9_000)
    wide = np.where(np.arange(9_000) < 6_000, 1.0, 2.0)
    for scale, subjects in ((wide, ["absolute_error"]), (1 / wide, [])):
        made = ConceptWatch("regression", {"absolute_error": 1e5})
        alarms = made.update(concept.regression(truths, truths + rng.normal(size=9_000) * scale))
        assert [alarm.subject for alarm in alarms] == subjects


def test_the_rate_measured_on_a_reference_is_near_or_below_the_budget():
    found = of_signal(bits(0.2, 4_096, 8), 1e6, records=300_000)
    assert found.extrapolated
    assert found.measured > 3e5


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_rivers_detectors_are_there_by_name_see_a_jump_and_can_be_saved(name):
    values = [*bits(0.1, 2_000, 4), *bits(0.9, 300, 5)]
    whole = RiverWatch(name, "concept", "error")
    alarms = whole.update(values)
    assert [alarm.method for alarm in alarms if 2_000 <= alarm.index < 2_200][:1] == [name]
    first, second = RiverWatch(name, "concept", "error"), RiverWatch(name, "concept", "error")
    before = first.update(values[:1_990])
    second.resume(restored(first.state()))
    assert before + second.update(values[1_990:]) == alarms


def test_an_unknown_detector_and_a_number_where_only_0_and_1_are_understood_are_refused():
    with pytest.raises(Unusable, match="KSWIN"):
        RiverWatch("KSWIN", "data", "x")
    with pytest.raises(Unusable, match="0 and 1"):
        RiverWatch("DDM", "data", "x").update([0.5])
