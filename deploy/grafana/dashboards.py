"""The Grafana dashboards, as code: an overview of the whole, and one stream in depth.

`make docs` writes them to `dashboards/*.json`, which is what Grafana is given; a test says that both agree, another
that every query asks for a metric and labels that there are. Built with Grafana's own SDK: its types know what a panel
may hold, and the JSON's form is its business.
"""

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
HEIGHT, WIDTH = 8, 8

Query = tuple[str, str]
"""PromQL, and the legend of its series."""


def quantiles(metric: str, selector: str = "") -> list[Query]:
    """Median and 99th percentile of a histogram."""
    rate = f"sum by (le) (rate({metric}_bucket{selector}[$__rate_interval]))"
    return [(f"histogram_quantile({q}, {rate})", f"p{q * 100:g}") for q in (0.5, 0.99)]


def rate(metric: str, by: str, selector: str = "") -> list[Query]:
    """What a counter grows by a second, for each combination of some labels."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return [(f"sum by ({by}) (rate({metric}{selector}[$__rate_interval]))", legend)]


def graph(
    title: str, description: str, unit: str, queries: list[Query], *, signed: bool = False
) -> timeseries.Panel:
    """Lines over time. signed: values may be below 0."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(HEIGHT)
        .span(WIDTH)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if not signed:
        panel = panel.min(0)
    for letter, query in zip("ABCDEF", queries, strict=False):
        panel = panel.with_target(_target(letter, query))
    return panel


def light(title: str, description: str, query: Query, words: dict[str, str], good: float) -> stat.Panel:
    """A coloured field a series: green from `good` on. words: what is shown in place of a value."""
    results = {value: ValueMappingResult(text=text, index=n) for n, (value, text) in enumerate(words.items())}
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(WIDTH)
        .color_mode(BigValueColorMode.BACKGROUND)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .mappings([ValueMap(options=results)])
        .thresholds(
            dashboard.ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(value=None, color="red"), Threshold(value=good, color="green")])
        )
        .with_target(_target("A", query))
    )


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(letter).expr(query[0]).legend_format(query[1]).datasource(SOURCE)


Panel = timeseries.Panel | stat.Panel
Rows = dict[str, list[Panel]]


def overview() -> Rows:
    """Everything, by stream and service."""
    streams = '{stream=~"$stream"}'
    return {
        "Health": [
            light("Services", "Whether Prometheus is answered", ("up", "{{job}}"), {"0": "down", "1": "up"}, 1),
            light(
                "Kafka",
                "Whether Kafka answers a service",
                ("headrace_kafka_reachable", "{{job}}"),
                {"0": "away", "1": "answers"},
                1,
            ),
            graph("Alerts of Prometheus", "What fires now: docs/runbook.md", "short", [
                ('sum by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}} {{severity}}")
            ]),
            graph("Failed requests", "Share of 5xx and cut connections", "percentunit", [
                ("job:headrace_http_failed:ratio5m", "{{job}}")
            ]),
            graph("Given up", "Batches that were read and folded again; snapshots not stored", "short", [
                ("sum by (job) (increase(headrace_host_failures_total[5m]))", "{{job}} batches"),
                (
                    'sum by (job) (increase(headrace_host_snapshots_total{result="failed"}[5m]))',
                    "{{job}} snapshots",
                ),
            ]),
            graph("Free disk", "Share of the disk of a service's home", "percentunit", [
                ("headrace_disk_free_bytes / headrace_disk_size_bytes", "{{job}}")
            ]),
        ],
        "Throughput": [
            graph("Events written to the log", "What Kafka acknowledged", "ops", [
                (f"stream:headrace_ingest_events:rate5m{streams}", "{{stream}}")
            ]),
            graph("Log records folded", "It should follow the panel before", "ops",
                  rate("headrace_scoring_records_total", "topic")),
            graph("Predictions and outcomes emitted", "What scoring wrote, of all kinds", "ops",
                  rate("headrace_scoring_emitted_total", "topic")),
            graph("Refused events", "Share of what came; `headrace tail rejected` shows the originals",
                  "percentunit", [(f"stream:headrace_ingest_rejected:ratio10m{streams}", "{{stream}}")]),
            graph("Refused requests", "429: come again later; 413: too large; 503: Kafka is away", "reqps",
                  rate("headrace_ingest_refused_requests_total", "status")),
            graph("Bytes taken in", "Bodies, unfolded", "Bps",
                  rate("headrace_ingest_body_bytes_total", "stream", streams)),
        ],
        "Lag": [
            graph("Records behind", "By reader and topic; an idle topic may show 1 a partition", "short", [
                ("job_topic:headrace_host_lag_records:sum", "{{job}} {{topic}}")
            ]),
            graph("Scoring behind, in time", "At the present rate", "s", [
                ("topic:headrace_scoring_lag:seconds", "{{topic}}")
            ]),
            graph("Queue to Kafka in use", "Above 0.8 producers are told to come again", "percentunit", [
                ("headrace_ingest_producer_pressure_ratio", "{{instance}}")
            ]),
        ],
        "Latency": [
            graph("Acknowledgement by Kafka", "From handing records over to the broker's answer", "s",
                  quantiles("headrace_ingest_ack_seconds")),
            graph("Wait for a prediction", "Requests with wait=prediction", "s",
                  quantiles("headrace_ingest_prediction_wait_seconds")),
            graph("A batch of scoring", "From records to outputs, without the commit", "s",
                  quantiles("headrace_host_batch_seconds", '{job="scoring"}')),
        ],
        "Models": [
            graph("Quality", "In the newest closed window that has outcomes", "short", [
                (f"headrace_monitor_quality{streams}", "{{stream}} {{model}} {{metric}}")
            ]),
            graph("Drifts", "An hour, by kind", "short", [
                (f"sum by (stream, kind) (increase(headrace_monitor_drifts_total{streams}[1h]))",
                 "{{stream}} {{kind}}")
            ]),
            graph("Alerts of the monitor", "Told and kept, by state; waiting: Kafka has not taken them", "short", [
                ("headrace_monitor_alerts", "{{state}}")
            ]),
            graph("Deliveries of alerts", "Attempts, by channel", "ops",
                  rate("headrace_monitor_deliveries_total", "channel, result")),
            graph("Rollouts under way", "1 while there is one", "short", [
                (f"headrace_registry_rollout_under_way{streams}", "{{stream}}")
            ]),
            graph("Trials in a race", "Of the retraining under way", "short", [
                (f"headrace_registry_trials_racing{streams}", "{{stream}}")
            ]),
        ],
        "Cost": [
            graph("Processors in use", "By service; trials of retrainings are processes of their own", "short", [
                ("sum by (job) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{job}}"),
                ("sum(rate(headrace_registry_trial_cpu_seconds_total[1h]))", "trials, over an hour"),
            ]),
            graph("Processor time a thousand events", "All services together", "s", [
                (
                    "1000 * sum(rate(process_cpu_seconds_total[5m])) / sum(stream:headrace_ingest_events:rate5m)",
                    "seconds",
                )
            ]),
            graph("Memory", "Resident, by service", "bytes", [("process_resident_memory_bytes", "{{job}}")]),
        ],
    }  # fmt: skip


def one_stream() -> Rows:
    """One stream: what comes, what is answered, how good it is, what is tried."""
    stream, log = '{stream="$stream"}', '{topic="$stream.log"}'
    return {
        "What comes": [
            graph("Events written to the log", "By kind and way", "ops",
                  rate("headrace_ingest_accepted_total", "kind, via", stream)),
            graph("Refused events", "By rule: docs/bad-input.md", "ops",
                  rate("headrace_ingest_rejected_total", "rule, via", stream)),
            graph("Delay of labels", "Event time; half, and 95 in 100, took no longer", "s", [
                (f"headrace_monitor_label_delay_seconds{stream}", "{{share}}")
            ]),
        ],
        "What is answered": [
            graph("Log records folded", "By scoring", "ops", rate("headrace_scoring_records_total", "topic", log)),
            graph("Scoring behind", "In time, at the present rate", "s", [
                (f"topic:headrace_scoring_lag:seconds{log}", "{{topic}}")
            ]),
            graph("Checked again", "Stretches of the log folded again; `different` must not be", "short", [
                (f"sum by (result) (increase(headrace_scoring_rechecks_total{stream}[1d]))", "{{result}}")
            ]),
        ],
        "How good it is": [
            graph("Quality", "In the newest closed window that has outcomes", "short", [
                (f"headrace_monitor_quality{stream}", "{{model}} {{metric}}")
            ]),
            graph("Quality, estimated", "Before labels; if scores mean what they meant: docs/estimate.md", "short", [
                (f"headrace_monitor_estimated_quality{stream}", "{{model}} {{metric}} est.")
            ]),
            graph("Quality over all outcomes", "By version", "short", [
                (f"headrace_monitor_total_quality{stream}", "{{model}} {{version}} {{metric}}")
            ]),
            graph("Drifts", "An hour, by kind", "short", [
                (f"sum by (kind) (increase(headrace_monitor_drifts_total{stream}[1h]))", "{{kind}}")
            ]),
        ],
        "What it costs": [
            graph("Processor time", "An hour, by model version", "s", [
                (f"delta(headrace_monitor_model_cpu_seconds{stream}[1h])", "{{model}} {{version}}")
            ]),
            graph("State", "Size of each model version's state", "bytes", [
                (f"headrace_monitor_model_state_bytes{stream}", "{{model}} {{version}}")
            ]),
            graph("Written", "Answers and snapshots, an hour", "bytes", [
                (f"delta(headrace_monitor_model_written_bytes{stream}[1h])", "{{model}} {{version}}")
            ]),
            graph("Cost", "In all, priced by the prices of today: docs/value.md", "short", [
                (f"headrace_monitor_model_cost{stream}", "{{model}} {{version}}")
            ]),
            graph("Value", "In all, of the answers whose label has come; none without a payoff", "short", [
                (f"headrace_monitor_model_value{stream}", "{{model}} {{version}}")
            ], signed=True),
            graph("Return", "Value minus cost", "short", [
                (f"headrace_monitor_model_value{stream} - headrace_monitor_model_cost{stream}",
                 "{{model}} {{version}}")
            ], signed=True),
        ],
        "What is tried": [
            graph("Evidence of the rollout", "E-values: 20 is strong", "short", [
                (f"headrace_registry_rollout_evidence{stream}", "{{side}}")
            ]),
            graph("Labels weighed", "In the present stage", "short", [
                (f"headrace_registry_rollout_labels{stream}", "labels")
            ]),
            graph("Retraining", "Trials in the race, and processors they use", "short", [
                (f"headrace_registry_trials_racing{stream}", "trials"),
                (f"rate(headrace_registry_trial_cpu_seconds_total{stream}[1h])", "processors"),
            ]),
        ],
    }  # fmt: skip


def _page(uid: str, title: str, rows: Rows, *, several: bool) -> str:
    streams = (
        dashboard.QueryVariable("stream")
        .label("Stream")
        .datasource(SOURCE)
        .query("label_values(headrace_ingest_accepted_total, stream)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if several:
        streams = streams.include_all(True).multi(True).all_value(".*")
    page = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["headrace"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .with_variable(streams)
        .link(
            dashboard.DashboardLink("Headrace")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["headrace"])
            .keep_time(True)
        )
    )
    number = 0
    for name, panels in rows.items():
        page = page.with_row(dashboard.Row(name))
        for panel in panels:
            number += 1
            page = page.with_panel(panel.id(number))
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(page.build())}\n"


def dashboards() -> dict[Path, str]:
    """File -> JSON."""
    return {
        FOLDER / "headrace.json": _page("headrace", "Headrace", overview(), several=True),
        FOLDER / "stream.json": _page("headrace-stream", "Headrace: a stream", one_stream(), several=False),
    }
