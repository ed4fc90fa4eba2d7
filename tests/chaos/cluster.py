"""A broker behind a proxy, and the services as processes that are started again when they die.

The smallest supervisor that will do: it knows its own children by their handles, starts a dead one at once, and writes
down every end: which process, when, by which signal or code, whether a fault had planned it, and its last words.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from headrace import keys
from headrace.broker import EmbeddedBroker
from headrace.cli.home import Home
from tests.chaos import points, proxy

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT_RECORDS = 400
PAUSE_SECONDS = 0.05
SPARE = "scoring-1"
"""The twin: a second scoring process, started only by faults."""


@dataclass
class End:
    """One end of a process. planned: a fault had asked for it."""

    name: str
    at: float
    code: int
    planned: bool
    words: str


@dataclass
class Service:
    """One process slot. lives: how often it was started. wanted: to be started again when it ends."""

    name: str
    kind: str
    port: int
    command: list[str]
    environment: dict[str, str]
    log: Path
    armed: Path
    wanted: bool = False
    planned: bool = False
    lives: int = 0
    started: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def alive(self) -> bool:
        """Whether its process runs (a stopped one does)."""
        return self.process is not None and self.process.poll() is None


@dataclass
class Memory:
    """Resident memory of one life: seconds since its start, bytes."""

    name: str
    life: int
    samples: list[tuple[float, int]] = field(default_factory=list)


class Cluster:
    """Everything that runs. home: a folder of its own."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.ends: list[End] = []
        self.memory: list[Memory] = []
        self._lock = threading.RLock()
        self._closing = threading.Event()
        upstream, front = proxy.free_port(), proxy.free_port()
        self.proxy = proxy.Proxy(front, upstream)
        self.broker = EmbeddedBroker(
            home / "broker", port=upstream, advertised_port=front, cache=Home.from_environment().jars
        )
        self.bootstrap = f"{proxy.HOST}:{front}"
        home.mkdir(parents=True, exist_ok=True)
        self.key = keys.create(home / "keys.json", "chaos", "admin")
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("HEADRACE_", "CHAOS_")) and name != "PYTHONHASHSEED"
            },
            "HEADRACE_BOOTSTRAP": self.bootstrap,
            "HEADRACE_HOME": str(home),
            "HEADRACE_SCORING_SNAPSHOT_RECORDS": str(SNAPSHOT_RECORDS),
            "HEADRACE_MONITOR_SNAPSHOT_RECORDS": str(SNAPSHOT_RECORDS),
            **environment,
        }
        self.services = {
            name: self._service(name) for name in ("registry-0", "ingest-0", "scoring-0", "monitor-0", SPARE)
        }
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def _service(self, name: str) -> Service:
        kind = name.partition("-")[0]
        port = proxy.free_port()
        armed = self.home / f"{name}.armed"
        return Service(
            name,
            kind,
            port,
            [sys.executable, "-m", "tests.chaos.child", kind],
            {
                **self._environment,
                f"HEADRACE_{kind.upper()}_PORT": str(port),
                f"HEADRACE_{kind.upper()}_INSTANCE": name,
                points.ARMED: str(armed),
            },
            self.home / f"{name}.log",
            armed,
        )

    # -- up and down ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the broker and the proxy before it."""
        self.proxy.start()
        self.broker.start()

    def up(self, services: tuple[str, ...] = ("registry-0", "ingest-0", "scoring-0", "monitor-0")) -> None:
        """Start services and keep them running; returns when all are ready."""
        for name in services:
            self.start(name)
        self._keeper.start()
        for name in services:
            self.wait_ready(name)

    def down(self) -> None:
        """End everything that was started."""
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join(5)
        for service in self.services.values():
            if service.alive() and service.process is not None:
                with contextlib.suppress(OSError):
                    service.process.send_signal(signal.SIGCONT)
                service.process.kill()
                service.process.wait(10)
        self.broker.stop()
        self.proxy.stop()

    def start(self, name: str) -> None:
        """Start a service and keep it running."""
        with self._lock:
            service = self.services[name]
            service.wanted = True
            if not service.alive():
                self._spawn(service)

    def stop(self, name: str, timeout_seconds: float = 40.0) -> None:
        """SIGTERM, and wait: a clean stop. Killed if it takes too long (an End with that code)."""
        service = self.services[name]
        with self._lock:
            service.wanted, service.planned = False, True
            process = service.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            with self._lock:
                service.planned = False
            process.kill()
            process.wait(10)
        self._look(service)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal; SIGKILL counts as planned."""
        with self._lock:
            service = self.services[name]
            if service.alive() and service.process is not None:
                service.planned = service.planned or number == signal.SIGKILL
                service.process.send_signal(number)

    def expect_end(self, name: str, expected: bool) -> None:
        """Whether the next end of this service is one that was asked for."""
        with self._lock:
            self.services[name].planned = expected

    def kill_broker(self) -> None:
        """SIGKILL to Kafka, and a new one on the same data."""
        pid = self.broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.broker.start()

    # -- questions --------------------------------------------------------------------------------------------------

    def wait_ready(self, name: str, timeout_seconds: float = 60.0) -> None:
        """Until `/readyz` says so."""
        service = self.services[name]
        deadline = time.monotonic() + timeout_seconds
        while not self._ready(service):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not ready in {timeout_seconds} s: {last_words(service.log)}")
            time.sleep(PAUSE_SECONDS)

    def _ready(self, service: Service) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{service.url()}/readyz", timeout=5, trust_env=False).status_code == 200
        return False

    def ask(self, name: str, method: str, path: str, document: Any = None, seconds: float = 60.0) -> Any:
        """A request that is repeated until it succeeds; returns the answer's JSON."""
        deadline = time.monotonic() + seconds
        headers = {"Authorization": f"Bearer {self.key}"}
        while True:
            try:
                url = f"{self.services[name].url()}{path}"
                response = httpx.request(
                    method, url, json=document, headers=headers, timeout=15, trust_env=False
                )
                if response.is_success:
                    return response.json()
                problem = f"{response.status_code} {response.text[:300]}"
            except httpx.TransportError as error:
                problem = type(error).__name__
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path} did not succeed in {seconds} s: {problem}")
            time.sleep(0.2)

    def unplanned(self) -> list[End]:
        """Ends that no fault had asked for."""
        return [end for end in self.ends if not end.planned]

    # -- the keeper -------------------------------------------------------------------------------------------------

    def _spawn(self, service: Service) -> None:
        service.lives += 1
        service.planned = service.armed.exists()
        service.started = time.time()
        with service.log.open("ab") as log:
            service.process = subprocess.Popen(
                service.command,
                env=service.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.memory.append(Memory(service.name, service.lives))

    def _keep(self) -> None:
        turn = 0
        while not self._closing.wait(PAUSE_SECONDS):
            turn += 1
            for service in self.services.values():
                self._look(service)
                if turn % 20 == 0:
                    self._weigh(service)

    def _look(self, service: Service) -> None:
        with self._lock:
            if service.process is None or (code := service.process.poll()) is None:
                return
            now = time.time()
            self.ends.append(End(service.name, now, code, service.planned, last_words(service.log)))
            service.process = None
            if service.wanted and not self._closing.is_set():
                self._spawn(service)

    def _weigh(self, service: Service) -> None:
        with self._lock:
            if not service.alive() or service.process is None:
                return
            with contextlib.suppress(OSError, IndexError):
                pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
                life = next(one for one in reversed(self.memory) if one.name == service.name)
                life.samples.append((time.time() - service.started, pages * os.sysconf("SC_PAGE_SIZE")))


def last_words(log: Path) -> str:
    """What a process last said that was worse than information."""
    try:
        lines = log.read_bytes()[-20_000:].decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            if line.strip():
                return line.strip()[:300]
            continue
        if isinstance(entry, dict) and entry.get("level") not in ("info", "debug"):
            return line[:300]
    return ""
