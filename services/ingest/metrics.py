"""What ingest counts. Labels come from closed sets: streams of the registry, kinds, rules of the cleanser."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

METRICS = CollectorRegistry()
"""What `/metrics` shows, together with what every service counts."""

_RULES_BOUND = 64
_seen_rules: set[str] = set()

ACCEPTED = Counter(
    "headrace_ingest_accepted_total", "Events written to a log", ["stream", "kind", "via"], registry=METRICS
)
REJECTED = Counter(
    "headrace_ingest_rejected_total", "Events refused", ["stream", "rule", "via"], registry=METRICS
)
REFUSED = Counter(
    "headrace_ingest_refused_requests_total", "Requests refused as a whole", ["status"], registry=METRICS
)
BODY_BYTES = Counter(
    "headrace_ingest_body_bytes_total", "Bytes of bodies taken in, unfolded", ["stream"], registry=METRICS
)
FLIGHT_BYTES = Gauge("headrace_ingest_flight_bytes", "Bytes of bodies held now", registry=METRICS)
WAITERS = Gauge("headrace_ingest_waiters", "Requests that wait for a prediction now", registry=METRICS)
PRESSURE = Gauge(
    "headrace_ingest_producer_pressure_ratio",
    "Share of the producer's queue in use, 0 to 1",
    registry=METRICS,
)
ACK_SECONDS = Histogram(
    "headrace_ingest_ack_seconds",
    "From handing records to the producer to the broker's acknowledgement",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    registry=METRICS,
)
WAIT_SECONDS = Histogram(
    "headrace_ingest_prediction_wait_seconds",
    "From handing an observation to the producer to its prediction",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    registry=METRICS,
)


def rejected(stream: str, rule: str, via: str) -> None:
    """Count one refused event; should rules ever not be a closed set, the excess counts as `other`."""
    if rule not in _seen_rules:
        if len(_seen_rules) >= _RULES_BOUND:
            rule = "other"
        else:
            _seen_rules.add(rule)
    REJECTED.labels(stream, rule, via).inc()
