"""The real system comes back by itself: every service, the broker, and after `up` the supervisor; and `down` ends it.

One installation of its own, as everything in it is killed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.broker import EmbeddedBroker
from headrace.cli import launch, processes
from headrace.cli import system as control
from headrace.cli.home import SERVICES
from headrace.contracts.topics import PREDICTIONS, topic
from headrace.errors import Unusable
from headrace.kafka.tail import Tail
from tests.end_to_end.system import System, quiet, running_system
from tests.end_to_end.test_any_stream import MODELS, ROWS, command, made_up

pytestmark = [pytest.mark.broker, pytest.mark.slow]

STREAM = "watched"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system nobody else uses, with a stream and a model on it."""
    folder = tmp_path_factory.mktemp("supervised")
    with running_system(folder) as system:
        file = folder / f"{STREAM}.csv"
        made_up(file, "binary")
        create = ("--from", str(file), "--label", "result", "--name", STREAM, "--time-column", "when")
        command(system, "stream", "create", *create)
        specification = folder / "model.json"
        specification.write_text(json.dumps(MODELS["binary"]), encoding="utf-8")
        command(system, "model", "deploy", STREAM, str(specification))
        command(system, "publish", STREAM, str(file))
        yield system
    assert alive_in(folder) == []


def alive_in(folder: Path) -> list[str]:
    """Command lines of the living processes of an installation: its folder is in what they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if words and f"={folder}".encode() in told and "pytest" not in words:
            found.append(words)
    return found


def status(system: System) -> dict[str, Any]:
    """What `headrace status --json` prints, well or not."""
    environment = {**os.environ, "HEADRACE_HOME": str(system.home.path)}
    done = subprocess.run(
        [sys.executable, "-m", "headrace.cli.main", "status", "--json"],
        check=False, capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["well"] else 1)
    return found


def one(report: dict[str, Any], service: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in report["services"] if entry["service"] == service)
    return found


def well(system: System) -> bool:
    return bool(status(system)["well"])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_killed_comes_back_and_works(own: System, service: str) -> None:
    before = own.home.load()
    observed = own.total(STREAM)["observations"]
    own.kill(service)
    after = own.home.load()
    assert after.services[service].port == before.services[service].port
    assert {**after.services, service: None} == {**before.services, service: None}
    own.client.observe(STREAM, {"colour": "red", "when": "2024-06-01T00:00:00Z", "id": f"after-{service}"})
    own.wait(lambda: own.total(STREAM)["observations"] == observed + 1)


def test_after_a_kill_of_scoring_the_next_event_is_answered_soon(
    own: System, record_property: Callable
) -> None:
    """The promise is 5 s; here it is twice that, as a machine that runs tests does other things too."""
    tail = Tail(own.bootstrap, topic(PREDICTIONS, STREAM), start="latest")
    try:
        os.kill(own.home.load().services["scoring"].pid, signal.SIGKILL)
        began = time.monotonic()
        own.client.observe(STREAM, {"colour": "red", "when": "2024-06-02T00:00:00Z", "id": "soon"})
        while not any(json.loads(record.value or b"{}")["id"] == "soon" for record in tail.read(100, 0.2)):
            assert time.monotonic() - began < 60
        seconds = time.monotonic() - began
    finally:
        tail.close()
    record_property("seconds", round(seconds, 2))
    print(f"\nfirst prediction {seconds:.2f} s after kill -9 of scoring")
    assert seconds < 10
    own.wait(lambda: well(own))


def test_a_broker_that_is_killed_comes_back_at_its_port_with_everything(own: System) -> None:
    observed = own.total(STREAM)["observations"]
    broker = EmbeddedBroker(own.home.broker, cache=own.home.jars)
    old = broker.pid
    assert old is not None
    before = own.home.load()
    os.kill(old, signal.SIGKILL)
    own.wait(lambda: broker.pid not in (None, old) and broker.is_running())
    assert broker.bootstrap_servers == own.bootstrap
    own.wait(lambda: well(own))
    report = status(own)
    assert report["broker"]["restarts"] == 1
    assert own.home.load().services == before.services  # a broker that is away is no reason to die
    own.client.observe(STREAM, {"colour": "blue", "when": "2024-06-03T00:00:00Z", "id": "after-broker"})
    own.wait(lambda: own.total(STREAM)["observations"] == observed + 1)


def test_everything_at_once(own: System) -> None:
    run = own.home.load()
    pid = EmbeddedBroker(own.home.broker, cache=own.home.jars).pid
    assert pid is not None
    for victim in (pid, *(service.pid for service in run.services.values())):
        os.kill(victim, signal.SIGKILL)
    own.wait(lambda: all(own.home.load().services[name] != run.services[name] for name in SERVICES))
    own.wait(lambda: well(own))
    assert own.total(STREAM)["labelled"] == ROWS


def test_a_supervisor_that_is_killed_is_missed_and_up_brings_another(own: System) -> None:
    before = own.home.load()
    assert before.supervisor is not None
    os.kill(before.supervisor.pid, signal.SIGKILL)
    own.wait(lambda: not control.supervised(own.home.load()))
    report = status(own)
    assert (report["well"], report["supervisor"]["ready"]) == (False, False)
    assert all(service["ready"] for service in report["services"])
    again = control.up(own.home, quiet, quiet)
    assert again.started == []
    assert again.run.services == before.services
    own.kill("monitor")
    assert well(own)


def test_a_taken_port_is_shown_as_the_reason_and_works_once_it_is_free(own: System) -> None:
    port = own.home.load().services["monitor"].port
    control.down(own.home, quiet)
    assert alive_in(own.home.path) == []
    with socket.create_server(("127.0.0.1", port)):
        own.home.environment["HEADRACE_MONITOR_PORT"] = str(port)  # type: ignore[index]  # a dict, here
        try:
            with pytest.raises(Unusable, match=f"port {port} is taken"):
                control.up(own.home, quiet, quiet)
        finally:
            del own.home.environment["HEADRACE_MONITOR_PORT"]  # type: ignore[attr-defined]
        own.wait(lambda: one(status(own), "monitor")["ends_in_a_row"] >= 2)
        own.wait(lambda: all(one(status(own), name)["ready"] for name in SERVICES if name != "monitor"))
        monitor = one(status(own), "monitor")
        assert monitor["last_end"]["reason"] == (
            f"port {port} is taken; free it or change HEADRACE_MONITOR_PORT"
        )
        assert (monitor["ready"], monitor["pid"]) == (False, None)
    again = control.up(own.home, quiet, quiet)  # tries at once, where the supervisor would by and by
    assert again.run.services["monitor"].port == port
    assert well(own)


def test_a_service_that_dies_at_once_shows_its_exit_code_and_its_last_words(own: System) -> None:
    keys = own.home.path / "snapshot.key"
    good = keys.read_bytes()
    keys.unlink()
    keys.mkdir()
    try:
        os.kill(own.home.load().services["scoring"].pid, signal.SIGKILL)
        own.wait(lambda: one(status(own), "scoring")["ends_in_a_row"] >= 3)
        scoring = one(status(own), "scoring")
        assert scoring["last_end"]["exit_code"] == 1
        assert scoring["last_end"]["reason"].startswith("scoring: ")
        assert "snapshot.key" in scoring["last_end"]["reason"]
        assert processes.last_lines(launch.log_of(own.home, "scoring"), 1)[0].startswith("scoring: ")
    finally:
        keys.rmdir()
        keys.write_bytes(good)
        keys.chmod(0o600)
    own.wait(lambda: well(own))
    assert own.total(STREAM)["labelled"] == ROWS
