"""A collector of traces on loopback: takes OTLP over HTTP and keeps the spans."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Told(NamedTuple):
    """A span as it arrived. links: (trace, span) ids in hex. says: the text of its status."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    seconds: float
    events: list[str]
    says: str


class Collector:
    """Listens on a port of its own; `spans` grows as services tell."""

    def __init__(self) -> None:
        self.spans: list[Told] = []
        self._fresh = threading.Condition()
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keep(self.rfile.read(int(self.headers["content-length"])), self.headers["content-encoding"])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def __enter__(self) -> "Collector":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, complete: Callable[[list[Told]], bool], seconds: float = 30.0) -> list[Told]:
        """The spans, as soon as they are complete."""
        with self._fresh:
            assert self._fresh.wait_for(lambda: complete(self.spans), seconds), self.spans
            return list(self.spans)

    def _keep(self, body: bytes, encoding: str | None) -> None:
        assert not encoding
        request = ExportTraceServiceRequest.FromString(body)
        with self._fresh:
            for resource in request.resource_spans:
                service = _values(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    self.spans += [_told(service, span) for span in scope.spans]
            self._fresh.notify_all()


def _told(service: str, span: Any) -> Told:
    return Told(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _values(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        [event.name for event in span.events],
        span.status.message,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
