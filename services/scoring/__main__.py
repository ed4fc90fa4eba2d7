"""`python -m services.scoring`: composes the host, the registry follower and the HTTP API, and runs them."""

import sys

from headrace.collector import calm_the_collector
from headrace.kafka.follower import RegistryFollower
from headrace.keys import KeyRing
from headrace.runner import open_traces, run_service, serve_with_host
from headrace.web import create_app
from services.scoring.agents import METRICS, build_host
from services.scoring.api import build_routes
from services.scoring.past import Past, Rechecker
from services.scoring.settings import ScoringSettings
from services.scoring.usage import Usage


def main() -> int:
    """Run until SIGTERM (exit code 0) or a fatal error (exit code 1)."""
    return run_service("scoring", ScoringSettings, _run)


def _run(settings: ScoringSettings) -> int:
    follower = RegistryFollower(settings.bootstrap, lambda _: None)
    follower.start()
    usage = Usage(settings.bootstrap, settings.instance, settings.window_seconds)
    traces = open_traces("scoring", settings)
    host = build_host(settings, follower, usage.meter, traces)
    app = create_app(
        service="scoring",
        keys=KeyRing.load(settings.key_file),
        ready=lambda: {"shards": host.ready.is_set(), "registry": follower.healthy()},
        metrics=METRICS,
        home=settings.home,
    )
    past = Past(settings)
    app.include_router(build_routes(host.call, past.explain, lambda: sorted(follower.streams)))
    rechecker = Rechecker(
        past,
        settings.bootstrap,
        settings.recheck_seconds,
        lambda: host.call(lambda runs: [place for place, run in runs.items() if not run.recovering]).result(
            60
        ),
        METRICS,
    )
    rechecker.start()
    usage.start()
    calm_the_collector()
    try:
        return serve_with_host(app, host, address=settings.host, port=settings.port)
    finally:
        rechecker.stop()
        usage.stop()
        follower.stop()
        if traces is not None:
            traces.close()


if __name__ == "__main__":
    sys.exit(main())
