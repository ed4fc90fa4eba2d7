"""What the monitor shows; what each metric means, and its bounds, stands in `headrace.metrics.catalogue`."""

from typing import get_args

from prometheus_client import CollectorRegistry

from headrace.contracts.events import DriftKind
from headrace.contracts.statistics import Quality, WindowSummary
from headrace.contracts.stream import Task
from headrace.contracts.topics import stream_of
from headrace.metrics import catalogue
from services.monitor.control import ControlPlane
from services.monitor.delivery.log import Status
from services.monitor.domain import quality
from services.monitor.domain.delays import quantile_ms
from services.monitor.domain.estimates import ESTIMATED
from services.monitor.domain.life import LifeState
from services.monitor.domain.quality import METRICS
from services.monitor.domain.tables import StreamTable
from services.monitor.domain.views import estimates
from services.monitor.domain.watch import by_model

DELAY_SHARES = (0.5, 0.95)


class MonitorMetrics:
    """Counters fed by the data plane, gauges refreshed from the tables."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = catalogue.MONITOR_RECORDS.on(registry)
        self.summaries = catalogue.MONITOR_SUMMARIES.on(registry)
        self.quality = catalogue.MONITOR_QUALITY.on(registry)
        self.total_quality = catalogue.MONITOR_TOTAL_QUALITY.on(registry)
        self.estimated = catalogue.MONITOR_ESTIMATED_QUALITY.on(registry)
        self.label_delay = catalogue.MONITOR_LABEL_DELAY.on(registry)
        self.alerts = catalogue.MONITOR_ALERTS.on(registry)
        self.drifts = catalogue.MONITOR_DRIFTS.on(registry)
        self.deliveries = catalogue.MONITOR_DELIVERIES.on(registry)

    def observe(self, topic: str, records: int, summaries: int) -> None:
        """A batch was summarised (called on the host's thread)."""
        stream = stream_of(topic)
        self.records.labels(stream, topic.rpartition(".")[2]).inc(records)
        self.summaries.labels(stream).inc(summaries)

    def delivered(self, channel: str, status: Status) -> None:
        """An attempt to tell a channel has ended (called on the channel's thread)."""
        if status != "muted":
            self.deliveries.labels(channel, "delivered" if status == "delivered" else "failed").inc()

    def refresh(self, control: ControlPlane) -> None:
        """Show the tables as they are now; only streams that changed are looked at."""
        for stream in control.take_changed():
            self._show(stream, control.tables.streams[stream])
        for (stream, kind), count in control.take_drifted().items():
            self.drifts.labels(stream, kind).inc(count)
        states = [life.state for life in control.lives.all()]
        for state in get_args(LifeState):
            self.alerts.labels(state).set(states.count(state))
        self.alerts.labels("waiting").set(len(control.outbox))

    def _show(self, stream: str, table: StreamTable) -> None:
        if table.contract is None:
            return
        for kind in get_args(DriftKind):  # a count that is born at 1 is no increase to Prometheus
            self.drifts.labels(stream, kind)
        task = table.contract.task
        self.total_quality.forget(stream)
        for name, tally in sorted(table.total().quality.items(), key=_newest_first):
            model, _, version = name.rpartition("@")
            for metric, value in _figures(tally, task):
                self.total_quality.labels(stream, model, version, metric).set(value)
        self._show_estimates(stream, table)
        window = _newest_window(table)
        if window is None:
            return
        self.quality.forget(stream)
        for model, (_, tally) in by_model(window.quality).items():
            for metric, value in _figures(tally, task):
                self.quality.labels(stream, model, metric).set(value)
        for share in DELAY_SHARES:
            delay_ms = quantile_ms(window.delay, share)
            if delay_ms is not None:
                self.label_delay.labels(stream, str(share)).set(delay_ms / 1000)

    def _show_estimates(self, stream: str, table: StreamTable) -> None:
        self.estimated.forget(stream)
        edge = table.final_before("predictions")
        starts = table.between(table.starts[0], edge) if edge is not None and table.starts else []
        if not starts:
            return
        predictions = table.merged(starts[-1], "predictions")
        for name, view in sorted(estimates(table, starts[-1:], predictions), key=_newest_last):
            for metric in ESTIMATED:
                if metric in view:
                    self.estimated.labels(stream, name.rpartition("@")[0], metric).set(view[metric])


def _newest_last(item: tuple[str, object]) -> int:
    version = item[0].rpartition("@")[2]
    return int(version) if version.isdigit() else 0


def _newest_first(item: tuple[str, Quality]) -> tuple[str, int]:
    model, _, version = item[0].rpartition("@")
    return model, -int(version) if version.isdigit() else 0


def _figures(tally: Quality, task: Task) -> list[tuple[str, float]]:
    shown = quality.figures(tally, task)
    return [(metric, value) for metric in METRICS if (value := shown.get(metric)) is not None]


def _newest_window(table: StreamTable) -> WindowSummary | None:
    """The newest closed window that has outcomes."""
    edge = table.final_before("outcomes")
    if edge is None or not table.starts:
        return None
    windows = (table.merged(start, "outcomes") for start in reversed(table.between(table.starts[0], edge)))
    return next((window for window in windows if window.quality), None)
