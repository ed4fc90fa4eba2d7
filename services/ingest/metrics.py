"""What ingest counts; what each metric means, and its bounds, stands in `headrace.metrics.catalogue`."""

from prometheus_client import CollectorRegistry

from headrace.metrics import catalogue

METRICS = CollectorRegistry()
"""What `/metrics` shows, together with what every service counts."""

ACCEPTED = catalogue.INGEST_ACCEPTED.on(METRICS)
REJECTED = catalogue.INGEST_REJECTED.on(METRICS)
REFUSED = catalogue.INGEST_REFUSED.on(METRICS)
BODY_BYTES = catalogue.INGEST_BODY_BYTES.on(METRICS)
FLIGHT_BYTES = catalogue.INGEST_FLIGHT_BYTES.on(METRICS).labels()
WAITERS = catalogue.INGEST_WAITERS.on(METRICS).labels()
PRESSURE = catalogue.INGEST_PRESSURE.on(METRICS).labels()
ACK_SECONDS = catalogue.INGEST_ACK_SECONDS.on(METRICS).labels()
WAIT_SECONDS = catalogue.INGEST_WAIT_SECONDS.on(METRICS).labels()
