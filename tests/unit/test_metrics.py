"""Labels stay within their bounds, whatever comes; what is served is what was declared."""

import threading
from math import isnan

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headrace.metrics.form import SHORT_SECONDS, Label, Metric
from headrace.metrics.service import Served

STREAM = Label("stream", most=2)
COUNTED = Metric(Counter, "headrace_x_total", "X", (STREAM, Label("kind", values=("good", "bad"))))


def values(registry, name="headrace_x_total"):
    """label values -> value"""
    return {
        tuple(sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


def test_the_first_values_are_shown_and_what_comes_later_counts_as_other():
    registry = CollectorRegistry()
    family = COUNTED.on(registry)
    for stream in ("a", "b", "c", "d", "a"):
        family.labels(stream, "good").inc()
    family.labels("a", "ugly").inc(5)
    assert values(registry) == {("a", "good"): 2, ("b", "good"): 1, ("other", "good"): 2, ("a", "other"): 5}


def test_a_bound_counts_within_the_labels_to_its_left():
    registry = CollectorRegistry()
    family = Metric(Counter, "headrace_x_total", "X", (STREAM, Label("model", most=1))).on(registry)
    for stream, model in (("a", "m1"), ("a", "m2"), ("b", "m2"), ("b", "m1")):
        family.labels(stream, model).inc()
    assert values(registry) == {("a", "m1"): 1, ("a", "other"): 1, ("b", "m2"): 1, ("b", "other"): 1}


def test_a_gauge_does_not_show_what_is_beyond_its_bound():
    registry = CollectorRegistry()
    family = Metric(Gauge, "headrace_x", "X", (STREAM,)).on(registry)
    for number, stream in enumerate("abcd"):
        family.labels(stream).set(number)
    assert values(registry, "headrace_x") == {("a",): 0, ("b",): 1}


def test_what_is_forgotten_is_not_shown_and_leaves_its_place():
    registry = CollectorRegistry()
    family = Metric(Gauge, "headrace_x", "X", (STREAM, Label("version", most=1))).on(registry)
    family.labels("a", "1").set(1)
    family.labels("b", "1").set(1)
    family.forget("a")
    family.labels("a", "2").set(2)
    assert values(registry, "headrace_x") == {("b", "1"): 1, ("a", "2"): 2}


def test_no_traffic_makes_more_series_than_declared():
    registry = CollectorRegistry()
    family = COUNTED.on(registry)

    def flood(number: int) -> None:
        for turn in range(500):
            family.labels(f"s{number}-{turn}", f"k{turn}").inc()
            family.labels(f"s{number}-{turn}", "good").inc()

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = values(registry)
    assert len(shown) <= COUNTED.most_series == 9
    assert sum(shown.values()) == 4 * 500 * 2  # nothing is lost, only its name
    assert len(family._children) <= COUNTED.most_series  # nor is memory


def test_without_labels_there_is_one_series():
    registry = CollectorRegistry()
    seconds = Metric(Histogram, "headrace_x_seconds", "X", (), SHORT_SECONDS).on(registry).labels()
    seconds.observe(0.3)
    assert registry.get_sample_value("headrace_x_seconds_bucket", {"le": "0.5"}) == 1
    assert registry.get_sample_value("headrace_x_seconds_bucket", {"le": "0.25"}) == 0


@pytest.mark.parametrize("given", [("a",), ("a", "good", "more")])
def test_a_missing_or_surplus_label_is_an_error(given):
    with pytest.raises(ValueError, match="zip"):
        COUNTED.on(CollectorRegistry()).labels(*given)


def test_a_service_shows_the_disk_of_its_home(tmp_path):
    registry = CollectorRegistry()
    Served("ingest", "1", registry, tmp_path)
    free = registry.get_sample_value("headrace_disk_free_bytes")
    size = registry.get_sample_value("headrace_disk_size_bytes")
    assert 0 < free < size


def test_a_home_that_is_not_there_is_no_number(tmp_path):
    registry = CollectorRegistry()
    Served("ingest", "1", registry, tmp_path / "nowhere")
    assert isnan(registry.get_sample_value("headrace_disk_free_bytes"))


def test_what_no_request_should_have_is_counted_as_other():
    registry = CollectorRegistry()
    served = Served("ingest", "1", registry, None)
    for method, status in (("GET", 200), ("BREW", 0), ("BREW", 200)):
        served.answered(method, "/livez", status, 0.1)
    assert values(registry, "headrace_http_requests_total") == {
        ("GET", "/livez", "2xx"): 1,
        ("other", "/livez", "cut"): 1,
        ("other", "/livez", "2xx"): 1,
    }
