"""What the monitor shows of its tables: the newest window, the newest versions, and nothing that has gone."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from headrace.contracts.events import Alert
from headrace.contracts.statistics import ContractFacts, Delay, Quality, WindowSummary, encode_summary
from services.monitor.control import ControlPlane
from services.monitor.domain import delays
from services.monitor.domain.tables import Tables
from services.monitor.metrics import MonitorMetrics

HOUR = 3_600_000


def outcomes(start: int | None, rates: dict[str, float], delay_ms: int = 60_000, through: int = 1) -> bytes:
    """A summary of outcomes: accuracy by `model@version`."""
    summary = WindowSummary("s", "outcomes", 0, 3600, start=start, through_offset=through)
    summary.closed = start is not None
    summary.final_before = 100 * HOUR
    for name, rate in rates.items():
        right = round(100 * rate)
        summary.quality[name] = Quality(count=100, correct=right, tp=right, fp=100 - right)
    summary.delay = Delay()
    delays.add(summary.delay, delay_ms)
    return encode_summary(summary)


def declared() -> bytes:
    """The total of the log, which says what the stream's task is."""
    summary = WindowSummary("s", "log", 0, 3600, through_offset=1)
    summary.contract = ContractFacts(1, "binary", 1, [])
    return encode_summary(summary)


@pytest.fixture
def shown() -> Callable[..., dict[tuple[str, ...], float]]:
    """Feeds summaries, refreshes, and gives the values of a metric by its labels."""
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    control = ControlPlane(Tables(3600), silent_seconds=60)
    control.receive(declared())
    control.receive(outcomes(None, {}, through=0))

    def show(name: str, *values: bytes, waiting: int = 0) -> dict[tuple[str, ...], float]:
        for value in values:
            control.receive(value)
        control.outbox.extend([Alert("a", "s", "r", "warning", "firing", "f1", 0.1, 0.2, 0)] * waiting)
        metrics.refresh(control)
        return {
            tuple(sample.labels.values()): sample.value
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == name and sample.labels.get("metric", "accuracy") == "accuracy"
        }

    return show


def test_quality_is_that_of_the_newest_closed_window_and_a_retired_model_goes(shown):
    name = "headrace_monitor_quality"
    first = outcomes(HOUR, {"old@1": 0.7, "new@1": 0.8})
    assert shown(name, first) == {("s", "old", "accuracy"): 0.7, ("s", "new", "accuracy"): 0.8}
    assert shown(name, outcomes(2 * HOUR, {"new@2": 0.9})) == {("s", "new", "accuracy"): 0.9}


def test_of_many_versions_the_newest_are_shown(shown):
    versions = {f"m@{number}": number / 100 for number in range(1, 13)}
    found = shown("headrace_monitor_total_quality", outcomes(None, versions))
    assert sorted(int(version) for _, _, version, _ in found) == list(range(5, 13))
    more = shown("headrace_monitor_total_quality", outcomes(None, versions | {"m@13": 0.5}, through=2))
    assert sorted(int(version) for _, _, version, _ in more) == list(range(6, 14))


def test_the_delay_of_labels_is_in_seconds(shown):
    found = shown("headrace_monitor_label_delay_seconds", outcomes(HOUR, {"m@1": 0.5}, delay_ms=7_200_000))
    assert found == {
        ("s", "0.5"): pytest.approx(7200, rel=0.07),
        ("s", "0.95"): pytest.approx(7200, rel=0.07),
    }


def test_alerts_that_kafka_has_not_taken_are_waiting(shown):
    assert shown("headrace_monitor_alerts", waiting=2)[("waiting",)] == 2


def test_drifts_are_counted_from_nothing(shown):
    """A count that is born at 1 would be no increase to Prometheus."""
    found = shown("headrace_monitor_drifts_total", outcomes(HOUR, {"m@1": 0.5}))
    assert found[("s", "concept")] == 0
