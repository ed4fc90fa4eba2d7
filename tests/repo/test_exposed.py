"""The running services bear out what is declared: every metric of the source is on some `/metrics`, every port answers.

The other checks read the source; this one starts the four processes against a real Kafka, as a deployment does, and
asks them. It is what keeps a metric that nobody serves out of the dashboard. The Kafka is its own: services in a
group with another test's would take each other's partitions.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from headrace.broker import EmbeddedBroker
from tests.repo import declared, deployment
from tests.repo.tree import ROOT

pytestmark = [pytest.mark.broker, pytest.mark.slow]

READY_SECONDS = 90.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def start(name: str, home: Path, bootstrap: str, port: int) -> subprocess.Popen[bytes]:
    """One service as its own process; its log is `home/NAME.log`."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(declared.PREFIX)},
        "HEADRACE_BOOTSTRAP": bootstrap,
        "HEADRACE_HOME": str(home / name),
        "HEADRACE_ARCHIVE": f"file://{home}/archive",  # what is optional is served too
        f"HEADRACE_{name.upper()}_PORT": str(port),
    }
    command = [sys.executable, "-m", f"services.{name}"]
    with (home / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The four services, ready: name -> base URL. They are stopped at the end, and must end cleanly."""
    home = tmp_path_factory.mktemp("home")
    processes: dict[str, subprocess.Popen[bytes]] = {}
    found: dict[str, str] = {}
    with EmbeddedBroker(home / "broker") as broker:
        try:
            for name in ("registry", "ingest", "scoring", "monitor"):
                port = free_port()
                processes[name] = start(name, home, broker.bootstrap_servers, port)
                found[name] = f"http://127.0.0.1:{port}"
                wait_ready(found[name], processes[name], home / f"{name}.log")
            yield found
        finally:
            for process in processes.values():
                process.terminate()
            codes = {name: process.wait(30) for name, process in processes.items()}
    assert set(codes.values()) == {0}, codes


def wait_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once /readyz says yes; say what the service logged if it ends or never does."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            with urlopen(f"{address}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"not ready after {READY_SECONDS} s: {log.read_text()}")


def exposition(address: str) -> str:
    """The text of /metrics; it asks for no key."""
    with urlopen(f"{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_every_declared_metric_is_served_by_some_service(addresses: dict[str, str]) -> None:
    served: set[str] = set()
    for address in addresses.values():
        lines = exposition(address).splitlines()
        served |= {line.split()[2] for line in lines if line.startswith("# TYPE headrace_")}
    assert {metric.name for metric in declared.metrics()} <= served


def test_every_service_serves_the_series_its_rules_and_panels_ask_for(addresses: dict[str, str]) -> None:
    """A series named after a service comes from that service, under the job that Prometheus scrapes it as."""
    expressions = {**deployment.rule_expressions(), **deployment.panel_expressions()}
    for name, address in addresses.items():
        text = exposition(address)
        own = {metric.name for metric in declared.metrics() if metric.name.startswith(f"headrace_{name}_")}
        asked = {metric for metric in own if any(metric in expression for expression in expressions.values())}
        assert all(f"# TYPE {metric} " in text for metric in asked), name


def test_a_service_shows_its_process(addresses: dict[str, str]) -> None:
    for address in addresses.values():
        assert "process_resident_memory_bytes" in exposition(address)
