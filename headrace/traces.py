"""OpenTelemetry traces of single records: through a request, from topic to topic, to a collector over OTLP.

Off unless a collector's address is set; then nothing of OpenTelemetry is loaded (`headrace.runner.open_traces`). What
is sampled carries a `traceparent` (W3C Trace Context) in its Kafka header, what is not carries none: unsampled records
cost nothing. A batch is a span of its own, with links to the sampled records in it; each of these gets a span in its
own trace too, and that is how one trace leads from the request to the monitor.

Spans say where and how long, never who or what: no ids, no entities, no values, no texts of errors. The queue to the
collector is bounded and drops spans when the collector is away; the service does not notice.
"""

import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

import headrace

MOST_OF_BATCH = 64
"""Sampled records of one batch that get spans; the others pass their `traceparent` on as it is."""
SPANS_HELD = 4096
EXPORT_SECONDS = 5.0
CLOSE_SECONDS = 3.0

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NOTHING = Context()

Attributes = Mapping[str, AttributeValue]


class Request:
    """A request that is traced, or not. traceparent: what its records shall carry; empty: nothing."""

    def __init__(self, span: Span | None) -> None:
        self._span = span
        self.traceparent = "" if span is None else _header(span)

    def answered(self, status: int) -> None:
        """Note the answer."""
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self._span.set_status(StatusCode.ERROR)


class Traces:
    """The traces of one service. Threads may use it at the same time.

    url: where a collector takes OTLP over HTTP, path included. ratio: share of the requests to trace, of those that
    bring no `traceparent`; one that brings it has decided already.
    """

    def __init__(self, service: str, instance: str, url: str, ratio: float = 0.0) -> None:
        resource = Resource.create(
            {
                "service.name": f"headrace-{service}",
                "service.instance.id": instance,
                "service.version": headrace.__version__,
            }
        )
        self._service = service
        self._ratio = ratio
        self._chance = random.Random()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=SPANS_HELD))
        self._tracer = self._provider.get_tracer("headrace", headrace.__version__)

    @contextmanager
    def request(self, name: str, traceparent: str | None, attributes: Attributes) -> Iterator[Request]:
        """A span around a request, if it is sampled. traceparent: the header that came with it."""
        caller = _read(traceparent or "")
        sampled = self._chance.random() < self._ratio if caller is None else caller.trace_flags.sampled
        if not sampled:
            yield Request(None)
            return
        with self._tracer.start_as_current_span(
            name,
            context=_NOTHING if caller is None else _within(caller),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # its text may quote what was sent
            set_status_on_exception=False,
        ) as span:
            yield Request(span)

    def batch(
        self, topic: str, partition: int, records: int, sampled: Mapping[int, str], began_ns: int
    ) -> dict[int, str]:
        """Spans of a batch that began at `began_ns` and ends now. sampled: `traceparent` by offset.

        Returns what the outputs of each sampled record shall carry, by the record's offset.
        """
        callers = {
            offset: context for offset, text in sampled.items() if (context := _read(text)) is not None
        }
        followed = dict(list(callers.items())[:MOST_OF_BATCH])
        now = time.time_ns()
        where: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
        }
        whole = self._tracer.start_span(
            f"{self._service} batch",
            context=_NOTHING,
            kind=SpanKind.CONSUMER,
            attributes={**where, "messaging.batch.message_count": records},
            links=[Link(context) for context in followed.values()],
            start_time=began_ns,
        )
        whole.end(now)
        carried = dict(sampled)
        for offset, context in followed.items():
            span = self._tracer.start_span(
                f"{self._service} {topic.rpartition('.')[2]}",
                context=_within(context),
                kind=SpanKind.CONSUMER,
                attributes={**where, "messaging.kafka.offset": offset},
                links=[Link(whole.get_span_context())],
                start_time=began_ns,
            )
            span.end(now)
            carried[offset] = _header(span)
        return carried

    def close(self) -> None:
        """Send what is left, for a moment: a collector that is away must not hold the process."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)


def is_sampled(traceparent: str) -> bool:
    """Whether this is a `traceparent` whose trace somebody records."""
    context = _read(traceparent)
    return context is not None and context.trace_flags.sampled


def _read(traceparent: str) -> SpanContext | None:
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    context = SpanContext(int(match[1], 16), int(match[2], 16), True, TraceFlags(int(match[3], 16)))
    return context if context.is_valid else None


def _within(context: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(context), _NOTHING)


def _header(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
