"""The web factory: closed by default, every error a problem, bounds, health, metrics, logs without secrets."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import httpx2
import pytest
from fastapi import APIRouter, Depends, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel

from headrace import keys, logs
from headrace.errors import Fatal, Poison, Transient, Unusable
from headrace.keys import KeyRing
from headrace.web import PROBLEM, Problem, create_app, listen, require, serve

LIMIT = 1000


class Thing(BaseModel):
    name: str
    size: int


@pytest.fixture
def secrets(tmp_path):
    path = tmp_path / "keys.json"
    return {role: keys.create(path, f"the-{role}", role) for role in keys.ROLES}


@pytest.fixture
def state():
    return {"broker": True, "registry": True}


@pytest.fixture
def app(tmp_path, secrets, state):
    app = create_app(
        service="test", keys=KeyRing.load(tmp_path / "keys.json"), ready=lambda: state, max_body_bytes=LIMIT
    )
    router = APIRouter(prefix="/v1", tags=["things"])

    @router.get("/things/{name}", dependencies=[Depends(require("reader"))])
    async def thing(name: str) -> Thing:
        return Thing(name=name, size=1)

    @router.post("/things", dependencies=[Depends(require("operator"))], status_code=201)
    async def make(thing: Thing) -> Thing:
        return thing

    @router.post("/raw", dependencies=[Depends(require("producer"))])
    async def raw(request: Request) -> dict:
        return {"bytes": len(await request.body())}

    @router.get("/fail/{how}", dependencies=[Depends(require("reader"))])
    async def fail(how: str) -> Thing:
        raise {
            "unusable": Unusable("must be positive", where="model.lr"),
            "poison": Poison("no number", rule="type", field="age"),
            "transient": Transient("the broker is away"),
            "fatal": Fatal("disk gone at /secret/place"),
            "bug": ZeroDivisionError("hr_internal detail"),
            "problem": Problem(409, "Breaking", "two changes", extra={"changes": ["a", "b"]}, kind="urn:x"),
        }[how]

    app.include_router(router)
    return app


@pytest.fixture
def client(app):
    return TestClient(app)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def assert_problem(response, status):
    assert response.status_code == status
    assert response.headers["content-type"] == PROBLEM
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["type"]
    return body


def test_keys_may_come_as_bearer_or_header_and_roles_decide(client, secrets):
    for role in ("reader", "operator", "admin"):
        assert client.get("/v1/things/a", headers=bearer(secrets[role])).status_code == 200
        assert client.get("/v1/things/a", headers={"X-API-Key": secrets[role]}).status_code == 200
    body = assert_problem(client.get("/v1/things/a", headers=bearer(secrets["producer"])), 403)
    assert "reader" in body["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer hr_wrong"},
        {"Authorization": "hr_x"},
        {"Authorization": "Basic aHI6aHI="},
        {"X-API-Key": ""},
        {"X-API-Key": "hr_wrong"},
    ],
)
def test_no_key_or_a_wrong_one_is_401_with_a_challenge(client, headers):
    response = client.get("/v1/things/a", headers=headers)
    assert_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_basic_password_opens_the_documentation_and_nothing_else(client, secrets):
    assert client.get("/docs", auth=("me", secrets["reader"])).status_code == 200
    assert client.get("/openapi.json", auth=("me", secrets["reader"])).status_code == 200
    assert_problem(client.get("/v1/things/a", auth=("me", secrets["admin"])), 401)
    for path in ("/docs", "/openapi.json"):
        response = client.get(path)
        assert_problem(response, 401)
        assert response.headers["www-authenticate"].startswith("Basic")
        assert_problem(client.get(path, auth=("me", "hr_wrong")), 401)


def test_every_error_is_a_problem(client, secrets):
    admin = bearer(secrets["admin"])
    assert_problem(client.get("/nowhere", headers=admin), 404)
    response = client.delete("/v1/things/a", headers=admin)
    assert_problem(response, 405)
    assert "GET" in response.headers["allow"]
    body = assert_problem(client.post("/v1/things", headers=admin, json={"name": "x", "size": "hr_big"}), 422)
    assert body["errors"][0]["where"] == "body.size"
    assert "hr_big" not in json.dumps(body)  # what was sent is not sent back
    assert_problem(client.post("/v1/things", headers=admin, content=b"{"), 422)

    assert assert_problem(client.get("/v1/fail/unusable", headers=admin), 422)["where"] == "model.lr"
    assert assert_problem(client.get("/v1/fail/poison", headers=admin), 422)["rule"] == "type"
    response = client.get("/v1/fail/transient", headers=admin)
    assert_problem(response, 503)
    assert response.headers["retry-after"]
    body = assert_problem(client.get("/v1/fail/problem", headers=admin), 409)
    assert (body["changes"], body["type"], body["instance"]) == (["a", "b"], "urn:x", "/v1/fail/problem")


@pytest.mark.parametrize("how", ["bug", "fatal"])
def test_an_unforeseen_error_tells_nothing_of_the_inside(client, secrets, how):
    response = client.get(f"/v1/fail/{how}", headers=bearer(secrets["reader"]))
    assert_problem(response, 500)
    assert "ZeroDivision" not in response.text
    assert "/secret" not in response.text


def test_too_large_bodies_are_refused_with_or_without_a_declared_length(client, secrets):
    admin = bearer(secrets["admin"])
    assert client.post("/v1/raw", headers=admin, content=b"x" * LIMIT).json() == {"bytes": LIMIT}
    body = assert_problem(client.post("/v1/raw", headers=admin, content=b"x" * (LIMIT + 1)), 413)
    assert body["limit_bytes"] == LIMIT

    def chunks():
        for _ in range(100):
            yield b"x" * 100

    assert_problem(client.post("/v1/raw", headers=admin, content=chunks()), 413)
    assert_problem(client.post("/v1/things", headers=admin, content=chunks()), 413)


def test_health_and_metrics_are_open_and_tell_what_is_missing(client, state, secrets):
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").json() == {"broker": True, "registry": True}
    state["registry"] = False
    body = assert_problem(client.get("/readyz"), 503)
    assert body["ready"] == {"broker": True, "registry": False}
    assert "registry" in body["detail"]
    assert client.get("/livez").status_code == 200


def test_metrics_have_bounded_labels(client, secrets):
    for i in range(5):
        client.get(f"/v1/things/{i}", headers=bearer(secrets["reader"]))
        client.get(f"/unknown/{i}")
    client.request("BREW", "/v1/things/1")
    text = client.get("/metrics").text
    assert 'headrace_build_info{python="' in text
    assert 'headrace_http_requests_total{method="GET",route="/v1/things/{name}",status="2xx"} 5.0' in text
    assert 'headrace_http_requests_total{method="GET",route="unmatched",status="4xx"} 5.0' in text
    assert 'method="other"' in text
    assert 'headrace_http_request_seconds_count{method="GET",route="/v1/things/{name}"} 5.0' in text
    assert "/unknown/1" not in text


def test_the_documentation_page_needs_no_network_and_runs_no_script(client, secrets):
    response = client.get("/docs", headers=bearer(secrets["producer"]))
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]
    page = response.text
    assert "/v1/things/{name}" in page
    assert "id='Thing'" in page
    assert "id='Problem'" in page
    assert "<script" not in page
    assert "://" not in page.replace("<code>", "")


def test_openapi_shows_roles_schemes_and_problems(client, secrets):
    document = client.get("/openapi.json", headers=bearer(secrets["reader"])).json()
    assert {"HTTPBearer", "APIKeyHeader"} <= set(document["components"]["securitySchemes"])
    operation = document["paths"]["/v1/things/{name}"]["get"]
    assert {"HTTPBearer": []} in operation["security"]
    assert "application/problem+json" in operation["responses"]["4XX"]["content"]
    assert "Problem" in document["components"]["schemas"]
    assert "security" not in document["paths"]["/livez"]["get"]


def test_request_ids_are_given_and_kept_if_sound(client):
    assert len(client.get("/livez").headers["x-request-id"]) == 32
    assert client.get("/livez", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/livez", headers={"X-Request-Id": "a b\t<"}).headers["x-request-id"] != "a b\t<"


def test_logs_are_json_without_secrets(client, secrets, capsys):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure("test")
        client.get("/v1/things/a", headers=bearer(secrets["reader"]))
        client.get(f"/v1/things/{secrets['admin']}", headers=bearer(secrets["reader"]))
        logging.getLogger("some.library").warning("using %s now", secrets["admin"])
        client.get("/v1/fail/bug", headers=bearer(secrets["reader"]))
        err = capsys.readouterr().err
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    lines = [json.loads(line) for line in err.splitlines()]
    access = next(line for line in lines if line["event"] == "request")
    assert (access["path"], access["status"], access["caller"]) == ("/v1/things/a", 200, "the-reader")
    assert access["service"] == "test"
    assert access["request_id"]
    assert any("ZeroDivisionError" in line.get("exception", "") for line in lines)
    assert any("using [removed] now" in line["event"] for line in lines)
    for secret in secrets.values():
        assert secret not in err


def test_a_taken_port_is_a_clear_fatal():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Fatal, match="cannot listen"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_it_stops_when_the_event_is_set(app):
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    serve(app, listener=listen("127.0.0.1", 0), stop=stop)
    assert stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_with_zero(tmp_path, number):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = f"""
        from contextlib import asynccontextmanager
        from headrace.keys import KeyRing
        from headrace.web import create_app, listen, serve
        @asynccontextmanager
        async def lifespan(app):
            yield
            print("stopped", flush=True)
        serve(create_app(service="t", keys=KeyRing.load("{tmp_path}/k"), ready=dict, lifespan=lifespan),
              listener=listen("127.0.0.1", {port}))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert httpx2.get(f"http://127.0.0.1:{port}/livez").status_code == 200
                break
            except httpx2.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
        assert process.returncode == 0
        assert b"stopped" in out
    finally:
        process.kill()
