"""A registry that answers other people's clients over real HTTP, on a database and a log in memory."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from headrace import keys
from headrace.keys import KeyRing
from headrace.web import create_app, listen
from services.registry.answers import Answers
from services.registry.mlflow import build_mlflow_routes
from services.registry.registry import Registry, now_ms
from services.registry.retrainings import RetrainingStore
from services.registry.schemas_api import build_schema_routes
from tests.integration.registry_memory import FakeLog, opened


@dataclass
class Served:
    """Where it answers, by which keys (by role), and what stands behind it."""

    url: str
    keys: dict[str, str]
    registry: Registry
    retrainings: RetrainingStore


@contextmanager
def served(database: str, home: Path) -> Iterator[Served]:
    """Serve until the end of the block."""
    secrets = {role: keys.create(home / "keys.json", f"the-{role}", role) for role in keys.ROLES}
    memory = opened(database)
    registry = memory.registry(FakeLog())
    retrainings = RetrainingStore(memory.database, now_ms, memory.trail)
    app = create_app(service="registry", keys=KeyRing.load(home / "keys.json"), ready=dict)
    app.state.answers = Answers(memory.database, now_ms, keep_seconds=60.0, most=100)
    app.include_router(build_mlflow_routes(registry, retrainings))
    app.include_router(build_schema_routes(registry))
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", secrets, registry, retrainings)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        memory.database.close()
