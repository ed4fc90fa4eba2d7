"""Quality before labels: what is planted is found, what cannot be seen is not, and intervals hold what they say."""

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from headrace.contracts.statistics import Answers, ContractFacts, WindowSummary, encode_summary
from headrace.contracts.topics import STATISTICS
from headrace.testing import builders
from services.monitor.domain import calibration, figures
from services.monitor.domain.details import quality_view
from services.monitor.domain.estimates import Asked, estimate
from services.monitor.domain.estimating import ASSUMES, LABELS_NEEDED
from services.monitor.domain.rules import Rule
from services.monitor.domain.tables import Tables
from services.monitor.domain.views import window_view
from services.monitor.metrics import MonitorMetrics
from services.monitor.processor import Summariser, WindowShape
from tests import oracles
from tests.unit.monitor.told import HOUR, Plane

SHAPE = WindowShape(lateness_seconds=0)
RECORDS = 300
"""A window."""
STEP = HOUR // RECORDS
DELAY = 2 * HOUR


def planted(windows, seed, *, scores, truth):
    """(score, label) by window; scores(rng, window, size) and truth(window, score) say how it really is."""
    rng = np.random.default_rng(seed)
    drawn = [scores(rng, window, RECORDS) for window in range(windows)]
    return [
        list(zip(some.tolist(), (rng.random(RECORDS) < truth(window, some)).tolist(), strict=True))
        for window, some in enumerate(drawn)
    ]


def events(stream):
    """Predictions, and the outcomes of all whose label comes `DELAY` later, within the stream's time."""
    predictions, outcomes = [], []
    for window, rows in enumerate(stream):
        for n, (score, y) in enumerate(rows):
            at = window * HOUR + n * STEP
            predictions.append(builders.prediction(f"{window}-{n}", score, at=at))
            if at + DELAY < len(stream) * HOUR:
                outcomes.append(builders.outcome(f"{window}-{n}", y, score, at=at + DELAY, observed_at=at))
    return predictions, outcomes


def feed(tables, topic, records, *, size=500, partition=0, shape=SHAPE):
    summariser = Summariser(topic, partition, shape)
    for first in range(0, len(records), size):
        some = builders.batch(records[first : first + size], topic=topic, partition=partition, first=first)
        for message in summariser.process(some)[STATISTICS.name, 0]:
            tables.apply(message["value"])


def tables_of(stream, **how):
    made = Tables(SHAPE.length_seconds)
    feed(made, "s.log", [builders.adopted()])
    for kind, records in zip(("predictions", "outcomes"), events(stream), strict=True):
        feed(made, f"s.{kind}", records, **how)
    return made.streams["s"]


def estimated(table, window):
    [one] = window_view(table, window * HOUR)["estimate"]
    return one


def true_figures(rows):
    y, scores = [truth for _, truth in rows], [score for score, _ in rows]
    return {
        "accuracy": np.mean([truth == (score > 0.5) for score, truth in rows]),
        "brier": np.mean([(score - truth) ** 2 for score, truth in rows]),
        "roc_auc": oracles.roc_auc(y, scores),
    }


def inside(one, figure, true):
    return one["interval"][figure]["low"] <= true <= one["interval"][figure]["high"]


def overconfident(_, score):
    """A model whose 0.9 is a 0.74: half as far from 0.5 in truth, and a little more."""
    return 0.5 + 0.6 * (score - 0.5)


def even(rng, _, size):
    return rng.random(size)


def shifted(rng, window, size):
    """From the 13th window on only easy cases come: their labels come two windows later."""
    score = rng.random(size)
    return score if window < 12 else np.where(score < 0.5, score * 0.2, 1.0 - (1.0 - score) * 0.2)


def test_it_follows_a_shift_of_the_cases_though_no_label_of_them_is_known():
    stream = planted(14, 1, scores=shifted, truth=overconfident)
    table = tables_of(stream)
    before, after = estimated(table, 11), estimated(table, 13)
    true = true_figures(stream[13])
    measured = next(one for one in window_view(table, 13 * HOUR)["quality"] if one["model"] == "m")
    for figure in ("accuracy", "brier", "roc_auc"):
        assert inside(before, figure, true_figures(stream[11])[figure])
        assert inside(after, figure, true[figure])
        assert abs(after[figure] - true[figure]) < abs(measured[figure] - true[figure]) / 2
    assert after["accuracy"] > before["accuracy"] + 0.08
    assert after["based_on_labels"] == 3_300
    assert after["labelled_share"] == pytest.approx(1.0)


def test_it_cannot_see_that_scores_have_come_to_mean_something_else_and_says_so():
    stream = planted(
        16,
        2,
        scores=even,
        truth=lambda window, score: overconfident(window, score if window < 12 else 1 - score),
    )
    table = tables_of(stream)
    blind = estimated(table, 13)
    assert blind["accuracy"] == pytest.approx(estimated(table, 11)["accuracy"], abs=0.03)
    assert not inside(blind, "accuracy", true_figures(stream[13])["accuracy"])
    assert quality_view(table, [13 * HOUR])["models"][0]["estimate"]["assumes"] == ASSUMES
    # Once labels have shown it, the errors of the past tell how little to trust it.
    assert estimated(table, 15)["past_error"]["accuracy"] > 1.5 * blind["past_error"]["accuracy"]
    width = {window: estimated(table, window)["interval"]["accuracy"] for window in (13, 15)}
    assert width[15]["high"] - width[15]["low"] > 1.5 * (width[13]["high"] - width[13]["low"])


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Both parts of the variance count: labels of the window, and the few labels it was learnt from."""
    rng = np.random.default_rng(3)
    held = {"accuracy": 0, "brier": 0, "roc_auc": 0}
    repeats = 300
    for _ in range(repeats):
        known, asked = rng.beta(0.8, 0.8, 400), rng.beta(0.8, 1.6, 400)
        y_known, y = (rng.random(400) < overconfident(0, scores) for scores in (known, asked))
        learnt = calibration.learn(counts(known[y_known]), counts(known[~y_known]))
        found = estimate(Asked(counts(asked), int((asked > 0.5).sum())), learnt)
        for figure, true in true_figures(list(zip(asked.tolist(), y.tolist(), strict=True))).items():
            low, high = found[figure].interval()
            held[figure] += bool(low <= true <= high)
    assert all(0.92 <= count / repeats <= 0.985 for count in held.values()), held


def counts(scores):
    return np.bincount(calibration.cells_of(scores), minlength=calibration.CELLS).astype(float)


def test_a_step_has_enough_labels_and_keeps_their_sum():
    rng = np.random.default_rng(4)
    scores = rng.beta(0.2, 0.4, 1_000)
    y = rng.random(1_000) < np.sin(5 * scores) ** 2
    positives, negatives = counts(scores[y]), counts(scores[~y])
    learnt = calibration.learn(positives, negatives)
    weights = positives + negatives + calibration.PRIOR
    assert learnt.labels == 1_000
    assert weights @ learnt.share == pytest.approx(y.sum() + calibration.PRIOR * calibration.MIDDLES.sum())
    by_step = np.bincount(learnt.step, weights)
    assert by_step.min() >= 1_000 / calibration.STEPS
    assert len(by_step) > 8
    assert learnt.step[calibration.CELLS // 2 - 1] < learnt.step[calibration.CELLS // 2]


def test_without_labels_a_score_is_believed():
    nothing = np.zeros(calibration.CELLS)
    learnt = calibration.learn(nothing, nothing)
    assert learnt.labels == 0
    assert learnt.share @ np.ones(calibration.CELLS) == pytest.approx(calibration.MIDDLES.sum())
    assert learnt.variance.max() > 0.02


def test_cells_of_predictions_and_of_outcomes_are_the_same():
    scores = np.concatenate((np.arange(1_001) / 1_000, [1e-15, 1 - 1e-15]))
    histogram = {int(score * 1_000): 0 for score in scores}
    for score in scores:
        histogram[int(score * 1_000)] += 1
    assert calibration.by_cell(histogram) == pytest.approx(counts(scores))
    assert counts(scores).min() >= 1


@pytest.mark.parametrize("size", [1, 7, 5_000])
def test_batches_change_nothing(size):
    stream = planted(6, 5, scores=even, truth=overconfident)
    assert views(tables_of(stream, size=size)) == views(tables_of(stream))


def views(table):
    return [estimated(table, start // HOUR) for start in table.starts]


def test_partitions_add_up():
    stream = planted(6, 6, scores=even, truth=overconfident)
    apart = Tables(SHAPE.length_seconds)
    feed(apart, "s.log", [builders.adopted()])
    for kind, records in zip(("predictions", "outcomes"), events(stream), strict=True):
        for partition in (0, 1):
            feed(apart, f"s.{kind}", records[partition::2], partition=partition)
    together, table = views(tables_of(stream)), views(apart.streams["s"])
    assert [one["based_on_labels"] for one in table] == [one["based_on_labels"] for one in together]
    assert together[-1]["based_on_labels"] == 900
    for one, other in zip(table, together, strict=True):
        assert one.get("accuracy") == pytest.approx(other.get("accuracy"), abs=1e-12)
        assert one.get("past_error") == pytest.approx(other.get("past_error"), abs=1e-12)


def test_late_labels_revise_what_was_learnt_from_them():
    """Also if somebody has looked before: what was worked out of a window goes with the window's change."""
    stream = planted(8, 7, scores=even, truth=overconfident)
    made = Tables(SHAPE.length_seconds)
    feed(made, "s.log", [builders.adopted()])
    predictions, outcomes = events(stream)
    feed(made, "s.predictions", predictions)
    late = [one for n, one in enumerate(outcomes) if n < 900 and n % 2]
    in_time = [one for n, one in enumerate(outcomes) if n >= 900 or not n % 2]
    table = made.streams["s"]
    summariser = Summariser("s.outcomes", 0, SHAPE)

    def say(records, first):
        batch = builders.batch(records, topic="s.outcomes", first=first)
        for message in summariser.process(batch)[STATISTICS.name, 0]:
            made.apply(message["value"])

    say(in_time, 0)
    before = views(table)
    say(late, len(in_time))
    whole = views(tables_of(stream))
    assert before[-1]["based_on_labels"] == whole[-1]["based_on_labels"] - len(late)
    for one, other in zip(views(table), whole, strict=True):
        assert one["based_on_labels"] == other["based_on_labels"]
        for figure, interval in other.get("interval", {}).items():
            assert one["interval"][figure] == pytest.approx(interval, abs=1e-9)


def test_what_is_not_estimated_says_why():
    stream = planted(3, 8, scores=even, truth=overconfident)
    table = tables_of(stream)
    assert "fewer than" in estimated(table, 2)["missing"]
    assert LABELS_NEEDED == 200
    silent = Tables(SHAPE.length_seconds)
    feed(silent, "s.log", [builders.adopted()])
    feed(silent, "s.predictions", [builders.prediction("a", 0.4), builders.prediction("b", 0.4)])
    [half] = window_view(silent.streams["s"], 0)["estimate"]
    assert "accuracy" not in half
    for task in ("regression", "multiclass"):
        other = Tables(SHAPE.length_seconds)
        total = WindowSummary("s", "log", 0, SHAPE.length_seconds, contract=ContractFacts(1, task, 1, []))
        answers = {"m@1": Answers(5, 0, 5, 2.0, {}, cells={3: 5})}
        window = WindowSummary("s", "predictions", 0, SHAPE.length_seconds, start=0, answers=answers)
        for summary in (total, window):
            other.apply(encode_summary(summary))
        assert window_view(other.streams["s"], 0)["estimate"] == []
        assert quality_view(other.streams["s"], [0])["models"][0]["estimate"] is None


def test_a_window_that_was_counted_in_part_by_older_code_is_not_estimated():
    stream = planted(6, 9, scores=even, truth=overconfident)
    table = tables_of(stream)
    assert "accuracy" in estimated(table, 5)
    [window] = table.parts(5 * HOUR, "predictions")
    window.answers["m@1"].cells.popitem()
    window.through_offset += 1
    table.put(window, encode_summary(window))
    assert "accuracy" not in estimated(table, 5)


def told_plane(*rules):
    stream = planted(14, 1, scores=shifted, truth=overconfident)
    made = Plane(rules)
    source = Tables(SHAPE.length_seconds)
    values = []
    source.apply = values.append
    feed(source, "s.log", [builders.adopted()])
    for kind, records in zip(("predictions", "outcomes"), events(stream), strict=True):
        feed(source, f"s.{kind}", records)
    for value in values:
        made.receive(value)
    return made


def test_a_rule_can_be_about_an_estimate_and_names_it_so():
    made = told_plane(
        Rule("est", "s", "estimate.accuracy", above=0.74),
        Rule("sure", "s", "estimate.interval.accuracy.low", above=0.7),
        Rule("measured", "s", "accuracy", above=0.74),
    )
    assert {(one.rule, one.metric, one.at) for one in made.tell()} == {
        ("est", "estimate.accuracy", 13 * HOUR),
        ("sure", "estimate.interval.accuracy.low", 13 * HOUR),
    }
    assert figures.kind_of("estimate.accuracy") == "predictions"


def test_prometheus_has_the_newest_closed_windows_estimate_under_a_name_of_its_own():
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    made = told_plane()
    metrics.refresh(made)
    value = registry.get_sample_value(
        "headrace_monitor_estimated_quality", {"stream": "s", "model": "m", "metric": "accuracy"}
    )
    newest = estimated(made.tables.streams["s"], 12)
    assert value == newest["accuracy"]
    assert value > 0.7


def test_a_span_is_estimated_from_the_labels_before_its_last_window():
    stream = planted(14, 1, scores=shifted, truth=overconfident)
    table = tables_of(stream)
    [one] = quality_view(table, [12 * HOUR, 13 * HOUR])["models"]
    assert one["estimate"]["count"] == 2 * RECORDS
    assert inside(one["estimate"], "accuracy", true_figures(stream[12] + stream[13])["accuracy"])
    msgspec.json.encode(one)
