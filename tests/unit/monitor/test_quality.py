"""The monitor's tally: River's figures and the plain definitions, the same sums when merged, outcomes taken back."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import metrics

from headrace.contracts.events import Answer
from headrace.contracts.statistics import Quality
from services.monitor.domain import quality
from tests import oracles


def tally(entries):
    made = Quality()
    for y, said in entries:
        quality.update(made, y, said)
    return made


def binary(seed, count):
    rng = random.Random(seed)
    scores = [rng.randrange(1001) / 1000 for _ in range(count)]
    return [(rng.random() < score, Answer("m", 1, score >= 0.5, score)) for score in scores]


def of_river(metric, truth, answers):
    for y, answer in zip(truth, answers, strict=True):
        metric.update(y, answer)
    return metric.get()


def test_binary_figures_equal_the_plain_definitions():
    entries = binary(1, 3_000)
    shown = quality.figures(tally(entries), "binary")
    y = [truth for truth, _ in entries]
    score = [said.score for _, said in entries]
    answers = [said.answer for _, said in entries]
    assert shown["roc_auc"] == pytest.approx(oracles.roc_auc(y, score), abs=1e-12)
    assert shown["log_loss"] == pytest.approx(oracles.log_loss(y, score), rel=1e-9)
    assert shown["brier"] == pytest.approx(sum((t - p) ** 2 for t, p in zip(y, score, strict=True)) / len(y))
    assert shown["accuracy"] == pytest.approx(of_river(metrics.Accuracy(), y, answers))
    assert shown["precision"] == pytest.approx(of_river(metrics.Precision(), y, answers))
    assert shown["recall"] == pytest.approx(of_river(metrics.Recall(), y, answers))
    assert shown["f1"] == pytest.approx(of_river(metrics.F1(), y, answers))


def test_multiclass_figures_equal_a_plain_count():
    rng = random.Random(2)
    entries = []
    for _ in range(500):
        weights = {name: rng.random() for name in "abc"}
        total = sum(weights.values())
        probabilities = {name: weight / total for name, weight in weights.items()}
        entries.append(
            (rng.choice("abc"), Answer("m", 1, max(weights, key=weights.get), None, probabilities))
        )
    shown = quality.figures(tally(entries), "multiclass")
    assert shown["accuracy"] == sum(y == said.answer for y, said in entries) / 500
    assert shown["log_loss"] == pytest.approx(
        -sum(math.log(said.probabilities[y]) for y, said in entries) / 500
    )


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_regression_figures_equal_the_definitions_also_far_from_zero(offset):
    rng = random.Random(3)
    y = [offset + rng.gauss(0, 3) for _ in range(2_000)]
    said = [value + rng.gauss(0, 1) for value in y]
    halves = [
        tally([(a, Answer("m", 1, b)) for a, b in zip(y, said, strict=True)][part::2]) for part in (0, 1)
    ]
    quality.merge(halves[0], halves[1])
    shown = quality.figures(halves[0], "regression")
    errors = [a - b for a, b in zip(y, said, strict=True)]
    squared = sum(error**2 for error in errors)
    mean = sum(y) / len(y)
    assert shown["mae"] == pytest.approx(sum(map(abs, errors)) / len(y))
    assert shown["rmse"] == pytest.approx(math.sqrt(squared / len(y)))
    assert shown["r2"] == pytest.approx(1 - squared / sum((value - mean) ** 2 for value in y), abs=1e-6)


def test_no_answer_is_counted_apart_and_enters_no_figure():
    made = tally([(True, Answer("m", 1)), (False, Answer("m", 1))])
    assert quality.figures(made, "binary") | {
        "count": 0,
        "unanswered": 2,
        "roc_auc": None,
        "accuracy": None,
    } == (quality.figures(made, "binary"))


def test_figures_stay_finite_for_the_largest_errors():
    made = tally([(1e15, Answer("m", 1, -1e308)), (-1e15, Answer("m", 1, 1e308))])
    assert all(math.isfinite(value) for value in quality.figures(made, "regression").values())


said_by = st.one_of(
    st.tuples(st.booleans(), st.integers(0, 1000).map(lambda n: Answer("m", 1, n >= 500, n / 1000))),
    st.tuples(st.booleans(), st.just(Answer("m", 1))),
)


@given(st.lists(said_by, max_size=30), st.integers(0, 30))
def test_merging_parts_gives_the_counts_of_the_whole(entries, cut):
    parts, whole = tally(entries[:cut]), tally(entries)
    quality.merge(parts, tally(entries[cut:]))
    for name in (
        "count",
        "unanswered",
        "correct",
        "tp",
        "fp",
        "tn",
        "fn",
        "scored",
        "positives",
        "negatives",
    ):
        assert getattr(parts, name) == getattr(whole, name)
    assert parts.loss == pytest.approx(whole.loss)


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=20)
)
def test_a_correction_kept_apart_gives_the_figures_of_the_corrected_labels(entries):
    """The total holds corrections before the windows that they correct are added to it: counts may be below zero."""
    window, past, straight = Quality(), Quality(), Quality()
    for before, after, answer in entries:
        said = Answer("m", 1, answer)
        quality.update(window, before, said)
        quality.update(past, before, said, -1)
        quality.update(past, after, said)
        quality.update(straight, after, said)
    quality.merge(past, window)
    shown, wanted = quality.figures(past, "regression"), quality.figures(straight, "regression")
    assert shown["count"] == wanted["count"]
    assert shown["mae"] == pytest.approx(wanted["mae"], abs=1e-9)
    assert shown["r2"] is None or wanted["r2"] is None or shown["r2"] == pytest.approx(wanted["r2"], abs=1e-6)
