"""The catalogue of metrics, held against Prometheus' conventions.

promtool's own linter reads what a running service serves (`test_exposed.py`); these rules are stricter, and nothing has
to run for them.
"""

import re

from prometheus_client import Counter, Gauge, Histogram

from headrace.metrics import catalogue, form
from headrace.metrics.form import Metric

AnyMetric = Metric[Counter] | Metric[Gauge] | Metric[Histogram]

BASE_UNITS = ("seconds", "bytes", "ratio", "records", "requests")
OTHER_UNITS = re.compile(
    r"_(ms|millis|milliseconds|minutes|hours|days|kb|mb|kilobytes|megabytes|percent|count)(_|$)"
)
NAME = re.compile(r"headrace_[a-z]+(_[a-z]+)*")
RESERVED_LABELS = frozenset({"job", "instance", "le", "quantile"})
BUCKETS = tuple(value for name, value in vars(form).items() if name.endswith("_SECONDS"))
MOST_SERIES = 250_000
"""Of one metric in one process, when every label is at its bound."""


def unit(metric: AnyMetric) -> str:
    """The base unit that a metric's name ends in; empty for one that counts things."""
    last = metric.name.removesuffix("_total").rpartition("_")[2]
    return last if last in BASE_UNITS else ""


def series(metric: AnyMetric) -> frozenset[str]:
    """The names under which Prometheus knows it."""
    if metric.kind is Histogram:
        return frozenset({f"{metric.name}_bucket", f"{metric.name}_sum", f"{metric.name}_count"})
    return frozenset({metric.name})


def findings(metrics: tuple[AnyMetric, ...] = catalogue.ALL) -> list[str]:
    """Everything in the catalogue that breaks a convention."""
    found = []
    for metric in metrics:
        found += [f"{metric.name}: {what}" for what in (*_of_name(metric), *_of_labels(metric))]
    names = [metric.name for metric in metrics]
    return found + [
        f"{name}: declared twice" for name in sorted({name for name in names if names.count(name) > 1})
    ]


def _of_name(metric: AnyMetric) -> list[str]:
    found = []
    if not NAME.fullmatch(metric.name):
        found.append("headrace_, then lower-case words")
    if (metric.kind is Counter) != metric.name.endswith("_total"):
        found.append("counters, and only they, end in _total")
    if OTHER_UNITS.search(metric.name):
        found.append("not a base unit")
    if metric.kind is Histogram:
        if not metric.name.endswith("_seconds"):
            found.append("a histogram says its unit")
        if metric.buckets not in BUCKETS:
            found.append("its buckets are not among those that headrace.metrics.form declares")
    elif metric.buckets:
        found.append("only a histogram has buckets")
    if not metric.meaning or metric.meaning.endswith("."):
        found.append("a meaning, without a full stop")
    return found


def _of_labels(metric: AnyMetric) -> list[str]:
    found = []
    for label in metric.labels:
        if label.name in RESERVED_LABELS or not re.fullmatch(r"[a-z]+", label.name):
            found.append(f"no name for a label: {label.name}")
        if bool(label.most) == bool(label.values):
            found.append(f"{label.name}: either its values or a bound")
    if metric.most_series > MOST_SERIES:
        found.append(f"{metric.most_series} series are too many")
    return found
