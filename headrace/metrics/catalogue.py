"""Every metric of Headrace: what rules, dashboards and docs may ask for is what stands here.

Names follow Prometheus' conventions (`tests/repo/metric_rules.py` holds them against these): `headrace_`, who counts,
what, the base unit, `_total` on a counter. Labels come from closed sets or have a bound; never entities or values.
"""

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from headrace.contracts.events import DriftKind
from headrace.metrics.form import SHORT_SECONDS, Label, Metric

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

STREAM = Label("stream", most=100)
TOPIC = Label("topic", most=400)
MODEL = Label("model", most=16)
VERSION = Label("version", most=8)
METRIC = Label("metric", most=12)
VIA = Label("via", values=("http", "inbox"))
METHOD = Label("method", values=METHODS)
ROUTE = Label("route", most=200)
STATUS_CLASS = Label("status", values=("1xx", "2xx", "3xx", "4xx", "5xx", "cut"))

# --- every service ---------------------------------------------------------------------------------------------------

BUILD_INFO = Metric(
    Gauge,
    "headrace_build_info",
    "Always 1; the labels say what runs",
    (Label("service", most=4), Label("version", most=4), Label("python", most=4)),
)
HTTP_REQUESTS = Metric(
    Counter, "headrace_http_requests_total", "Answered requests", (METHOD, ROUTE, STATUS_CLASS)
)
HTTP_SECONDS = Metric(
    Histogram, "headrace_http_request_seconds", "Time to answer", (METHOD, ROUTE), SHORT_SECONDS
)
DISK_FREE = Metric(Gauge, "headrace_disk_free_bytes", "What the disk of the service's home has left")
DISK_SIZE = Metric(Gauge, "headrace_disk_size_bytes", "How much that disk holds")

# --- every service that folds (ingest's inbox, scoring, the monitor) --------------------------------------------------

KAFKA_REACHABLE = Metric(Gauge, "headrace_kafka_reachable", "1 while Kafka answers, 0 while it does not")
HOST_LAG = Metric(
    Gauge,
    "headrace_host_lag_records",
    "Offsets between what was read of a topic and its end, over the partitions held here",
    (TOPIC,),
)
HOST_BATCH_SECONDS = Metric(
    Histogram,
    "headrace_host_batch_seconds",
    "From a batch's records to its outputs, the commit not included",
    (),
    SHORT_SECONDS,
)
HOST_SNAPSHOTS = Metric(
    Counter,
    "headrace_host_snapshots_total",
    "Snapshots of partitions, by how it went",
    (Label("result", values=("stored", "failed")),),
)
HOST_FAILURES = Metric(
    Counter, "headrace_host_failures_total", "Batches that were given up, to be read and folded again"
)

# --- ingest ----------------------------------------------------------------------------------------------------------

INGEST_ACCEPTED = Metric(
    Counter,
    "headrace_ingest_accepted_total",
    "Events written to a log",
    (STREAM, Label("kind", values=("observation", "label", "event", "any")), VIA),
)
INGEST_REJECTED = Metric(
    Counter, "headrace_ingest_rejected_total", "Events refused", (STREAM, Label("rule", most=64), VIA)
)
INGEST_REFUSED = Metric(
    Counter,
    "headrace_ingest_refused_requests_total",
    "Requests refused as a whole",
    (Label("status", most=16),),
)
INGEST_BODY_BYTES = Metric(
    Counter, "headrace_ingest_body_bytes_total", "Bytes of bodies taken in, unfolded", (STREAM,)
)
INGEST_FLIGHT_BYTES = Metric(Gauge, "headrace_ingest_flight_bytes", "Bytes of bodies held now")
INGEST_WAITERS = Metric(Gauge, "headrace_ingest_waiters", "Requests that wait for a prediction now")
INGEST_PRESSURE = Metric(
    Gauge, "headrace_ingest_producer_pressure_ratio", "Share of the producer's queue in use, 0 to 1"
)
INGEST_ACK_SECONDS = Metric(
    Histogram,
    "headrace_ingest_ack_seconds",
    "From handing records to the producer to the broker's acknowledgement",
    (),
    SHORT_SECONDS,
)
INGEST_WAIT_SECONDS = Metric(
    Histogram,
    "headrace_ingest_prediction_wait_seconds",
    "From handing an observation to the producer to its prediction",
    (),
    SHORT_SECONDS,
)

# --- scoring ---------------------------------------------------------------------------------------------------------

SCORING_RECORDS = Metric(Counter, "headrace_scoring_records_total", "Log records folded", (TOPIC,))
SCORING_EMITTED = Metric(
    Counter, "headrace_scoring_emitted_total", "Predictions, outcomes and rejects emitted", (TOPIC,)
)
SCORING_RECHECKS = Metric(
    Counter,
    "headrace_scoring_rechecks_total",
    "Stretches of a log folded again and compared with what was stored",
    (STREAM, Label("result", values=("equal", "different", "not_done"))),
)

# --- the monitor -----------------------------------------------------------------------------------------------------

MONITOR_RECORDS = Metric(
    Counter,
    "headrace_monitor_records_total",
    "Records summarised",
    (STREAM, Label("kind", values=("log", "predictions", "outcomes", "rejected"))),
)
MONITOR_SUMMARIES = Metric(Counter, "headrace_monitor_summaries_total", "Window summaries emitted", (STREAM,))
MONITOR_QUALITY = Metric(
    Gauge,
    "headrace_monitor_quality",
    "A model's metric in the newest closed window that has outcomes",
    (STREAM, MODEL, METRIC),
)
MONITOR_TOTAL_QUALITY = Metric(
    Gauge,
    "headrace_monitor_total_quality",
    "A model version's metric over all outcomes",
    (STREAM, MODEL, VERSION, METRIC),
)
MONITOR_ESTIMATED_QUALITY = Metric(
    Gauge,
    "headrace_monitor_estimated_quality",
    "An estimate, before labels: a model's metric in the newest closed window of predictions",
    (STREAM, MODEL, METRIC),
)
MONITOR_LABEL_DELAY = Metric(
    Gauge,
    "headrace_monitor_label_delay_seconds",
    "Event time from observation to label that a share of labels did not exceed, in the newest closed window",
    (STREAM, Label("share", values=("0.5", "0.95"))),
)
MONITOR_ALERTS = Metric(
    Gauge,
    "headrace_monitor_alerts",
    "Alerts that are kept, by where they stand; waiting: steps decided, and not yet taken by Kafka",
    (Label("state", values=("firing", "acknowledged", "resolved", "waiting")),),
)
MONITOR_DRIFTS = Metric(
    Counter,
    "headrace_monitor_drifts_total",
    "Drifts detected",
    (STREAM, Label("kind", values=get_args(DriftKind))),
)
MODEL_VERSION = (STREAM, MODEL, VERSION)
MONITOR_MODEL_CPU = Metric(
    Gauge, "headrace_monitor_model_cpu_seconds", "Processor time of a model", MODEL_VERSION
)
MONITOR_MODEL_STATE = Metric(
    Gauge, "headrace_monitor_model_state_bytes", "Size of a model's state", MODEL_VERSION
)
MONITOR_MODEL_WRITTEN = Metric(
    Gauge,
    "headrace_monitor_model_written_bytes",
    "What a model's answers and snapshots took",
    MODEL_VERSION,
)
MONITOR_MODEL_COST = Metric(
    Gauge, "headrace_monitor_model_cost", "What a model has cost, priced", MODEL_VERSION
)
MONITOR_MODEL_VALUE = Metric(
    Gauge,
    "headrace_monitor_model_value",
    "What a model's answers were worth; none without a payoff",
    MODEL_VERSION,
)
MONITOR_DELIVERIES = Metric(
    Counter,
    "headrace_monitor_deliveries_total",
    "Attempts to deliver an alert to a channel, by how they went",
    (Label("channel", most=32), Label("result", values=("delivered", "failed"))),
)

# --- the registry ----------------------------------------------------------------------------------------------------

REGISTRY_ARCHIVED = Metric(
    Gauge,
    "headrace_registry_archived_offset",
    "Offset up to which a log is in the archive",
    (STREAM, Label("partition", most=256)),
)
REGISTRY_ARCHIVE_FAILURES = Metric(
    Counter,
    "headrace_registry_archive_failures_total",
    "Rounds in which a log could not be archived",
    (STREAM,),
)
REGISTRY_MEASURED = Metric(
    Counter,
    "headrace_registry_datasets_measured_total",
    "Datasets whose measurement has ended, by how",
    (Label("state", values=("measured", "failed")),),
)
REGISTRY_RETRAININGS = Metric(
    Counter,
    "headrace_registry_retrainings_total",
    "Retrainings that have ended, by how",
    (STREAM, Label("status", most=4)),
)
REGISTRY_TRIAL_SECONDS = Metric(
    Counter,
    "headrace_registry_trial_cpu_seconds_total",
    "Processor time that the trials of retrainings took",
    (STREAM,),
)
REGISTRY_RACING = Metric(
    Gauge,
    "headrace_registry_trials_racing",
    "Trials still in the race of the retraining under way",
    (STREAM,),
)
REGISTRY_ROLLOUT_UNDER_WAY = Metric(
    Gauge, "headrace_registry_rollout_under_way", "1 while a rollout is under way, then 0", (STREAM,)
)
REGISTRY_ROLLOUT_LABELS = Metric(
    Gauge,
    "headrace_registry_rollout_labels",
    "Labels weighed in the present stage of the rollout under way",
    (STREAM,),
)
REGISTRY_ROLLOUT_EVIDENCE = Metric(
    Gauge,
    "headrace_registry_rollout_evidence",
    "E-value of the rollout under way; side: better or worse, of the model that is asked beside",
    (STREAM, Label("side", values=("better", "worse"))),
)
REGISTRY_ROLLOUT_TURNS = Metric(
    Counter,
    "headrace_registry_rollout_turns_total",
    "Stages that the judge has ended, by the stage that came of it",
    (STREAM, Label("stage", most=8)),
)
REGISTRY_ROLLOUT_FAILURES = Metric(
    Counter,
    "headrace_registry_rollout_failures_total",
    "Rounds in which a rollout could not be judged",
    (STREAM,),
)

ALL: tuple[Metric[Counter] | Metric[Gauge] | Metric[Histogram], ...] = tuple(
    sorted((one for one in list(globals().values()) if isinstance(one, Metric)), key=lambda one: one.name)
)
"""The whole catalogue, by name."""
