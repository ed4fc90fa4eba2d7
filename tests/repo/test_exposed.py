"""The running services bear out what is declared: every metric of the source is on some `/metrics`, every port answers.

The other checks read the source; this one starts the four processes against a real Kafka, as a deployment does, and
asks them. It is what keeps a metric that nobody serves out of the dashboard. The Kafka is its own: services in a
group with another test's would take each other's partitions.
"""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from headrace import keys
from headrace.broker import EmbeddedBroker
from headrace.metrics import catalogue
from tests.otlp import Collector, Told
from tests.repo import declared, deployment
from tests.repo.test_deployment import PROMTOOL
from tests.repo.tree import ROOT

pytestmark = [pytest.mark.broker, pytest.mark.slow]

READY_SECONDS = 90.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def start(name: str, home: Path, bootstrap: str, port: int, traces_url: str) -> subprocess.Popen[bytes]:
    """One service as its own process; its log is `home/NAME.log`."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(declared.PREFIX)},
        "HEADRACE_BOOTSTRAP": bootstrap,
        "HEADRACE_HOME": str(home / name),
        "HEADRACE_ARCHIVE": f"file://{home}/archive",  # what is optional is served too
        "HEADRACE_TRACES_URL": traces_url,
        "HEADRACE_TRACES_RATIO": "0",  # only what brings a `traceparent` is traced
        "HEADRACE_KEYS": str(home / "keys.json"),
        f"HEADRACE_{name.upper()}_PORT": str(port),
    }
    command = [sys.executable, "-m", f"services.{name}"]
    with (home / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of everything here."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where the services send their traces."""
    with Collector() as one:
        yield one


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    """An administrator's key, of all services."""
    return keys.create(home / "keys.json", "tester", "admin")


@pytest.fixture(scope="module")
def addresses(home: Path, key: str, collector: Collector) -> Iterator[dict[str, str]]:
    """The four services, ready: name -> base URL. They are stopped at the end, and must end cleanly."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    found: dict[str, str] = {}
    with EmbeddedBroker(home / "broker") as broker:
        try:
            for name in ("registry", "ingest", "scoring", "monitor"):
                port = free_port()
                processes[name] = start(name, home, broker.bootstrap_servers, port, collector.url)
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
    assert {metric.name for metric in catalogue.ALL} <= served


def test_every_service_serves_the_series_its_rules_and_panels_ask_for(addresses: dict[str, str]) -> None:
    """A series named after a service comes from that service, under the job that Prometheus scrapes it as."""
    expressions = {**deployment.rule_expressions(), **deployment.panel_expressions()}
    for name, address in addresses.items():
        text = exposition(address)
        own = {metric.name for metric in catalogue.ALL if metric.name.startswith(f"headrace_{name}_")}
        asked = {metric for metric in own if any(metric in expression for expression in expressions.values())}
        assert all(f"# TYPE {metric} " in text for metric in asked), name


@pytest.mark.skipif(PROMTOOL is None and os.environ.get("CI") != "true", reason="promtool is not installed")
def test_promtool_has_nothing_to_say_of_what_is_served(addresses: dict[str, str]) -> None:
    assert PROMTOOL, "CI installs promtool; see .ci/system-packages"
    for name, address in addresses.items():
        ours = "".join(line for line in exposition(address).splitlines(keepends=True) if "headrace_" in line)
        run = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=ours, capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stdout + run.stderr) == (0, ""), name


def test_nothing_is_served_that_is_not_in_the_catalogue(addresses: dict[str, str]) -> None:
    served = {
        line.split()[2]
        for address in addresses.values()
        for line in exposition(address).splitlines()
        if line.startswith("# TYPE headrace_")
    }
    assert served <= {metric.name for metric in catalogue.ALL}


def test_a_service_shows_its_process(addresses: dict[str, str]) -> None:
    for address in addresses.values():
        assert "process_resident_memory_bytes" in exposition(address)


def send(url: str, key: str, body: object, **headers: str) -> int:
    """POST JSON; the status."""
    request = Request(url, json.dumps(body).encode(), {"Authorization": f"Bearer {key}", **headers})
    request.add_header("Content-Type", "application/json")
    with urlopen(request, timeout=30) as answer:
        return int(answer.status)


CONTRACT = {
    "name": "traced",
    "task": "binary",
    "entity": "customer",
    "partitions": 1,
    "fields": [
        {"name": "customer", "type": "string", "feature": False, "required": True},
        {"name": "amount", "type": "number"},
    ],
}
STEPS = {"ingest POST", "scoring log", "monitor log", "monitor predictions"}


def test_one_request_is_one_trace_through_all_services(
    addresses: dict[str, str], key: str, collector: Collector
) -> None:
    """What brings a `traceparent` is followed to the monitor, what brings none is not; nobody is named."""
    assert send(f"{addresses['registry']}/v1/streams", key, {"contract": CONTRACT}) == 201
    url = f"{addresses['ingest']}/v1/streams/traced/observations"
    trace, parent = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    event = {"id": "order-1", "customer": "ada", "amount": 1.5}
    wait_known(url, key, event | {"id": "order-0"})
    header = f"00-{trace}-{parent}-01"
    assert send(url, key, event, traceparent=header) == 202

    def step(span: Told) -> str:
        return (
            f"{span.service.removeprefix('headrace-')} {span.name.split()[0 if 'POST' in span.name else 1]}"
        )

    def found(told: list[Told]) -> dict[str, Told]:
        return {step(span): span for span in told if span.trace == trace}

    told = collector.wait(lambda told: set(found(told)) >= STEPS, 60)
    spans = found(told)
    assert set(spans) == STEPS
    assert spans["ingest POST"].parent == parent
    assert spans["scoring log"].parent == spans["monitor log"].parent == spans["ingest POST"].span
    assert spans["monitor predictions"].parent == spans["scoring log"].span
    assert spans["ingest POST"].attributes["http.response.status_code"] == 202
    batches = {
        span.service
        for span in told
        if any(link == (trace, spans["ingest POST"].span) for link in span.links)
    }
    assert batches >= {"headrace-scoring", "headrace-monitor"}
    assert {span.trace for span in told if not span.links} == {trace}, "the request without a trace has none"
    for named in ("ada", "order-1", "1.5"):
        assert named not in repr([(span.name, span.attributes) for span in told])


def wait_known(url: str, key: str, event: object) -> None:
    """Send until ingest knows the stream, which the registry has just announced."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        with suppress(HTTPError):  # 404
            if send(url, key, event) == 202:
                return
        time.sleep(0.1)
    pytest.fail(f"{url} was not known after {READY_SECONDS} s")
