"""Prequential metrics against River and their plain definitions, and their sums: merging, windows, corrections."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from river import metrics as river

from headrace.contracts.events import Answer
from headrace.fold.metrics import (
    BLOCK_OUTCOMES,
    WINDOW_BLOCKS,
    BinaryTally,
    MulticlassTally,
    Prequential,
    RegressionTally,
)
from tests import oracles


def binary(n: int, seed: int = 1) -> list[tuple[bool, Answer]]:
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        y = rng.random() < 0.3
        score = min(1.0, max(0.0, rng.gauss(0.6 if y else 0.4, 0.2)))
        out.append((y, Answer("m", 1, score > 0.5, score)))
    return out


def of_river(metric: Any, pairs: Iterable[tuple[Any, Any]]) -> float:
    """A River metric over (truth, answer) pairs."""
    for truth, answer in pairs:
        metric.update(truth, answer)
    return float(metric.get())


def test_binary_figures_are_those_of_river_and_the_plain_definitions() -> None:
    pairs = binary(3000)
    tally = BinaryTally()
    for y, said in pairs:
        tally.update(y, said)
    truth, scores = [y for y, _ in pairs], [said.score or 0.0 for _, said in pairs]
    answers = [(y, said.answer) for y, said in pairs]
    view = tally.view()
    assert view["roc_auc"] == pytest.approx(oracles.roc_auc(truth, scores), abs=1e-3)
    assert view["log_loss"] == pytest.approx(oracles.log_loss(truth, scores))
    assert view["brier"] == pytest.approx(
        sum((y - p) ** 2 for y, p in zip(truth, scores, strict=True)) / 3000
    )
    assert view["accuracy"] == pytest.approx(of_river(river.Accuracy(), answers))
    assert view["f1"] == pytest.approx(of_river(river.F1(), answers))
    assert view["precision"] == pytest.approx(of_river(river.Precision(), answers))
    assert view["recall"] == pytest.approx(of_river(river.Recall(), answers))


def test_multiclass_figures_are_rivers() -> None:
    rng = random.Random(2)
    tally, pairs, same = MulticlassTally(), [], {"a": 0.2, "b": 0.3, "c": 0.5}
    for _ in range(2000):
        y = rng.choice("abc")
        answer = y if rng.random() < 0.6 else rng.choice("abc")
        tally.update(y, Answer("m", 1, answer, None, same))
        pairs.append((y, answer))
    view = tally.view()
    assert view["accuracy"] == pytest.approx(of_river(river.Accuracy(), pairs))
    assert view["f1"] == pytest.approx(of_river(river.MacroF1(), pairs))
    assert view["log_loss"] == pytest.approx(of_river(river.CrossEntropy(), [(y, same) for y, _ in pairs]))


def test_regression_figures_are_rivers() -> None:
    rng = random.Random(3)
    tallies = [RegressionTally(), RegressionTally()]
    pairs = []
    for index in range(2000):
        y = 1e6 + rng.gauss(0, 3)  # far from zero: raw sums of squares would cancel
        answer = y + rng.gauss(0, 1)
        tallies[index % 2].update(y, Answer("m", 1, answer))
        pairs.append((y, answer))
    tallies[0].merge(tallies[1])
    view = tallies[0].view()
    assert view["mae"] == pytest.approx(of_river(river.MAE(), pairs))
    assert view["rmse"] == pytest.approx(of_river(river.RMSE(), pairs))
    assert view["r2"] == pytest.approx(of_river(river.R2(), pairs))


def test_a_model_without_probabilities_has_accuracy_and_no_auc() -> None:
    tally = BinaryTally()
    tally.update(True, Answer("m", 1, True))
    tally.update(False, Answer("m", 1, True))
    view = tally.view()
    assert (view["count"], view["accuracy"], view["roc_auc"], view["log_loss"]) == (2, 0.5, None, None)


def test_no_answer_is_counted_apart() -> None:
    for tally in (BinaryTally(), MulticlassTally(), RegressionTally()):
        tally.update(1, Answer("m", 1))
        assert (tally.count, tally.unanswered) == (0, 1)
        assert all(value in (None, 0, 1) for value in tally.view().values())


def test_the_window_covers_the_last_blocks_and_overall_covers_all() -> None:
    prequential = Prequential("binary")
    pairs = binary(BLOCK_OUTCOMES * (WINDOW_BLOCKS + 3) + 17)
    for y, said in pairs:
        prequential.update(y, said)
    assert prequential.overall().count == len(pairs)
    last = pairs[-(BLOCK_OUTCOMES * WINDOW_BLOCKS + 17) :]
    assert prequential.windowed().count == len(last)
    assert prequential.windowed().tp == sum(y and bool(said.answer) for y, said in last)


def test_a_correction_revises_the_overall_figures() -> None:
    prequential = Prequential("binary")
    said = Answer("m", 1, True, 0.9)
    prequential.update(True, said)
    prequential.correct(True, False, said)
    view = prequential.overall().view()
    assert (view["count"], view["accuracy"], view["positives"]) == (1, 0.0, 0)


def test_a_correction_of_a_number_leaves_no_trace_of_the_old_one() -> None:
    revised, clean = Prequential("regression"), Prequential("regression")
    for y in (1.0, 5.0, 9.0):
        revised.update(y, Answer("m", 1, 4.0))
    revised.correct(9.0, 2.0, Answer("m", 1, 4.0))
    for y in (1.0, 5.0, 2.0):
        clean.update(y, Answer("m", 1, 4.0))
    for name, value in clean.overall().view().items():
        assert revised.overall().view()[name] == pytest.approx(value)
