"""Bias figures: by hand for two small groups, textbook intervals, and the published rates of COMPAS."""

import csv
import gzip
import os
from pathlib import Path

import msgspec
import pytest

from headrace.contracts import odcs
from headrace.contracts.cleanse import Cleanser
from headrace.contracts.events import Answer, Outcome
from headrace.contracts.groups import Groups
from headrace.contracts.statistics import Quality
from headrace.contracts.topics import STATISTICS
from headrace.testing import builders
from services.monitor.domain import fairness
from services.monitor.domain.details import fairness_view, quality_view
from services.monitor.domain.tables import Tables
from services.monitor.processor import Summariser, WindowShape

ROOT = Path(__file__).parents[3]
COMPAS = Path(os.environ.get("HEADRACE_DATA", ROOT.parent / "shared" / "data")) / "compas_by_date.csv.gz"


def group(tp, fp, tn, fn):
    return Quality(count=tp + fp + tn + fn, correct=tp + tn, tp=tp, fp=fp, tn=tn, fn=fn)


def test_two_groups_by_hand():
    groups = {"a": group(30, 10, 40, 20), "b": group(8, 4, 16, 12), "few": group(3, 0, 0, 0)}
    found = fairness.assess(groups, group(50, 20, 60, 35))
    assert (found["compared"], found["too_small"], found["without_group"]) == (["a", "b"], ["few"], 22)
    first, second, few = found["groups"]
    assert [one["share"] for one in (first, second, few)] == [100 / 143, 40 / 143, 3 / 143]
    assert first["selection_rate"]["value"] == 0.4
    assert second["false_positive_rate"]["value"] == 0.2
    assert few["false_positive_rate"] == {"value": None, "interval": [0.0, 1.0], "count": 0}
    measures = found["measures"]
    parity = measures["demographic_parity"]
    assert parity["difference"] == pytest.approx(0.4 - 0.3)
    assert parity["ratio"] == pytest.approx(0.75)
    assert (parity["largest"], parity["smallest"]) == ("a", "b")
    assert measures["equal_opportunity"]["difference"] == pytest.approx(0.6 - 0.4)
    assert measures["false_positive_parity"]["difference"] == pytest.approx(0.0)
    assert measures["equalized_odds"] == measures["equal_opportunity"]
    assert measures["predictive_parity"]["difference"] == pytest.approx(0.75 - 8 / 12)
    assert measures["accuracy_parity"]["difference"] == pytest.approx(0.7 - 0.6)


def test_intervals_are_those_of_the_textbooks():
    """Newcombe (1998): 81 of 263 (paper I), 56 of 70 against 48 of 80 (paper II)."""
    wilson = fairness.rate(81, 263)
    assert (wilson.low, wilson.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    apart, low, high = fairness.difference(fairness.rate(56, 70), fairness.rate(48, 80))
    assert (apart, low, high) == (
        pytest.approx(0.2), pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5),
    )  # fmt: skip


def test_an_interval_of_a_ratio_holds_its_ratio_and_small_groups_say_little():
    part, low, high = fairness.ratio(fairness.rate(30, 100), fairness.rate(60, 100))
    assert low < part == 0.5 < high
    _, wide_low, wide_high = fairness.ratio(fairness.rate(3, 10), fairness.rate(6, 10))
    assert wide_low < low < high < wide_high
    assert fairness.ratio(fairness.rate(0, 40), fairness.rate(0, 40))[0] is None
    assert fairness.ratio(fairness.rate(0, 40), fairness.rate(9, 40))[:2] == (0.0, 0.0)


def test_one_group_is_compared_with_nobody():
    found = fairness.assess({"a": group(20, 20, 20, 20)}, group(20, 20, 20, 20))
    assert set(found["measures"].values()) == {None}


def test_calibration_holds_scores_against_what_came_true():
    tally = Quality(positives={9: 6, 45: 1}, negatives={9: 14, 50: 1})
    found = fairness.calibration(tally, 50)
    assert [(one["from"], one["observed"]["value"]) for one in found["bins"]] == [(0.1, 0.3), (0.9, 0.5)]
    assert found["observed"] == 7 / 22
    assert found["mean_score"] == pytest.approx((20 * 0.19 + 0.91 + 1.0) / 22)
    assert found["expected_error"] == pytest.approx((abs(20 * 0.19 - 6) + abs(1.91 - 1)) / 22)
    assert fairness.calibration(Quality(), 50)["mean_score"] is None


@pytest.mark.skipif(
    not COMPAS.exists(), reason="COMPAS is not on this machine (HEADRACE_DATA names its folder)"
)
def test_compas_has_the_published_rates():
    """ProPublica's figures (decile 5 and more is high), from the contract to the view."""
    contract = odcs.load((ROOT / "examples" / "streams" / "recidivism.yaml").read_text())
    cleanser, groups = Cleanser(contract), Groups(contract)
    outcomes = []
    with gzip.open(COMPAS, "rt") as lines:
        for n, row in enumerate(csv.DictReader(lines)):
            given = {key: int(text) if text.lstrip("-").isdigit() else text for key, text in row.items()}
            charged = bool(given.pop("two_year_recid"))
            seen = cleanser.observation(msgspec.json.encode(given), now_ms=1 << 41, new_id=str)
            high = seen.x["decile_score"] >= 5
            outcomes.append(
                Outcome(
                    seen.id, seen.entity, seen.at, "labelled", n, seen.at, n, charged, None, "compas", 1, high,
                    groups=groups.of(seen.x, seen.aside), challengers=[Answer("none", 1)],
                )
            )  # fmt: skip
    shape = WindowShape(86_400 * 30, 0)
    tables = Tables(shape.length_seconds)
    for topic, records in (("s.log", [builders.adopted(contract)]), ("s.outcomes", outcomes)):
        said = Summariser(topic, 0, shape).process(builders.batch(records, topic=topic))
        for message in said[STATISTICS.name, 0]:
            tables.apply(message["value"])
    table = tables.streams["s"]
    by_race = next(
        one for one in fairness_view(table, table.starts)["models"]
        if (one["model"], one["field"]) == ("compas", "race")
    )  # fmt: skip
    published = {
        "African-American": (3696, 0.4485, 0.2799, 0.630),
        "Caucasian": (2454, 0.2345, 0.4772, 0.591),
    }
    for one in by_race["groups"]:
        if one["group"] in published:
            count, false_positive, false_negative, precision = published[one["group"]]
            assert one["count"] == count
            assert one["false_positive_rate"]["value"] == pytest.approx(false_positive, abs=5e-5)
            assert one["false_negative_rate"]["value"] == pytest.approx(false_negative, abs=5e-5)
            assert one["precision"]["value"] == pytest.approx(precision, abs=5e-4)
            published.pop(one["group"])
    assert not published
    assert {one["model"] for one in quality_view(table, table.starts)["models"]} == {"compas", "none"}
