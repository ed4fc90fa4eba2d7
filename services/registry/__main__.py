"""`python -m services.registry`: composes the database, the Kafka edge and the HTTP API, and runs them."""

import json
import sys
import threading
from argparse import ArgumentParser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from headrace import child
from headrace.archive.history import with_archive
from headrace.errors import Fatal
from headrace.kafka.history import KafkaHistory
from headrace.keys import KeyRing
from headrace.runner import run_service
from headrace.signing import secret_key
from headrace.web import create_app, listen, serve
from services.registry.agents import KafkaControlLog
from services.registry.answers import Answers
from services.registry.asking import Asking
from services.registry.catalog import Catalog
from services.registry.database import Database
from services.registry.datasets import DatasetStore
from services.registry.domain.audit import Seal
from services.registry.domain.forecast import CpuPrice
from services.registry.journal import Journal
from services.registry.judging import Judge
from services.registry.measuring import Measuring
from services.registry.policies import PolicyStore
from services.registry.proposals import ProposalStore
from services.registry.proposing import Proposing
from services.registry.registry import Registry, now_ms
from services.registry.restoring import restore
from services.registry.retrainings import RetrainingStore
from services.registry.rollouts import RolloutStore
from services.registry.routes import all_routes
from services.registry.settings import RegistrySettings
from services.registry.store import Store
from services.registry.trail import Trail
from services.registry.training import Trainer

if TYPE_CHECKING:
    from services.registry.archiving import Archiving
    from services.registry.openlineage import Teller

_log = structlog.stdlib.get_logger("registry")

DESCRIPTION = "Contracts, model specifications, versions and deployments."


class Beside(Protocol):
    """What works on a thread of its own, beside the routes."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End."""
        ...


def compose(settings: RegistrySettings) -> FastAPI:
    """The whole service as an application; its lifespan starts and ends what runs beside the routes."""
    database = Database(settings.database)
    database.prepare()
    trail = Trail(database, Seal(secret_key(settings.audit_key_file)), now_ms)
    if not trail.begin():
        _log.error("the audit trail was not written with this key", key_file=str(settings.audit_key_file))
    log = KafkaControlLog(settings.bootstrap, replication=settings.replication)
    registry = Registry(
        Store(database, now_ms, trail), Journal(database), log, RolloutStore(database, now_ms, trail), trail
    )
    metrics = CollectorRegistry()
    judge = Judge(registry, KafkaHistory(settings.bootstrap), metrics)
    archiving = _archiving(settings, registry, metrics)
    logs = with_archive(KafkaHistory(settings.bootstrap), settings.archive)
    asking = Asking(
        registry,
        RetrainingStore(database, now_ms, trail),
        PolicyStore(database, now_ms, trail),
        logs,
        CpuPrice(settings.price_cpu_hour, settings.currency),
    )
    proposing = Proposing(asking, ProposalStore(database, now_ms, trail), logs)
    trainer = Trainer(registry, asking.store, logs, settings.states, metrics, settings.trial_processes)
    catalog = Catalog(registry, DatasetStore(database, now_ms, trail), logs)
    measuring = Measuring(
        registry, catalog, settings.bootstrap, settings.archive, metrics, child.environment()
    )
    teller = _teller(settings, asking.store)
    beside: list[Beside] = [
        one for one in (judge, trainer, proposing, measuring, archiving, teller) if one is not None
    ]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        settling = threading.Thread(target=registry.keep_settled, name="settling", daemon=True)
        settling.start()
        for one in beside:
            one.start()
        yield
        registry.stop()
        for one in beside:
            one.stop()
        settling.join(10.0)
        log.close()
        database.close()

    def ready() -> dict[str, bool]:
        return {
            "database": database.reachable(),
            "producer": log.healthy(),
            "settled": registry.settled.is_set(),
        }

    app = create_app(
        service="registry",
        keys=KeyRing.load(settings.key_file),
        ready=ready,
        lifespan=lifespan,
        description=DESCRIPTION,
        metrics=metrics,
        home=settings.home,
    )
    app.state.answers = Answers(
        database, now_ms, keep_seconds=settings.idempotency_seconds, most=settings.idempotency_keys
    )
    app.state.log = log
    app.state.registry = registry
    for router in all_routes(registry, asking, proposing, catalog):
        app.include_router(router)
    return app


def _archiving(
    settings: RegistrySettings, registry: Registry, metrics: CollectorRegistry
) -> "Archiving | None":
    """What archives the logs; None if that was not asked for, and then nothing of it is loaded."""
    if not settings.archive:
        return None
    from headrace.archive.reading import Archive
    from services.registry.archiving import Archiving

    return Archiving(
        settings.bootstrap,
        Archive.at(settings.archive),
        registry.shapes,
        lag_seconds=settings.archive_lag_seconds,
        keep_records=settings.archive_keep_records,
        metrics=metrics,
    )


def _teller(settings: RegistrySettings, store: RetrainingStore) -> "Teller | None":
    """What tells a lineage server; None, and nothing of it loaded, if there is none."""
    if not settings.openlineage_url:
        return None
    try:
        from services.registry.openlineage import Teller
    except ModuleNotFoundError as error:
        raise Fatal(f"HEADRACE_OPENLINEAGE_URL needs {error.name}: install headrace[openlineage]") from None
    return Teller(store, settings.openlineage_url, settings.openlineage_key, settings.bootstrap)


def main() -> int:
    """Run until SIGTERM (exit code 0) or a fatal error (exit code 1); `restore` only fills an empty database."""
    reader = ArgumentParser(prog="python -m services.registry", description=DESCRIPTION)
    commands = reader.add_subparsers(dest="command")
    wanted = commands.add_parser(
        "restore", help="make an empty database again from the topic headrace.changes"
    )
    wanted.add_argument(
        "--unverified", action="store_true", help="whoever has signed it: the audit key is lost"
    )
    asked = reader.parse_args()
    run = partial(_restore, unverified=asked.unverified) if asked.command == "restore" else _run
    return run_service("registry", RegistrySettings, run)


def _restore(settings: RegistrySettings, *, unverified: bool) -> int:
    """Fill an empty database; what came of it is one line of JSON on stdout."""
    if not unverified and not settings.audit_key_file.exists():
        raise Fatal(
            f"the audit key {settings.audit_key_file} is not there, so nobody can tell what the registry has written: "
            "put it back, or restore with --unverified"
        )
    database = Database(settings.database)
    database.prepare()
    log = KafkaControlLog(settings.bootstrap, replication=settings.replication)
    seal = Seal(secret_key(settings.audit_key_file))
    try:
        restored = restore(database, None if unverified else seal, log.told_changes)
        fault = Trail(database, seal, now_ms).examine(log.heads()).fault
    finally:
        log.close()
        database.close()
    print(
        json.dumps(
            restored._asdict()
            | {"audit": "ok" if fault is None else f"record {fault.sequence}: {fault.says}"}
        )
    )
    return 0


def _run(settings: RegistrySettings) -> int:
    listener = listen(settings.host, settings.port)
    app = compose(settings)
    registry: Registry = app.state.registry
    serve(app, listener=listener, stop=registry.failed)
    if registry.failed.is_set():
        raise Fatal(registry.failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
