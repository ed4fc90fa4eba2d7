"""Every metric is declared in one place, under a proper name, with bounded labels; planted mistakes are caught."""

from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

from headrace.metrics.form import SHORT_SECONDS, Label, Metric
from tests.repo import declared, metric_rules


def test_the_catalogue_keeps_the_conventions() -> None:
    assert metric_rules.findings() == []


def test_no_module_makes_a_metric_past_the_catalogue() -> None:
    assert declared.stray_metrics() == []


def test_a_metric_past_the_catalogue_is_caught(tmp_path: Path) -> None:
    module = tmp_path / "services/ingest/more.py"
    module.parent.mkdir(parents=True)
    module.write_text('A = Counter("headrace_a_total", "A")\nB = Counter("foreign_total", "B")\n')
    assert declared.stray_metrics(tmp_path) == [
        "services/ingest/more.py: headrace_a_total is not in the catalogue"
    ]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric(Counter, "headrace_x", "X"), "end in _total"),
        (Metric(Gauge, "headrace_x_total", "X"), "end in _total"),
        (Metric(Gauge, "x_seconds", "X"), "headrace_"),
        (Metric(Gauge, "headrace_wait_ms", "X"), "not a base unit"),
        (Metric(Counter, "headrace_wait_milliseconds_total", "X"), "not a base unit"),
        (Metric(Histogram, "headrace_wait", "X", (), SHORT_SECONDS), "says its unit"),
        (Metric(Histogram, "headrace_wait_seconds", "X", (), (1.0, 2.0)), "buckets"),
        (Metric(Gauge, "headrace_x", ""), "a meaning"),
        (Metric(Gauge, "headrace_x", "X", (Label("stream"),)), "a bound"),
        (Metric(Gauge, "headrace_x", "X", (Label("quantile", most=2),)), "no name for a label"),
        (Metric(Gauge, "headrace_x", "X", (Label("a", most=1000), Label("b", most=1000))), "too many"),
    ],
)
def test_a_mistake_in_a_metric_is_caught(metric: metric_rules.AnyMetric, expected: str) -> None:
    assert any(expected in finding for finding in metric_rules.findings((metric,)))


def test_a_metric_declared_twice_is_caught() -> None:
    one = Metric(Gauge, "headrace_x", "X")
    assert metric_rules.findings((one, one)) == ["headrace_x: declared twice"]
