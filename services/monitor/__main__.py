"""`python -m services.monitor`: composes the data plane, the Faust app and the HTTP API, and runs them.

The data plane has a thread of its own; Faust and the API share the main event loop, Faust inside the API's lifespan. If
either plane fails the process ends with exit code 1, as a supervisor can mend that and half a monitor cannot be seen.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import CollectorRegistry

from headrace.errors import Fatal, HeadraceError
from headrace.kafka.admin import ensure_platform_topics
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.host import KafkaHost
from headrace.keys import KeyRing
from headrace.runner import open_traces, run_service, serve_with_host
from headrace.web import create_app
from services.monitor import drift_settings, rulebook
from services.monitor.agents import build_app, failures, recover
from services.monitor.alerts_api import build_alert_routes
from services.monitor.api import build_routes
from services.monitor.control import ControlPlane
from services.monitor.delivery import channels
from services.monitor.delivery.deliverer import Deliverer
from services.monitor.delivery.guard import Guard
from services.monitor.delivery.log import DeliveryLog
from services.monitor.delivery.telling import outlets
from services.monitor.delivery_api import build_delivery_routes
from services.monitor.details_api import build_detail_routes
from services.monitor.domain.tables import Tables
from services.monitor.domain.usage import UsageTable
from services.monitor.drift_api import build_drift_routes
from services.monitor.drift_watch_api import build_watch_routes
from services.monitor.hearing import Hearing
from services.monitor.host import build_host
from services.monitor.metrics import MonitorMetrics
from services.monitor.past.looks import Looks
from services.monitor.rules_api import build_rule_routes
from services.monitor.settings import MonitorSettings, secret_of
from services.monitor.streaming import Streaming, build_stream_routes
from services.monitor.value_api import build_value_routes
from services.monitor.valuing import ValueMetrics, Valuing
from services.monitor.watchboard import Watchboard

REFRESH_SECONDS = 2.0
VALUE_SECONDS = 10.0
STOP_SECONDS = 4.0


class BothPlanes:
    """The data plane's host as `serve_with_host` runs it; ends with an error also if the control plane failed."""

    def __init__(self, host: KafkaHost) -> None:
        self._host = host
        self._failure = ""

    def run(self) -> None:
        """Run the host; see `headrace.runner.Host`."""
        self._host.run()
        if self._failure:
            raise Fatal(self._failure)

    def stop(self) -> None:
        """Ask `run` to return."""
        self._host.stop()

    def fail(self, reason: str) -> None:
        """The control plane is broken: end everything."""
        self._failure = reason
        self._host.stop()


def main() -> int:
    """Run until SIGTERM (exit code 0) or a fatal error (exit code 1)."""
    return run_service("monitor", MonitorSettings, _run)


def _run(settings: MonitorSettings) -> int:
    ensure_platform_topics(settings.bootstrap)
    tolerances = drift_settings.load(settings.drift_file, settings.tolerance)
    board = Watchboard()
    follower = RegistryFollower(settings.bootstrap, lambda _: None)
    control = _control(settings, follower)
    reached = outlets(channels.load(settings.channels_file), secret_of, Guard(settings.internal))
    log_file = DeliveryLog(settings.delivery_file)
    follower.start()
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    value_metrics = ValueMetrics(registry)
    valuing = _valuing(settings, follower)
    traces = open_traces("monitor", settings)
    host = build_host(settings, follower, tolerances, board, metrics.observe, registry, traces)
    planes = BothPlanes(host)
    started = asyncio.Event()
    deliverer = Deliverer(
        settings.bootstrap,
        log_file,
        reached,
        lambda: control.mutes.active(control.now()),
        give_up_seconds=settings.give_up_hours * 3600,
        counted=metrics.delivered,
        fail=planes.fail,
    )

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            hearing = await asyncio.to_thread(Hearing, settings.bootstrap, control, planes.fail)
            await asyncio.to_thread(recover, settings.bootstrap, control)
            await asyncio.to_thread(deliverer.start)
        except HeadraceError as error:  # the API does not start, and this is why
            planes.fail(str(error))
            raise
        hearing.start(asyncio.get_running_loop())
        faust_app = build_app(settings.bootstrap, f"headrace.monitor.control.{settings.instance}", control)
        await faust_app.start()
        chores = [
            asyncio.create_task(_refresh(metrics, control, planes)),
            asyncio.create_task(_value(settings.bootstrap, valuing, value_metrics, control, planes)),
            asyncio.create_task(_watch(settings.bootstrap, faust_app, control, planes)),
        ]
        started.set()
        try:
            yield
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.to_thread(hearing.stop)
            await asyncio.to_thread(deliverer.stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(faust_app.stop(), STOP_SECONDS)

    app = create_app(
        service="monitor",
        keys=KeyRing.load(settings.key_file),
        ready=lambda: {
            "summaries": host.ready.is_set(),
            "tables": started.is_set(),
            "registry": follower.healthy(),
        },
        lifespan=lifespan,
        metrics=registry,
        home=settings.home,
    )
    for routes in (
        build_routes(control),
        build_value_routes(control.tables, valuing),
        build_detail_routes(control),
        build_stream_routes(Streaming(control)),
        build_alert_routes(control),
        build_drift_routes(control, Looks(settings.bootstrap), tolerances.of),
        build_watch_routes(lambda: follower.streams, tolerances, board),
        build_delivery_routes(control, deliverer),
        build_rule_routes(control, lambda rules: rulebook.save(settings.rules_file, rules)),
    ):
        app.include_router(routes)
    try:
        return serve_with_host(app, planes, address=settings.host, port=settings.port)
    finally:
        follower.stop()
        if traces is not None:
            traces.close()


def _control(settings: MonitorSettings, follower: RegistryFollower) -> ControlPlane:
    control = ControlPlane(
        Tables(settings.window_seconds, windows_kept=settings.windows_kept),
        silent_seconds=settings.silent_seconds,
        champions=follower.champions,
    )
    control.use(rulebook.load(settings.rules_file))
    return control


def _valuing(settings: MonitorSettings, follower: RegistryFollower) -> Valuing:
    return Valuing(
        UsageTable(settings.window_seconds, windows_kept=settings.windows_kept),
        settings.prices,
        lambda: follower.deployments,
    )


async def _refresh(metrics: MonitorMetrics, control: ControlPlane, planes: BothPlanes) -> None:
    try:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            metrics.refresh(control)
    except Exception as error:  # metrics that stand still look like a world that does
        planes.fail(f"the metrics cannot be refreshed: {error!r}")
        raise


async def _value(
    bootstrap: str, valuing: Valuing, metrics: ValueMetrics, control: ControlPlane, planes: BothPlanes
) -> None:
    following = asyncio.create_task(valuing.follow(bootstrap))
    try:
        while True:
            await asyncio.wait({following}, timeout=VALUE_SECONDS)
            if following.done():
                following.result()
            metrics.refresh(control.tables, valuing)
    except Exception as error:  # costs that stand still look like a model that is free
        planes.fail(f"usage cannot be followed: {error!r}")
        raise
    finally:
        following.cancel()


async def _watch(bootstrap: str, faust_app: Any, control: ControlPlane, planes: BothPlanes) -> None:
    try:
        async for reason in failures(bootstrap, faust_app, control):
            planes.fail(reason)
    except Exception as error:  # nobody would notice any more that Faust has died
        planes.fail(f"Faust cannot be watched: {error!r}")
        raise


if __name__ == "__main__":
    sys.exit(main())
