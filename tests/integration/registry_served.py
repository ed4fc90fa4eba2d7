"""A registry over HTTP in one process, on a log in memory."""

from fastapi.testclient import TestClient

from headrace import keys
from headrace.history import Bounds
from headrace.keys import KeyRing
from headrace.web import PROBLEM, create_app
from services.registry.answers import Answers
from services.registry.asking import Asking
from services.registry.catalog import Catalog
from services.registry.datasets import DatasetStore
from services.registry.policies import PolicyStore
from services.registry.proposals import ProposalStore
from services.registry.proposing import Proposing
from services.registry.registry import now_ms
from services.registry.retrainings import RetrainingStore
from services.registry.routes import all_routes
from tests.integration.registry_memory import OTHER, SPECIFICATION, contract, opened

REBUILD = {"without": ["source:broken"]}
RETRAINING = {"search": {"candidates": [OTHER]}}
POLICY = {"ask": RETRAINING, "every_seconds": 3600}


class Clock:
    """The wall clock, and how far it was put forward."""

    def __init__(self):
        self.ahead_ms = 0

    def __call__(self):
        return now_ms() + self.ahead_ms


class FullLogs:
    """Where retrainings look for what there is to learn."""

    def bounds(self, *_):
        return Bounds(0, 5_000)

    def read(self, *_):
        return iter(())


class Served:
    """A registry over HTTP, as a process serves it, on a log in memory."""

    def __init__(self, url, log, folder, clock=now_ms, most=1000, logs=None):
        path = folder / "keys.json"
        self.secrets = {
            name: keys.create(path, name, role)
            for name, role in (("ada", "admin"), ("bob", "operator"), ("eve", "reader"))
            if not path.exists() or name not in path.read_text()
        }
        self.memory = opened(url)
        self.registry = self.memory.registry(log)
        self.answers = Answers(self.memory.database, clock, keep_seconds=3600.0, most=most)
        self.app = create_app(service="registry", keys=KeyRing.load(path), ready=dict)
        self.app.state.answers = self.answers
        database, trail = self.memory.database, self.memory.trail
        retrainings, policies = RetrainingStore(database, clock, trail), PolicyStore(database, clock, trail)
        logs = logs or FullLogs()
        asking = Asking(self.registry, retrainings, policies, logs)
        self.datasets = DatasetStore(database, now_ms, trail)
        self.proposals = ProposalStore(database, clock, trail)
        self.proposing = Proposing(asking, self.proposals, logs)
        catalog = Catalog(self.registry, self.datasets, logs)
        for router in all_routes(self.registry, asking, self.proposing, catalog):
            self.app.include_router(router)
        self.client = TestClient(self.app)

    def send(self, method, path, key=None, who="ada", **more):
        headers = {"Authorization": f"Bearer {self.secrets[who]}", **more.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.client.request(method, path, headers=headers, **more)

    def post(self, path, key=None, **more):
        return self.send("POST", path, key, **more)

    def get(self, path, **more):
        return self.send("GET", path, **more)

    def begin(self):
        """A stream s with m as its champion, and a model n."""
        assert self.post("/v1/streams", json={"contract": contract("s")}).status_code == 201
        for name, specification in (("m", SPECIFICATION), ("n", OTHER)):
            document = {"name": name, "specification": specification}
            assert self.post("/v1/models", json=document).status_code == 201
        assert self.post("/v1/streams/s/deployments", json={"model": "m"}).status_code == 201
        return self

    def versions(self):
        return [one["version"] for one in self.get("/v1/models/m").json()["versions"]]

    def decisions(self):
        return self.memory.store.stream("s").sequence


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    return response.json()
