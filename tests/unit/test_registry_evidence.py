"""Evidence is right however often one looks, and needs few labels where there is something to see."""

from statistics import NormalDist, fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.events import Answer, Outcome
from services.registry.domain.evidence import Evidence, difference, differences, weigh

RATE = 0.05


def verdicts(draw, labels, runs, error_rate=RATE, harm_rate=RATE):
    """(verdict, labels that it took) of each run."""
    found = []
    for _ in range(runs):
        evidence, verdict = weigh(Evidence(), draw(labels), error_rate, harm_rate)
        found.append((verdict, evidence.labels))
    return found


def swings(chance, deviation, mean=0.0):
    return lambda labels: np.clip(chance.normal(mean, deviation, labels), -1.0, 1.0)


@pytest.mark.parametrize("kind", ["wide", "narrow", "coins", "rare", "waves"])
def test_equal_models_are_seldom_told_apart_though_every_label_is_a_look(kind):
    """400 runs of 5,000 looks: at 5 % wrong verdicts a side, more than 33 would come in one of 1,000 test runs."""
    chance = np.random.default_rng(sum(kind.encode()))

    def waves(labels):  # the next difference is fair, but its size depends on those before
        sizes = 0.02 + 0.3 * (np.sin(np.arange(labels) / 40) > 0)
        return chance.choice([-1.0, 1.0], labels) * sizes

    draw = {
        "wide": swings(chance, 0.3),
        "narrow": swings(chance, 0.03),
        "coins": lambda labels: chance.choice([-1.0, 1.0], labels),
        "rare": lambda labels: chance.choice([-1.0, 0.0, 1.0], labels, p=[0.01, 0.98, 0.01]),
        "waves": waves,
    }[kind]
    found = [verdict for verdict, _ in verdicts(draw, 5000, 400)]
    assert found.count("better") <= 33
    assert found.count("worse") <= 33


@pytest.mark.parametrize(("mean", "deviation"), [(0.01, 0.1), (0.005, 0.1), (0.02, 0.2), (0.05, 0.4)])
def test_a_real_difference_takes_at_most_twice_the_labels_of_a_test_of_fixed_size(mean, deviation):
    """Against the fixed number that finds it nine times in ten at the same error rate."""
    quantile = NormalDist().inv_cdf
    fixed = ((quantile(1 - RATE) + quantile(0.9)) * deviation / mean) ** 2
    found = verdicts(swings(np.random.default_rng(3), deviation, mean), int(fixed * 8), 200)
    assert all(verdict == "better" for verdict, _ in found)
    assert fmean(labels for _, labels in found) < 2 * fixed


def test_what_is_worse_is_called_worse():
    found = verdicts(swings(np.random.default_rng(4), 0.1, -0.01), 10_000, 100)
    assert {verdict for verdict, _ in found} == {"worse"}


@given(st.lists(st.floats(-1, 1), max_size=60), st.integers(1, 7), st.sampled_from([0.3, 0.05]))
def test_how_labels_are_batched_changes_nothing(values, size, rate):
    whole, at_once = weigh(Evidence(), np.array(values), rate, rate)
    pieces, verdict = Evidence(), None
    for start in range(0, len(values), size):
        pieces, verdict = weigh(pieces, np.array(values[start : start + size]), rate, rate)
        if verdict is not None:
            break
    assert verdict == at_once
    assert pieces.labels == whole.labels
    assert pieces.total == pytest.approx(whole.total)
    assert pieces.better == pytest.approx(whole.better)
    assert pieces.for_worse == pytest.approx(whole.for_worse)


def test_the_capital_is_what_the_bets_made_of_one():
    evidence, _ = weigh(Evidence(), np.array([1.0, -0.5]), 1e-9, 1e-9)
    stakes = [0.95, 0.4, 0.17, 0.07, 0.03, 0.013]
    assert evidence.for_better == pytest.approx(fmean((1 + s) * (1 - s / 2) for s in stakes))
    assert evidence.for_worse == pytest.approx(fmean((1 - s) * (1 + s / 2) for s in stakes))
    assert (evidence.labels, evidence.mean, evidence.deviation) == (2, 0.25, 0.75)


def test_capital_beyond_all_numbers_is_still_a_number():
    evidence, _ = weigh(Evidence(), np.ones(100_000), 1e-300, 1e-300)
    assert 1e299 < evidence.for_better < float("inf")
    assert 0.0 <= evidence.for_worse < 1e-6


@pytest.mark.parametrize(
    ("task", "y", "first", "second", "expected"),
    [
        ("binary", True, {"answer": True, "score": 0.8}, {"answer": True, "score": 0.9}, 0.04 - 0.01),
        ("binary", False, {"answer": True, "score": 1.0}, {"answer": False, "score": 0.0}, 1.0),
        ("binary", False, {"answer": False}, {"answer": True}, -1.0),
        ("binary", False, {}, {"answer": False, "score": 0.1}, 1.0 - 0.01),
        ("binary", False, {}, {}, 0.0),
        ("multiclass", "a", {"answer": "b"}, {"answer": "a"}, 1.0),
        ("multiclass", "a", {"answer": "a", "probabilities": {"a": 0.5, "b": 0.5}},
         {"answer": "a", "probabilities": {"a": 1.0}}, 0.25),
        ("multiclass", 3, {"answer": 4, "probabilities": {"4": 1.0}}, {"answer": 3}, 1.0),
        ("regression", 10.0, {"answer": 13.0}, {"answer": 11.0}, 0.5),
        ("regression", 10.0, {"answer": 10.0}, {"answer": 10.0}, 0.0),
        ("regression", 0.0, {}, {"answer": 1e15}, 1.0),
        ("regression", 0.0, {"answer": 0.0}, {}, -1.0),
    ],
)  # fmt: skip
def test_losses(task, y, first, second, expected):
    found = difference(task, y, Answer("a", 1, **first), Answer("b", 1, **second))
    assert found == pytest.approx(expected)


def outcome(status="labelled", y=True, model="a", version=1, beside=("b", 1)):
    return Outcome(
        "i", "e", 0, status, 1, 0, 0, y, None, model, version, True, 0.5,
        challengers=[Answer("c", 1, True, 0.9), Answer(*beside, True, 1.0)],
    )  # fmt: skip


def test_only_first_labels_of_the_pair_in_question_count():
    counted = [outcome(), outcome("expired", y=False)]
    others = [
        outcome("expired", y=None),
        outcome("corrected"),
        outcome("ignored"),
        outcome(version=2),
        outcome(model="b", beside=("a", 1)),
        outcome(beside=("b", 2)),
    ]
    found = differences("binary", [*counted, *others], ("a", 1), ("b", 1))
    assert found == [pytest.approx(0.25), pytest.approx(0.25 - 1.0)]
