"""Counting: windows that widen, partitions that merge, differences with honest intervals."""

import json
import math
import random
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.events import Answer, Outcome, Prediction
from headrace.contracts.topics import OUTCOMES, topic
from headrace.replay.plan import Bound, Candidate, Plan
from headrace.replay.report import difference, t_quantile
from headrace.replay.tallies import (
    MOST_WINDOWS,
    WIDTHS_MS,
    Pairing,
    Tallies,
    error_bin,
    error_edge,
)
from tests import oracles
from tests.unit.replay.streams import CLASSES, START, asked, contract_of, lived, report

PLAN = Plan("s", [Candidate("m", {}), Candidate("n", {})], thresholds=[0.3])


def test_widths_divide_each_other():
    for one, next_one in pairwise(WIDTHS_MS):
        assert next_one % one == 0
        assert next_one > one


def answered(offset, at, y, score, other=0.4):
    said = Answer("n", 1, other > 0.5, other)
    return Outcome(
        f"o{offset}",
        "e",
        at,
        "labelled",
        offset,
        at,
        offset,
        y,
        None,
        "m",
        1,
        score > 0.5,
        score,
        None,
        [said],
    )


def fill(tallies, rows):
    for offset, (at, y, score) in enumerate(rows):
        outcome = answered(offset, at, y, score)
        tallies.predicted(Prediction(outcome.id, "e", at, offset), 1000)
        tallies.resolved(outcome)
        tallies.happened(outcome)
    return tallies


rows = st.lists(
    st.tuples(st.integers(0, 10**12), st.booleans(), st.integers(0, 1000).map(lambda n: n / 1000)),
    max_size=300,
)


@given(rows)
def test_windows_are_bounded_and_lose_nothing(events):
    tallies = fill(Tallies("binary", PLAN), events)
    assert len(tallies.windows) <= MOST_WINDOWS
    assert sum(tallies.windows.values()) == tallies.observations == tallies.labelled == len(events)
    total = tallies.replayed["m"].total().view()
    assert total["count"] == len(events)
    assert total["positives"] == sum(y for _, y, _ in events)
    assert tallies.served.total().view()["count"] == len(events)
    assert sum(n for n, _ in tallies.to_first["n"].windows.values()) == len(events)
    width = WIDTHS_MS[tallies.width]
    assert set(tallies.windows) == {at // width for at, _, _ in events}


@given(rows, rows)
def test_partitions_merge_to_what_one_would_have_counted(one, other):
    merged = fill(Tallies("binary", PLAN), one)
    merged.merge(fill(Tallies("binary", PLAN), other))
    both = fill(Tallies("binary", PLAN), one + other)
    while both.width < merged.width:
        both.widen()
    assert dict(sorted(merged.windows.items())) == dict(sorted(both.windows.items()))
    for name in ("m", "n"):
        mine, theirs = merged.replayed[name].total().view(), both.replayed[name].total().view()
        assert mine == pytest.approx(theirs, nan_ok=True)
        assert merged.replayed[name].cuts == both.replayed[name].cuts


def test_a_correction_revises_both_sides():
    tallies = Tallies("binary", PLAN, corrects=True)
    first = answered(0, 5, True, 0.9)
    tallies.predicted(Prediction("o0", "e", 5, 0), 10)
    tallies.resolved(first)
    tallies.happened(first)
    second = Outcome(
        "o0", "e", 9, "corrected", 3, 5, 0, False, True, "m", 1, True, 0.9, None, first.challengers
    )
    tallies.resolved(second)
    tallies.happened(second)
    for series in (tallies.replayed["m"], tallies.served):
        total = series.total()
        assert (total.tp, total.fp, total.fn, total.tn) == (0, 1, 0, 0)
    assert (tallies.corrected, tallies.happened_corrected) == (1, 1)


def test_what_the_replay_does_not_count_has_not_happened_for_it():
    tallies = Tallies("binary", PLAN)
    tallies.happened(answered(0, 5, True, 0.9))
    assert tallies.happened_labelled == 0
    assert not tallies.served.windows


def test_open_observations_are_bounded():
    tallies = Tallies("binary", PLAN)
    for offset in range(50):
        tallies.predicted(Prediction(f"o{offset}", "e", 5, offset), 10)
    assert len(tallies._open) == 10


@given(st.floats(0, sys.float_info.max))
def test_an_error_lies_under_the_edge_of_its_bin(error):
    place = error_bin(error)
    if error < 1e-300:
        assert error_edge(place) == 0.0
    else:
        assert error <= error_edge(place)
        assert error_edge(place) / 1.13 <= error


# -- differences ------------------------------------------------------------------------------------------------------


def test_student_s_t():
    for freedom, value in ((7, 2.3646), (10, 2.2281), (20, 2.0860), (60, 2.0003), (1000, 1.9623)):
        assert t_quantile(freedom) == pytest.approx(value, abs=0.003)


def paired(rng, windows, mean, alike):
    """Differences that are alike within a window: `alike` is the spread of the windows' own means."""
    pairing = Pairing()
    for window in range(windows):
        shift = rng.gauss(mean, alike)
        for _ in range(rng.randrange(20, 60)):
            pairing.add(window, rng.gauss(shift, 0.5))
    return pairing


@pytest.mark.parametrize("alike", [0.0, 0.3])
def test_the_interval_holds_the_truth_as_often_as_it_says_also_if_neighbours_are_alike(alike):
    rng = random.Random(11)
    made = [difference(paired(rng, 30, 0.1, alike)) for _ in range(600)]
    held = sum(one["low"] <= 0.1 <= one["high"] for one in made) / len(made)
    assert 0.92 < held < 0.98


def test_verdicts():
    rng = random.Random(5)
    assert difference(paired(rng, 40, -0.5, 0.1))["verdict"] == "better"
    assert difference(paired(rng, 40, 0.5, 0.1))["verdict"] == "worse"
    assert difference(paired(rng, 40, 0.0, 1.0))["verdict"] == "unclear"
    few = difference(paired(rng, 4, -0.5, 0.1))
    assert (few["low"], few["verdict"]) == (None, "unclear")
    nothing = Pairing()
    for window in range(20):
        nothing.add(window, 0.0)
    assert difference(nothing)["verdict"] == "same"


# -- whole reports ----------------------------------------------------------------------------------------------------


def stored(broker):
    return [json.loads(value) for value in broker.values(topic(OUTCOMES, "s"))]


def test_binary_figures_are_those_of_the_stored_outcomes(tmp_path):
    broker = lived("binary")
    made = report(tmp_path, broker, asked("binary", thresholds=[0.3]), contract_of("binary"))
    outcomes = [one for one in stored(broker) if one["status"] == "labelled"]
    truth, scores = [one["y"] for one in outcomes], [one["score"] for one in outcomes]
    replayed, served = made["models"][0], made["models"][2]
    assert (replayed["name"], served["name"]) == ("live", "served")
    for model in (replayed, served):
        assert model["metrics"]["roc_auc"] == pytest.approx(oracles.roc_auc(truth, scores), abs=2e-3)
        assert model["metrics"]["log_loss"] == pytest.approx(oracles.log_loss(truth, scores))
        assert sum(one["count"] for one in model["calibration"]) == len(outcomes)
        at = next(one for one in model["curve"] if one["threshold"] == 0.3)
        assert at["tp"] == pytest.approx(
            sum(y and s >= 0.3 for y, s in zip(truth, scores, strict=True)), abs=2
        )
    assert replayed["confusion"]["tp"] == sum(y and s >= 0.3 for y, s in zip(truth, scores, strict=True))
    assert served["confusion"]["tp"] == sum(y and s > 0.5 for y, s in zip(truth, scores, strict=True))
    assert [one["name"] for one in made["models"][3:]] == ["live@1", "beside@4"]
    assert made["counted"]["observations"] == 600
    assert sum(window["observations"] for window in made["windows"]) == 600
    by_window = [view["count"] for view in served["windows"] if view]
    assert sum(by_window) == len(outcomes)
    same, other, between = made["differences"]
    assert (same["verdict"], same["mean"]) == ("same", 0.0)
    assert other["mean"] == pytest.approx(between["mean"])
    beside = [(one["challengers"][0].get("score"), one["score"], one["y"]) for one in outcomes]
    expected = [
        -math.log(max(theirs if y else 1 - theirs, 1e-15)) + math.log(max(mine if y else 1 - mine, 1e-15))
        for theirs, mine, y in beside
        if theirs is not None
    ]
    assert other["count"] == len(expected)
    assert other["mean"] == pytest.approx(sum(expected) / len(expected))


def test_multiclass_and_regression_figures_too(tmp_path):
    broker = lived("multiclass")
    made = report(tmp_path / "m", broker, asked("multiclass"), contract_of("multiclass"))
    outcomes = [one for one in stored(broker) if one["status"] == "labelled" and "answer" in one]
    confusion = made["models"][0]["confusion"]
    assert sorted(confusion["classes"]) == sorted(CLASSES)
    for row, truth in enumerate(confusion["classes"]):
        for column, answer in enumerate(confusion["classes"]):
            count = sum(one["y"] == truth and one["answer"] == answer for one in outcomes)
            assert confusion["counts"][row][column] == count
    broker = lived("regression")
    made = report(tmp_path / "r", broker, asked("regression"), contract_of("regression"))
    errors = [abs(one["y"] - one["answer"]) for one in stored(broker) if one["status"] == "labelled"]
    for model in (made["models"][0], made["models"][2]):
        assert model["metrics"]["mae"] == pytest.approx(sum(errors) / len(errors))
        for point in model["errors"]:
            share = sum(error <= point["error"] for error in errors) / len(errors)
            assert point["share"] == pytest.approx(share, abs=1e-9)


def test_expired_as_negatives_are_scored_and_missing_history_is_said(tmp_path):
    broker = lived("binary")
    plan = asked("binary", policy={"expiry": "negative"})
    made = report(tmp_path, broker, plan, contract_of("binary"))
    assert made["counted"]["expired"] > 20
    assert made["models"][0]["metrics"]["count"] == made["counted"]["labelled"] + made["counted"]["expired"]
    assert made["models"][2]["metrics"]["count"] == made["happened"]["labelled"]
    broker._topics[topic(OUTCOMES, "s")] = [[]]
    made = report(tmp_path / "none", broker, asked("binary"), contract_of("binary"))
    assert [model["kind"] for model in made["models"]] == ["replayed", "replayed"]
    assert any("nothing to compare" in note for note in made["notes"])


def test_a_range_by_offset_is_a_range_of_records(tmp_path):
    broker = lived("binary")
    plan = asked("binary", start=Bound("offset", 300), end=Bound("offset", 700))
    made = report(tmp_path, broker, plan, contract_of("binary"))
    inside = [one for one in stored(broker) if 300 <= one.get("prediction_offset", -1) < 700]
    assert made["counted"]["labelled"] == sum(one["status"] == "labelled" for one in inside)
    assert made["counted"]["observations"] == len(inside)
    assert made["log"][0]["folded_to"] < made["log"][0]["end"]
    assert made["windows"][0]["from"] >= "2012-12"
    assert START > 0
