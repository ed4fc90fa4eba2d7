"""A rule can name whatever a window shows: each of these figures is looked up by its path and held against a bound."""

import pytest

from headrace.contracts.statistics import (
    Answers,
    ContractFacts,
    Delay,
    Quality,
    WindowSummary,
    encode_summary,
)
from services.monitor.domain import delays, figures
from services.monitor.domain.rules import Rule
from services.monitor.domain.views import window_view
from tests.unit.monitor.told import HOUR, Plane


def hour_of(number, *, observations=10, missing=3, refused=2, slow=100, scores=5.0, edge=None):
    """One hour of all four topics, closed unless `edge` says otherwise; and what closes it."""
    begin, edge = number * HOUR, (number + 1) * HOUR if edge is None else edge
    delay = Delay()
    for seconds in range(10):
        delays.add(delay, seconds * slow)
    tally = {"m@1": Quality(count=4, correct=4, tp=4), "m@2": Quality(count=4, tp=1, fp=3)}
    windows = [
        WindowSummary(
            "s", "log", 0, 3600, observations=observations, missing={"age": missing} if missing else {}
        ),
        WindowSummary(
            "s",
            "predictions",
            0,
            3600,
            records=10,
            flagged=3,
            anomalous=1,
            outliers={"age": 2},
            answers={"m@2": Answers(10, 0, 10, scores), "m@1": Answers(1)},
        ),
        WindowSummary(
            "s", "outcomes", 0, 3600, records=10, statuses={"expired": 4}, delay=delay, quality=tally
        ),
        WindowSummary("s", "rejected", 0, 3600, records=refused, rejected={"range/age": 1, "range/size": 1}),
    ]
    for window in windows:
        window.start, window.through_offset = begin, number
        yield encode_summary(window)
        yield encode_summary(
            WindowSummary(
                "s", window.kind, 0, 3600, through_offset=number, final_before=edge,
                contract=ContractFacts(1, "binary", 1, ["age"]) if window.kind == "log" else None,
            )
        )  # fmt: skip


def plane(*rules, hours=({},)):
    made = Plane(rules)
    for number, hour in enumerate(hours):
        for value in hour_of(number, **hour):
            made.receive(value)
    return made


@pytest.mark.parametrize(
    ("metric", "model", "version", "value"),
    [
        ("counts.observations", "", 0, 10.0),
        ("per_second.observations", "", 0, 10 / 3600),
        ("missing.age.share", "", 0, 0.3),
        ("missing.size.share", "", 0, 0.0),
        ("statuses.expired", "", 0, 4.0),
        ("statuses.corrected", "", 0, 0.0),
        ("rejected.range.count", "", 0, 2.0),
        ("rejected.size.count", "", 0, 1.0),
        ("counts.rejected", "", 0, 2.0),
        ("answers.mean_score", "m", 2, 0.5),
        ("quality.positives", "m", 2, 5.0),
        ("accuracy", "m", 2, 5 / 8),
        ("outliers.share", "", 0, 0.3),
        ("outliers.anomalous.count", "", 0, 1.0),
        ("outliers.fields.age.share", "", 0, 0.2),
        ("outliers.fields.size.share", "", 0, 0.0),
    ],
)
def test_a_figure_is_found_by_its_path_and_told(metric, model, version, value):
    [told] = plane(Rule("r", "s", metric, above=value - 1e-9)).tell()
    assert (told.metric, told.model, told.version, told.at) == (metric, model, version, HOUR)
    assert told.value == pytest.approx(value)
    assert plane(Rule("r", "s", metric, above=value + 1e-9)).tell() == []


def test_a_figure_that_a_view_gains_is_found_without_more_ado():
    view = {
        "counts": {"observations": 7},
        "drift": {"age": {"psi": 0.3}},
        "cost": [{"model": "m", "total": 5}],
    }
    assert figures.find(view, "drift.age.psi") == {"": (0, 0.3, 7)}
    assert figures.find(view, "cost.total") == {"m": (0, 5.0, None)}
    assert figures.find(view, "nothing.of.it") == {}


def test_too_few_labels_are_no_delay_but_too_few_records_are_a_volume():
    slow = Rule("slow", "s", "label_delay.p90_seconds", above=0.5, minimum_count=11)
    idle = Rule("idle", "s", "counts.observations", below=11, minimum_count=1000)
    assert [told.rule for told in plane(slow, idle).tell()] == ["idle"]
    assert [
        told.rule for told in plane(Rule("slow", "s", slow.metric, above=0.5, minimum_count=10)).tell()
    ] == ["slow"]


def test_what_did_not_occur_any_more_ends_the_alert():
    rule = Rule("missing", "s", "missing.age.share", above=0.2)
    told = plane(rule, hours=({}, {"missing": 0})).tell()
    assert [(one.state, one.at) for one in told] == [("firing", HOUR), ("resolved", 2 * HOUR)]
    assert told[1].fired == told[0].id


def test_a_figure_is_final_when_the_windows_that_it_comes_from_are():
    open_still = {"edge": 0}
    assert plane(Rule("r", "s", "counts.observations", above=1.0), hours=(open_still,)).tell() == []
    kinds = ("counts.observations", "answers.mean_score", "label_delay.count", "accuracy", "counts.outcomes")
    assert [figures.kind_of(metric) for metric in kinds] == ["log", "predictions", *["outcomes"] * 3]


def test_a_late_summary_of_the_kind_that_a_rule_looks_at_is_judged_again():
    made = plane(Rule("r", "s", "counts.observations", above=15.0))
    assert made.tell() == []
    late = WindowSummary("s", "log", 0, 3600, start=0, through_offset=9, observations=20)
    made.receive(encode_summary(late))
    assert [told.value for told in made.tell()] == [20.0]


def test_the_view_is_the_one_people_see():
    table = plane().tables.streams["s"]
    assert figures.find(window_view(table, 0), "label_delay.mean_seconds")[""].value == pytest.approx(0.45)
