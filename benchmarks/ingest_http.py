"""How fast ingest is over HTTP: events a second for NDJSON bodies, and the latency of `?wait=prediction`.

The load generator is a process of its own with keep-alive connections and prebuilt bodies, so that it costs little
beside the broker and the services on the same cores. Throughput is closed-loop (each connection sends its next body
when the last is acknowledged). Latency is open-loop: requests leave on schedule and the clock of each starts at its
scheduled moment, so a stall shows in everybody it delays. Only loopback is used.

    python -m benchmarks.ingest_http                    both, with a broker of its own; prints one JSON object
    python -m benchmarks.ingest_http --bootstrap HOST:PORT --only events
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.workload import labelled
from headrace.broker import EmbeddedBroker
from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, ModelDeployed
from headrace.contracts.stream import Field, StreamContract
from headrace.contracts.topics import LOG, topic
from headrace.kafka.producer import LogProducer
from tests.integration.ingest_system import ROOT, IngestProcess, announce, free_port, until

MODEL = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"], "seed": 42}


def main() -> None:
    """Measure and print, or (as the generator) send."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generate", choices=["events", "waiting"], help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", default="")
    parser.add_argument("--only", choices=["events", "waiting"], default=None)
    parser.add_argument("--url", default="")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--lines", type=int, default=1000, help="events in one body")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--rate", type=int, default=200, help="waiting requests a second")
    parser.add_argument("--seconds", type=int, default=20, help="of waiting requests, after 3 of warm-up")
    asked = parser.parse_args()
    if asked.generate:
        print(json.dumps(asyncio.run(_generate(asked))))
        return
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        _broker(asked, Path(folder)) as bootstrap,
    ):
        found: dict[str, Any] = {}
        # Waiting first: scoring would otherwise begin with the other measurement's backlog.
        if asked.only != "events":
            found["waiting"] = measure_waiting(bootstrap, Path(folder), asked.rate, asked.seconds)
        if asked.only != "waiting":
            found["events"] = measure_events(
                bootstrap, Path(folder), asked.events, asked.lines, asked.connections
            )
    print(json.dumps(found))


def measure_events(
    bootstrap: str, home: Path, events: int = 200_000, lines: int = 1000, connections: int = 4
) -> dict[str, Any]:
    """Observations a second that one ingest process takes in, acknowledged; and the time of one body's request."""
    with _ingest(bootstrap, home) as (process, stream):
        options = {"events": events, "lines": lines, "connections": connections}
        _run_generator(process, stream, "events", {**options, "events": events // 10})
        before = _cpu_seconds(process)
        found = _run_generator(process, stream, "events", options)
        used = _cpu_seconds(process) - before
        found["ingest_cpu_microseconds_per_event"] = round(used / events * 1e6, 2)
        return found


def measure_waiting(bootstrap: str, home: Path, rate: int = 200, seconds: int = 20) -> dict[str, Any]:
    """Latency of `?wait=prediction` with scoring beside, at `rate` requests a second."""
    with _ingest(bootstrap, home) as (process, stream), _scoring(process, stream):
        before = _cpu_seconds(process)
        options = {"rate": rate, "seconds": seconds, "connections": 64}
        found = _run_generator(process, stream, "waiting", options)
        used = _cpu_seconds(process) - before
        found["ingest_cpu_milliseconds_per_request"] = round(used / (rate * (seconds + 3)) * 1e3, 3)
        return found


# -- the system -------------------------------------------------------------------------------------------------------


@contextmanager
def _broker(asked: argparse.Namespace, home: Path) -> Iterator[str]:
    if asked.bootstrap:
        yield asked.bootstrap
        return
    broker = EmbeddedBroker(
        home / "kafka", cache=Path(os.environ.get("HEADRACE_BENCH_CACHE", home / "cache"))
    )
    try:
        yield broker.start().bootstrap_servers
    finally:
        broker.stop()


@contextmanager
def _ingest(bootstrap: str, home: Path) -> Iterator[tuple[IngestProcess, str]]:
    folder = home / f"ingest-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True)
    stream = f"bench-{uuid.uuid4().hex[:8]}"
    names = sorted({name for flight in labelled(200) for name in flight.x})
    contract = StreamContract(stream, "binary", [Field(name, "number") for name in names], partitions=1)
    announce(bootstrap, contract)
    producer = LogProducer(bootstrap, client_id="bench")
    control = [ContractAdopted("c1", 0, 1, contract.to_dict()), ModelDeployed("m1", 0, "bench", 1, MODEL)]
    producer.send(topic(LOG, stream), [{"key": b"control", "value": encode(it)} for it in control], 0).result(
        20
    )
    producer.close(5)
    process = IngestProcess(bootstrap, folder)
    try:
        process.start()
        until(lambda: process.serves(stream), what="ingest knows the stream")
        yield process, stream
    finally:
        process.end()


@contextmanager
def _scoring(ingest: IngestProcess, stream: str) -> Iterator[None]:
    with (ingest.home / "scoring.log").open("wb") as log:
        environment = {
            **ingest.environment,
            "HEADRACE_SCORING_PORT": str(free_port()),
        }
        command = [sys.executable, "-m", "services.scoring"]
        scoring = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        url = f"/v1/streams/{stream}/observations?wait=prediction"
        until(lambda: ingest.http.post(url, json={"hour": 5}).status_code == 200, 60, "a first prediction")
        yield
    finally:
        scoring.terminate()
        try:
            scoring.wait(20)
        except subprocess.TimeoutExpired:
            scoring.kill()
            scoring.wait()


def _run_generator(process: IngestProcess, stream: str, what: str, options: dict[str, int]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.ingest_http", "--generate", what]
    command += ["--url", f"127.0.0.1:{process.port}/v1/streams/{stream}/observations"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    environment = {**process.environment, "HEADRACE_BENCH_KEY": process.producer_key}
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _cpu_seconds(process: IngestProcess) -> float:
    assert process.process is not None
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the generator ----------------------------------------------------------------------------------------------------


class Connection:
    """One keep-alive HTTP connection that posts prebuilt bodies."""

    def __init__(self, url: str, key: str) -> None:
        self._address, _, path = url.partition("/")
        self._path = f"/{path}"
        self._key = key
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> None:
        """Connect."""
        host, _, port = self._address.partition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))

    async def post(self, body: bytes, content_type: str, query: str = "") -> tuple[int, bytes]:
        """Send, and read the whole answer: status and body."""
        head = (
            f"POST {self._path}{query} HTTP/1.1\r\nHost: {self._address}\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        length = next(
            int(line.partition(b":")[2])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        return status, await self._reader.readexactly(length)


async def _generate(asked: argparse.Namespace) -> dict[str, Any]:
    key = os.environ["HEADRACE_BENCH_KEY"]
    connections = [Connection(asked.url, key) for _ in range(asked.connections)]
    for connection in connections:
        await connection.open()
    if asked.generate == "events":
        return await _send_events(connections, asked.events, asked.lines)
    return await _send_waiting(connections, asked.rate, asked.seconds)


def _observations(count: int) -> list[bytes]:
    """Flights as JSON lines, each with an id that no other run has."""
    run = uuid.uuid4().hex[:8]
    flights = [flight.x for flight in labelled(5000)]
    return [json.dumps({"id": f"{run}-{n}", **flights[n % len(flights)]}).encode() for n in range(count)]


async def _send_events(connections: list[Connection], events: int, lines: int) -> dict[str, Any]:
    made = _observations(events)
    bodies = [b"\n".join(made[at : at + lines]) for at in range(0, events, lines)]
    size = sum(map(len, bodies))
    left = iter(bodies)
    seconds: list[float] = []
    accepted = turned_away = 0

    async def work(connection: Connection) -> None:
        nonlocal accepted, turned_away
        for body in left:
            began = time.perf_counter()
            while (answer := await connection.post(body, "application/x-ndjson"))[0] == 429:
                turned_away += 1
                await asyncio.sleep(0.05)
            assert answer[0] == 202, answer
            accepted += json.loads(answer[1])["accepted"]
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(work, connections))
    took = time.perf_counter() - began
    assert accepted == events
    return {
        "events": events,
        "lines_per_body": lines,
        "connections": len(connections),
        "seconds": round(took, 3),
        "events_per_second": round(events / took),
        "megabytes_per_second": round(size / took / 1e6, 1),
        "turned_away": turned_away,
        "body_milliseconds": _spread(seconds),
    }


async def _send_waiting(connections: list[Connection], rate: int, seconds: int) -> dict[str, Any]:
    warm = 3 * rate
    bodies = _observations(warm + rate * seconds)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(connection)
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    start = time.perf_counter() + 0.1

    async def one(number: int, body: bytes) -> None:
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = await free.get()
        status, _ = await connection.post(body, "application/json", "?wait=prediction")
        free.put_nowait(connection)
        if number >= warm:
            statuses[status] = statuses.get(status, 0) + 1
            latencies.append(time.perf_counter() - due)

    await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))
    return {
        "requests": len(latencies),
        "requests_per_second": rate,
        "answered_with_prediction": statuses.get(200, 0),
        "statuses": statuses,
        "milliseconds": _spread(latencies),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1e3, 2),
        "p95": round(cuts[94] * 1e3, 2),
        "p99": round(cuts[98] * 1e3, 2),
        "max": round(max(seconds) * 1e3, 2),
    }


if __name__ == "__main__":
    main()
