"""Stand-ins for the services: a real HTTP server on a free port that answers what a test tells it."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from headrace.cli import system
from headrace.cli.home import SERVICES, Home, Run, Running, write_secret
from headrace.client import Addresses


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.split(b"\n") if line]


Answer = tuple[int, dict[str, str], Any]


class FakeService:
    """Answers by `METHOD /path`; a list of answers is given one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, Any] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                fake.asked.append(asked)
                status, more, document = fake.answer(asked)
                content = document.encode() if isinstance(document, str) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header(
                    "content-type", "text/plain" if isinstance(document, str) else "application/json"
                )
                self.send_header("content-length", str(len(content)))
                for name, value in more.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  the names that http.server calls

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.url, self.url, self.url, self.url)

    def on(
        self, request: str, *answers: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Answer `request` so; each answer is a document, a whole (status, headers, document), or a function."""
        self.answers[request] = [
            one if isinstance(one, tuple) or callable(one) else (status, headers or {}, one)
            for one in answers
        ]

    def answer(self, asked: Asked) -> Answer:
        answers = self.answers.get(f"{asked.method} {asked.path}")
        if not answers:
            return 404, {}, {"title": "Not found", "status": 404, "detail": f"nothing at {asked.path}"}
        one = answers.pop(0) if len(answers) > 1 else answers[0]
        given: Answer = one(asked) if callable(one) else one
        return given


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def accept_all() -> Callable[[Asked], Answer]:
    """Ingest's answer when every line keeps the contract."""

    def answer(asked: Asked) -> Answer:
        lines = asked.lines
        ids = [str(line.get("id", line.get("flight", ""))) for line in lines]
        return 202, {}, {"accepted": len(lines), "rejected": [], "ids": ids}

    return answer


@pytest.fixture
def home(tmp_path, monkeypatch, service) -> Home:
    """A home whose four services are the fake one; the environment points at it."""
    for name in ("HEADRACE_BOOTSTRAP", "HEADRACE_API_KEY", "HEADRACE_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    made = Home.from_environment()
    made.prepare()
    services = {
        name: Running(0, "127.0.0.1", service.port, "")
        for name in ("registry", "ingest", "scoring", "monitor")
    }
    made.save(Run("127.0.0.1:1", True, services))
    write_secret(made.cli_key_file, "hr_test")
    return made


STAND_IN = """
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

name = __package__.rpartition(".")[2].upper()
if os.environ.get("FAKE_BROKEN") == name.lower():
    print("no such thing as a database", file=sys.stderr)
    sys.exit(1)

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        if self.path == "/docs":
            self.send_response(200 if "hr_" in self.headers.get("authorization", "") else 401)
            self.send_header("content-length", "0")
            return self.end_headers()
        ready = os.environ.get("FAKE_UNREADY") != name.lower()
        body = json.dumps({"registry": True, "shards": ready}).encode()
        self.send_response(200 if ready else 503)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print(json.dumps({key: value for key, value in os.environ.items() if key.startswith("HEADRACE_")}), flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if os.environ.get("FAKE_TAKEN") == os.environ[f"HEADRACE_{name}_PORT"]:
    print(f"{name}: cannot listen: Address already in use", file=sys.stderr)
    sys.exit(1)
address = os.environ[f"HEADRACE_{name}_HOST"], int(os.environ[f"HEADRACE_{name}_PORT"])
HTTPServer(address, Handler).serve_forever()
"""


@pytest.fixture
def free_ports(monkeypatch):
    """Default ports that nobody uses, so that tests run beside a system that does."""
    ports = {}
    held = []
    for name in SERVICES:
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        held.append(probe)
        ports[name] = probe.getsockname()[1]
    for probe in held:
        probe.close()
    monkeypatch.setattr("headrace.cli.home.DEFAULT_PORTS", ports)
    return ports


@pytest.fixture
def stand_ins(tmp_path, monkeypatch, free_ports):
    """A home whose `up` starts stand-ins for the services: real processes, and no broker."""
    fakes = tmp_path / "fakes"
    for name in SERVICES:
        package = fakes / "services" / name
        package.mkdir(parents=True)
        (package / "__main__.py").write_text(STAND_IN)
        (package / "__init__.py").touch()
    (fakes / "services" / "__init__.py").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
    made = Home(tmp_path / "home", "127.0.0.1:1", environment | {"PYTHONPATH": str(fakes)})
    monkeypatch.setattr(system, "_ensure_topics", lambda bootstrap: None)
    yield made
    system.down(made, lambda _: None)
