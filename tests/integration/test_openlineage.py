"""A lineage server is told of every retraining: a real HTTP server that may be away, or refuse."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import UUID

import pytest

from services.registry.domain import race as races
from services.registry.domain import retraining as rules
from services.registry.domain.retraining import Retraining
from tests.integration.test_retrainings import ANN, TRAINER, Opened, reached, retraining


class Server:
    """Keeps what it is sent; answers with `status`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.status = 201
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if server.status < 400:
                    server.events.append(json.loads(body))
                    server.authorizations.append(self.headers.get("authorization", ""))
                    assert self.path == "/api/v1/lineage"
                self.send_response(server.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def opened(database: str) -> Iterator[Opened]:
    made = Opened(database)
    yield made
    made.database.close()


def all_stopped(known: Retraining) -> Retraining:
    for trial in known.race.trials:
        known = rules.raced(known, races.stopped(known.race, trial.number, "it took more than memory_mb"))
    return known


def won(known: Retraining) -> Retraining:
    while not known.race.is_over:
        for trial in races.due(known.race):
            known = reached(trial.number, trial.number / 10, known)
    return rules.ended(known, "new@3 is registered", version=3)


def test_each_is_told_once_in_order_though_the_server_was_away(opened: Opened, server: Server) -> None:
    from services.registry.openlineage import Teller, run_id

    teller = Teller(opened.store, server.url, "s3cret", "kafka-1:9092,kafka-2:9092")
    server.status = 503
    opened.store.begin("s", retraining(), ANN)
    with pytest.raises(Exception, match="503"):
        teller.tell()
    opened.store.turn("s", 1, won, TRAINER)
    server.status = 201
    teller.tell()
    teller.tell()
    began, ended = server.events
    assert (began["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert began["eventTime"] == "1970-01-01T00:16:40.000+00:00"
    assert {event["run"]["runId"] for event in server.events} == {str(run_id("s", 1))}
    assert UUID(began["run"]["runId"]) != run_id("s", 2)
    assert began["job"]["name"] == "s.retraining"
    assert (began["inputs"][0]["namespace"], began["inputs"][0]["name"]) == ("kafka://kafka-1:9092", "s.log")
    assert began["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 900
    told = {one["key"]: one["value"] for one in began["run"]["facets"]["executionParameters"]["parameters"]}
    assert (told["spans"], told["champion"], told["asked_by"]) == ("0:0..900", "old@1", "ann")
    [output] = ended["outputs"]
    assert (output["name"], output["facets"]["version"]["datasetVersion"]) == ("models/new", "3")
    assert set(server.authorizations) == {"Bearer s3cret"}


def test_one_that_came_to_nothing_has_failed_and_one_that_was_given_up_is_aborted(
    opened: Opened, server: Server
) -> None:
    from services.registry.openlineage import Teller

    teller = Teller(opened.store, server.url, "", "kafka:9092")
    opened.store.begin("s", retraining(), ANN)
    opened.store.begin("t", retraining(), ANN)
    teller.tell()
    assert [event["eventType"] for event in server.events] == ["START", "START"]
    opened.store.turn("s", 1, all_stopped, TRAINER)
    opened.store.turn("t", 1, partial(rules.cancelled, by="ann"), ANN)
    teller.tell()
    assert len(server.events) == 4
    ends = {event["job"]["name"]: event for event in server.events[2:]}
    assert ends["s.retraining"]["eventType"] == "FAIL"
    assert "stopped" in ends["s.retraining"]["run"]["facets"]["errorMessage"]["message"]
    assert ends["t.retraining"]["eventType"] == "ABORT"
    assert set(server.authorizations) == {""}
