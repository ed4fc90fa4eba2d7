"""`python -m services.ingest`: composes the inbox host, the registry follower and the HTTP API, and runs them."""

import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from headrace.contracts import topics
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.producer import LogProducer
from headrace.kafka.tail import Tail
from headrace.keys import KeyRing
from headrace.runner import open_traces, run_service, serve_with_host
from headrace.web import create_app
from services.ingest.agents import build_host
from services.ingest.api import Limits, build_routes
from services.ingest.domain.idempotency import IdempotencyStore
from services.ingest.domain.ids import fresh_ids
from services.ingest.intake import Intake
from services.ingest.metrics import METRICS, PRESSURE
from services.ingest.settings import IngestSettings
from services.ingest.streams import Streams
from services.ingest.waiting import PredictionWaiters

CLOSE_SECONDS = 5.0


def clock_ms() -> int:
    """The wall clock, milliseconds since 1970 UTC. Past the log nobody asks it any more."""
    return time.time_ns() // 1_000_000


def _closing(waiters: PredictionWaiters) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Ends the waiters' readers while their event loop is still there."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        waiters.close()

    return lifespan


def main() -> int:
    """Run until SIGTERM (exit code 0) or a fatal error (exit code 1)."""
    return run_service("ingest", IngestSettings, _run)


def _run(settings: IngestSettings) -> int:
    follower = RegistryFollower(settings.bootstrap, lambda _: None)
    follower.start()
    streams = Streams(lambda: follower.streams)
    producer = LogProducer(
        settings.bootstrap, client_id=settings.instance, queue_limit=settings.queue_records
    )

    traces = open_traces("ingest", settings, settings.traces_ratio)
    PRESSURE.set_function(producer.pressure)

    def still_well() -> None:
        producer.check()
        follower.check()

    host = build_host(
        settings.bootstrap,
        settings.instance,
        streams,
        clock_ms,
        batch_records=settings.inbox_batch_records,
        still_well=still_well,
        traces=traces,
    )
    waiters = PredictionWaiters(
        lambda stream: Tail(settings.bootstrap, topics.topic(topics.PREDICTIONS, stream)),
        limit=settings.waiters,
        idle_seconds=settings.waiters_idle_seconds,
    )
    inbox_began = False

    def ready() -> dict[str, bool]:
        # Once it works, the inbox's rebalances (one at each new stream) are nothing that HTTP clients should notice.
        nonlocal inbox_began
        inbox_began = inbox_began or host.ready.is_set()
        return {"registry": follower.healthy(), "producer": producer.healthy(), "inbox": inbox_began}

    app = create_app(
        service="ingest",
        keys=KeyRing.load(settings.key_file),
        ready=ready,
        lifespan=_closing(waiters),
        metrics=METRICS,
        home=settings.home,
        max_body_bytes=settings.body_bytes,
    )
    routes = build_routes(
        Intake(producer, waiters, clock_ms, ack_seconds=settings.ack_seconds),
        streams,
        IdempotencyStore(
            limit=settings.idempotency_keys,
            limit_bytes=settings.idempotency_bytes,
            age_ms=int(settings.idempotency_seconds * 1000),
        ),
        fresh_ids(clock_ms, secrets.randbits),
        clock_ms,
        Limits(settings.body_bytes, settings.body_lines, settings.body_seconds, settings.flight_bytes),
        traces,
    )
    app.include_router(routes)
    try:
        return serve_with_host(app, host, address=settings.host, port=settings.port)
    finally:
        producer.close(CLOSE_SECONDS)
        follower.stop()
        if traces is not None:
            traces.close()


if __name__ == "__main__":
    sys.exit(main())
