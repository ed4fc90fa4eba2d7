"""The real ingest process for tests and benchmarks: announce a stream, start the service, look at what it wrote.

No registry is needed: a stream is its topics and an announcement, both made here.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx

from headrace import keys
from headrace.contracts.codec import decode_log_record, decode_rejected, encode
from headrace.contracts.events import LogRecord, Rejected, StreamAnnounced
from headrace.contracts.stream import StreamContract, check, from_dict
from headrace.contracts.topics import LOG, REGISTRY, REJECTED, topic
from headrace.kafka.admin import ensure_platform_topics, ensure_stream_topics
from headrace.kafka.producer import LogProducer
from headrace.kafka.tail import Tail, TailRecord

ROOT = Path(__file__).resolve().parents[2]

TICKETS: dict[str, Any] = {
    "name": "tickets",
    "task": "binary",
    "fields": [
        {"name": "priority", "type": "integer", "required": True, "minimum": 0, "maximum": 5},
        {"name": "amount", "type": "number"},
        {"name": "channel", "type": "string", "categories": ["web", "phone"]},
        {"name": "note", "type": "string", "max_length": 20},
        {"name": "vip", "type": "boolean"},
        {"name": "customer", "type": "string", "required": True, "feature": False},
        {"name": "opened", "type": "time", "required": True, "feature": False},
    ],
    "event_time": "opened",
    "entity": "customer",
    "partitions": 2,
}


def contract(name: str, **changes: Any) -> StreamContract:
    """The tickets contract under another name."""
    return check(from_dict({**TICKETS, "name": name, **changes}))


def announce(bootstrap: str, made: StreamContract) -> None:
    """What the registry does for a new stream, as far as ingest can see."""
    ensure_platform_topics(bootstrap)
    ensure_stream_topics(bootstrap, made.name, made.partitions)
    producer = LogProducer(bootstrap, client_id="test-registry")
    announced = StreamAnnounced(made.name, made.version, made.partitions, made.to_dict())
    key = f"stream/{made.name}".encode()
    producer.send(REGISTRY.name, [{"key": key, "value": encode(announced)}]).result(20)
    producer.close(5)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "condition") -> Any:
    """Wait for a truthy answer and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.05)


class IngestProcess:
    """`python -m services.ingest` as a process of its own, with a producer's and a reader's key."""

    def __init__(self, bootstrap: str, home: Path, **environment: str) -> None:
        self.bootstrap = bootstrap
        self.home = home
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        key_file = home / "keys.json"
        if not key_file.exists():
            self.producer_key = keys.create(key_file, "tester", "producer")
            self.reader_key = keys.create(key_file, "onlooker", "reader")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
            "HEADRACE_BOOTSTRAP": bootstrap,
            "HEADRACE_HOME": str(home),
            "HEADRACE_INGEST_PORT": str(self.port),
            "HEADRACE_INGEST_INSTANCE": f"ingest-{home.name}",
            **environment,
        }
        self.http = httpx.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {self.producer_key}"},
            timeout=30,
            trust_env=False,
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it and wait until it is ready."""
        with (self.home / "ingest.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.ingest"],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        if ready:
            until(self.is_ready, 30, "ingest is ready")

    def is_ready(self) -> bool:
        """Whether /readyz says so. Fails if the process has ended."""
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "ingest.log").read_text()[-3000:]
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def serves(self, stream: str) -> bool:
        """Whether the announcement of `stream` has arrived."""
        return self.http.post(f"/v1/streams/{stream}/labels", content=b"").status_code != 404

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def end(self) -> None:
        """Leave nothing behind."""
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def log_records(
        self, stream: str, count: int, seconds: float = 20.0
    ) -> list[tuple[TailRecord, LogRecord]]:
        """The first `count` records of S.log (in order within a partition), decoded; fails if there are fewer."""
        return [
            (record, decode_log_record(record.value or b""))
            for record in self.read(topic(LOG, stream), count, seconds)
        ]

    def rejected(self, stream: str, count: int, seconds: float = 20.0) -> list[Rejected]:
        """The first `count` rejects of the stream."""
        return [
            decode_rejected(record.value or b"")
            for record in self.read(topic(REJECTED, stream), count, seconds)
        ]

    def read(self, name: str, count: int, seconds: float = 20.0) -> list[TailRecord]:
        """At least `count` committed records of a topic; what else is there already comes along."""
        tail = Tail(self.bootstrap, name, start="earliest")
        try:
            records: list[TailRecord] = []
            deadline = time.monotonic() + seconds
            while len(records) < count or not tail.caught_up():
                records.extend(tail.read(10_000, 0.1))
                assert time.monotonic() < deadline, f"{name} holds {len(records)} records, not {count}"
            return records
        finally:
            tail.close()
