"""How a metric is declared, and how its labels are kept within bounds.

A `Metric` is a fact about the system, whether or not a process serves it; `on` makes a process serve it. Each label
says which values it may have: a closed set, or the first so many that come, a bound that counts within the labels to
its left (the first 16 models of each of the first 100 streams). So a metric's number of series is known before anything
runs. What comes beyond counts as `other`; a gauge has no sum of several things, so there it is not shown at all.

Buckets of histograms are declared here and nowhere else, as only equal buckets can be added up.
"""

import threading
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

OTHER = "other"

disable_created_metrics()  # type: ignore[no-untyped-call]  # else a series more for each, of which nobody asks

SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""For what somebody waits for: requests, acknowledgements, predictions, batches."""

Kind = TypeVar("Kind", Counter, Gauge, Histogram)


@dataclass(frozen=True, slots=True)
class Label:
    """A label's name and its bound: its `values`, or the first `most` that come."""

    name: str
    most: int = 0
    values: tuple[str, ...] = ()

    @property
    def bound(self) -> int:
        """Most values it has, `other` included."""
        return (len(self.values) or self.most) + 1


@dataclass(frozen=True, slots=True)
class Metric(Generic[Kind]):
    """One metric. The name ends in its base unit (`seconds`, `bytes`, `ratio`), a counter's then in `_total`."""

    kind: type[Kind]
    name: str
    meaning: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    def on(self, registry: CollectorRegistry) -> "Family[Kind]":
        """Serve it from `registry`. Raises `ValueError` if that serves it already."""
        return Family(self, registry)

    @property
    def most_series(self) -> int:
        """Most series it can have in one process."""
        of_one = len(self.buckets) + 3 if self.buckets else 1  # a bucket each, +Inf, sum, count
        return prod(label.bound for label in self.labels) * of_one


class Family(Generic[Kind]):
    """A metric as one process serves it. Threads may use it at the same time."""

    def __init__(self, metric: Metric[Kind], registry: CollectorRegistry) -> None:
        self._metric: Metric[Kind] = metric
        more: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
        names = [label.name for label in metric.labels]
        self._whole: Kind = metric.kind(metric.name, metric.meaning, names, registry=registry, **more)
        # Served nowhere: where a gauge's values beyond the bound go.
        self._unseen: Kind = metric.kind(metric.name, metric.meaning, registry=None, **more)
        self._children: dict[tuple[str, ...], Kind] = {}
        self._seen: dict[tuple[str, ...], set[str]] = {}
        self._lock = threading.Lock()

    def labels(self, *values: str) -> Kind:
        """The series with these values, in the order of the metric's labels; none for a metric without labels."""
        child = self._children.get(values)
        return self._find(values) if child is None else child

    def forget(self, *first: str) -> None:
        """Show no series any more that begins with these values; others may take their places within the bounds."""
        with self._lock:
            for values in [values for values in self._children if values[: len(first)] == first]:
                del self._children[values]
                self._whole.remove(*values)
            for before in [before for before in self._seen if before[: len(first)] == first]:
                del self._seen[before]

    def _find(self, values: tuple[str, ...]) -> Kind:
        if not self._metric.labels:
            return self._whole
        with self._lock:
            shown = self._bounded(values)
            if shown != values and self._metric.kind is Gauge:
                return self._unseen
            child = self._whole.labels(*shown)
            if shown == values:  # others are without number, and not worth remembering
                self._children[values] = child
            return child

    def _bounded(self, values: tuple[str, ...]) -> tuple[str, ...]:
        shown: tuple[str, ...] = ()
        for label, value in zip(self._metric.labels, values, strict=True):
            shown = (*shown, value if self._is_within(label, shown, value) else OTHER)
        return shown

    def _is_within(self, label: Label, before: tuple[str, ...], value: str) -> bool:
        if label.values:
            return value in label.values
        seen = self._seen.setdefault(before, set())
        if value not in seen and len(seen) < label.most:
            seen.add(value)
        return value in seen
