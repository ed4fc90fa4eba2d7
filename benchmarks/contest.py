"""Runs one contestant over one filled log and measures labelled events a second by what has been committed.

The log is written before the contestant starts; the clock runs from its first committed outcomes to its last, so
start-up counts for nobody. Rates come from the topic's end offsets as a `read_committed` reader sees them.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from benchmarks.workload import Labelled, contract_of, control_records
from headrace.contracts.codec import encode
from headrace.contracts.events import Label, Observation, StreamAnnounced
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, REGISTRY, topic
from headrace.kafka import admin
from headrace.kafka.producer import LogProducer

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.1
LIMIT_SECONDS = 300.0


class Measured(NamedTuple):
    """rate: labelled events a second. cpu_us: the process's CPU microseconds an event. rss_mb: its peak memory."""

    rate: float
    cpu_us: float
    rss_mb: float


def fill(bootstrap: str, rows: list[Labelled], model: str) -> str:
    """Make a stream with its log written and announced; returns its name."""
    stream = f"bench-{uuid.uuid4().hex[:8]}"
    admin.ensure_platform_topics(bootstrap)
    admin.ensure_stream_topics(bootstrap, stream, 1)
    contract = contract_of(stream, rows[:2000])
    values = control_records(contract, model)
    for row in rows:
        values.append(encode(Observation(row.id, row.id, row.at, dict(row.x))))
        values.append(encode(Label(row.id, row.id, row.at + 1, row.y)))
    # Uncompressed: aiokafka, which Faust reads with, brings no codec but gzip.
    log = Producer(
        {**admin.client_settings(bootstrap, "bench"), "linger.ms": 20, "partitioner": "murmur2_random"}
    )
    for start in range(0, len(values), 5000):
        log.produce_batch(
            topic(LOG, stream), [{"key": b"bench", "value": v} for v in values[start : start + 5000]], 0
        )
        log.flush()
    announced = StreamAnnounced(stream, 1, 1, contract.to_dict())
    producer = LogProducer(bootstrap, client_id="bench")
    producer.send(REGISTRY.name, [{"key": f"stream/{stream}".encode(), "value": encode(announced)}]).result(
        30
    )
    producer.close(10)
    return stream


def forget(bootstrap: str, stream: str) -> None:
    """Withdraw the announcement, so that the next contestant has one stream only."""
    producer = LogProducer(bootstrap, client_id="bench")
    producer.send(REGISTRY.name, [{"key": f"stream/{stream}".encode(), "value": None}]).result(30)
    producer.close(10)


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A contestant's process; ended with the block."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", **environment}
    with log.open("ab") as output:
        child = subprocess.Popen(command, cwd=log.parent, env=settings, stdout=output, stderr=output)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def headrace(bootstrap: str, stream: str, home: Path) -> tuple[list[str], dict[str, str]]:
    """The real scoring service."""
    return [sys.executable, "-m", "services.scoring"], {
        "HEADRACE_BOOTSTRAP": bootstrap,
        "HEADRACE_HOME": str(home / stream),
        "HEADRACE_SCORING_PORT": "18199",
        "HEADRACE_SCORING_INSTANCE": stream,
    }


def other(python: str, script: str, bootstrap: str, stream: str, model: str) -> list[str]:
    """A competitor's program over the same topics."""
    topics = [topic(kind, stream) for kind in (LOG, PREDICTIONS, OUTCOMES)]
    return [python, str(ROOT / "benchmarks" / script), bootstrap, *topics, model]


def measure(bootstrap: str, stream: str, count: int, child: subprocess.Popen[bytes]) -> Measured:
    """Watch the outcomes grow to `count`. Raises RuntimeError if the contestant dies or takes too long."""
    name = topic(OUTCOMES, stream)
    first = 0
    started = cpu = 0.0
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        done = admin.end_offsets(bootstrap, name)[0]
        if done and not started:
            first, started, cpu = done, time.perf_counter(), cpu_seconds(child.pid)
        if done >= count:
            if first >= count // 2:
                raise RuntimeError("the log was too short to measure this contestant")
            elapsed = time.perf_counter() - started
            spent = cpu_seconds(child.pid) - cpu
            return Measured(
                (count - first) / elapsed, 1e6 * spent / (count - first), peak_memory_mb(child.pid)
            )
        if child.poll() is not None:
            raise RuntimeError(f"the contestant ended with {child.returncode}")
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"not done after {LIMIT_SECONDS:.0f} s: {done} of {count}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_mb(pid: int) -> float:
    """Largest resident set of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
