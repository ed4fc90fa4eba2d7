"""The monitor's Prometheus metrics. Labels are streams, models and metrics, each bounded; never entities or values."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from headrace.contracts.topics import stream_of
from services.monitor.control import ControlPlane
from services.monitor.domain import quality
from services.monitor.domain.quality import METRICS
from services.monitor.domain.tables import StreamTable
from services.monitor.domain.watch import by_model

STREAMS_SHOWN = 100
"""Streams with labels of their own; more are counted as `other`."""
MODELS_SHOWN = 16


class MonitorMetrics:
    """Counters fed by the data plane, gauges refreshed from the tables."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "headrace_monitor_records_total", "Records summarised.", ["stream", "kind"], registry=registry
        )
        self.summaries = Counter(
            "headrace_monitor_summaries_total", "Window summaries emitted.", ["stream"], registry=registry
        )
        self.quality = Gauge(
            "headrace_monitor_quality",
            "A model's metric in the newest closed window that has outcomes.",
            ["stream", "model", "metric"],
            registry=registry,
        )
        self.total_quality = Gauge(
            "headrace_monitor_total_quality",
            "A model version's metric over all outcomes.",
            ["stream", "model", "version", "metric"],
            registry=registry,
        )
        self.alerts = Gauge(
            "headrace_monitor_alerts", "Alerts told and kept, by state.", ["state"], registry=registry
        )
        self._streams: set[str] = set()

    def observe(self, topic: str, records: int, summaries: int) -> None:
        """A batch was summarised (called on the host's thread)."""
        stream = self._shown(stream_of(topic))
        self.records.labels(stream, topic.rpartition(".")[2]).inc(records)
        self.summaries.labels(stream).inc(summaries)

    def refresh(self, control: ControlPlane) -> None:
        """Show the tables as they are now; only streams that changed are looked at."""
        for stream in control.take_changed():
            if self._shown(stream) == stream:
                self._show(stream, control.tables.streams[stream])
        for state in ("firing", "resolved"):
            self.alerts.labels(state).set(sum(told.state == state for told in control.alerts))

    def _show(self, stream: str, table: StreamTable) -> None:
        contract = table.contract
        if contract is None:
            return
        for name, tally in sorted(table.total().quality.items())[:MODELS_SHOWN]:
            model, _, version = name.rpartition("@")
            for metric, value in quality.figures(tally, contract.task).items():
                if metric in METRICS and value is not None:
                    self.total_quality.labels(stream, model, version, metric).set(value)
        edge = table.final_before("outcomes")
        for start in reversed(
            table.between(table.starts[0], edge) if edge is not None and table.starts else []
        ):
            tallies = table.merged(start, "outcomes").quality
            if not tallies:
                continue
            for model, (_, tally) in list(by_model(tallies).items())[:MODELS_SHOWN]:
                for metric, value in quality.figures(tally, contract.task).items():
                    if metric in METRICS and value is not None:
                        self.quality.labels(stream, model, metric).set(value)
            return

    def _shown(self, stream: str) -> str:
        if stream not in self._streams:
            if len(self._streams) >= STREAMS_SHOWN:
                return "other"
            self._streams.add(stream)
        return stream
