"""Starting, finding and stopping the whole system: one broker, four services, each a process of its own.

`up` is idempotent: what runs is kept, what died is started again on its old port, what cannot start is shown with the
last lines of its log. The processes are detached, so the command may end; `run.json` is how the next one finds them,
and how the supervisor (`headrace.cli.supervisor`), which `up` starts beside them and `down` stops before them, does.
"""

import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from headrace.cli import processes
from headrace.cli.home import SERVICES, Home, Process, Run, Running, write_secret
from headrace.cli.launch import Say, log_of, start_broker, start_service
from headrace.errors import HeadraceError

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
SHOWN_LOG_LINES = 12
PROBE_SECONDS = 2.0
OTHER_UP_SECONDS = 180.0
SUPERVISOR_SECONDS = 5.0
"""A supervisor that is told to stop is in the middle of nothing, as we hold its lock."""


class NotStarted(HeadraceError):
    """A service did not become ready. Duty: read the reason (its last log lines are in the text), then `up` again."""


@dataclass(slots=True)
class Started:
    """What `up` did. admin_key: made just now, "" if there was one."""

    run: Run
    admin_key: str = ""
    started: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    broker_reused: bool = False


def up(home: Home, say: Say, show_key: Say) -> Started:
    """Bring everything up; returns once every service is ready. show_key: told the admin key when it is made.

    Raises `BrokerError` (see headrace.broker), `NotStarted`, or `Unusable` (a given port is taken, the home is not
    writable).
    """
    home.prepare()
    with _alone(home, say):
        run = home.load()
        bootstrap, reused = start_broker(home, say)
        if run.services and run.bootstrap != bootstrap:
            say("the broker's address has changed: restarting the services")
            _stop_services(run)
            run.services.clear()
        run.bootstrap, run.embedded = bootstrap, not home.bootstrap
        home.save(run)
        done = Started(run, admin_key=make_keys(home), broker_reused=reused)
        if done.admin_key:
            show_key(done.admin_key)  # now, as what follows may fail and it cannot be shown again
        _ensure_topics(bootstrap)
        # Always a new one: the environment of the latest `up` is the one that counts. And before the services, so that
        # one which cannot start is tried again even if this command gives up on it.
        _stop_supervisor(home, run)
        run.supervisor = start_supervisor(home)
        home.save(run)
        for service in SERVICES:
            known = run.services.get(service)
            if known is not None and processes.is_alive(known.pid, known.mark):
                processes.trim(log_of(home, service))
                done.kept.append(service)
            else:
                run.services[service] = start_service(home, service, known, run)
                done.started.append(service)
            home.save(run)  # at once: a command that is killed here leaves no process that nobody knows
        if done.started:
            say(f"starting {', '.join(done.started)}")
        failures = wait_until_ready(home, run, say)
        again = [name for name in failures if _deserves_another_start(home, name, run.services[name], done)]
        for service in again:
            say(f"starting {service} again")
            old = (
                run.services[service] if service in done.kept else None
            )  # one that lost its port takes another
            run.services[service] = start_service(home, service, old, run)
            home.save(run)
        if again:
            failures = wait_until_ready(home, run, say)
            done.started.extend(name for name in again if name not in done.started)
            done.kept = [name for name in done.kept if name not in again]
        if failures:
            raise NotStarted("\n".join(_failure(home, *failure) for failure in failures.items()))
    return done


def start_supervisor(home: Home) -> Process:
    """Start the process that brings back what dies; it waits until `run.json` names it and our lock is free."""
    log = home.logs / "supervisor.log"
    processes.rotate(log)
    environment = {**home.environment, "HEADRACE_HOME": str(home.path), "HEADRACE_BOOTSTRAP": home.bootstrap}
    pid = processes.start(
        [sys.executable, "-P", "-m", "headrace.cli.supervisor"],
        log=log,
        environment=environment,
        folder=home.path,
    )
    return Process(pid, processes.mark_of(pid))


def supervised(run: Run) -> bool:
    """Whether somebody brings back what dies."""
    return run.supervisor is not None and processes.is_alive(run.supervisor.pid, run.supervisor.mark)


def make_keys(home: Home) -> str:
    """Make the command line's key, and on the first start an admin key for the user, which is returned."""
    from headrace import keys

    first = not home.keys_file.exists()
    if first or not home.cli_key_file.exists():
        name = "cli" if first else f"cli-{int(time.time())}"
        write_secret(home.cli_key_file, keys.create(home.keys_file, name, "admin"))
    return keys.create(home.keys_file, "admin", "admin") if first else ""


def wait_until_ready(home: Home, run: Run, say: Say) -> dict[str, str]:
    """Wait for every service, all at once; returns why those are not ready that are not."""
    with ThreadPoolExecutor(len(SERVICES)) as pool, _probing(home) as http:
        waits = {
            service: pool.submit(_wait_for_one, http, running) for service, running in run.services.items()
        }
        reasons = {service: wait.result() for service, wait in waits.items()}
    for service, running in run.services.items():
        if not reasons[service]:
            say(f"{service} is ready at {running.url}")
    return {service: reason for service, reason in reasons.items() if reason}


def readiness(http: httpx2.Client, running: Running) -> tuple[bool, str]:
    """Whether a service says it is ready, and if not, what is missing. http: one that shows our key."""
    try:
        response = http.get(f"{running.url}/readyz")
        if response.status_code != 200:
            return False, _missing(response)
        # Two installations on one machine may meet at a port; only ours takes our key.
        if http.get(f"{running.url}/docs").status_code == 401:
            return False, f"another installation answers at port {running.port}"
    except httpx2.TransportError as error:
        return False, "does not answer" if isinstance(error, httpx2.ConnectError) else type(error).__name__
    return True, ""


def ready_now(home: Home, run: Run) -> dict[str, tuple[bool, str]]:
    """`readiness` of every service, asked in parallel."""
    if not run.services:
        return {}
    with ThreadPoolExecutor(len(SERVICES)) as pool, _probing(home) as http:
        asked = {service: pool.submit(readiness, http, running) for service, running in run.services.items()}
        return {service: answer.result() for service, answer in asked.items()}


def down(home: Home, say: Say) -> list[str]:
    """Stop the supervisor, the services, then the embedded broker; returns what was stopped. Data stays."""
    if not home.path.exists():
        return []
    with _alone(home, say):
        run = home.load()
        _stop_supervisor(home, run)
        stopped = [
            service for service, known in run.services.items() if processes.is_alive(known.pid, known.mark)
        ]
        if stopped:
            say(f"stopping {', '.join(stopped)}")
        for service in _stop_services(run):
            say(
                f"{service} did not end within {STOP_SECONDS:.0f} s and was killed; its data is safe in the log"
            )
        # Ports are kept, so that `up` finds them again; pids are not.
        run.services = {name: Running(0, known.host, known.port, "") for name, known in run.services.items()}
        if run.services:
            home.save(run)
        if run.embedded and home.broker.exists():
            from headrace.broker import EmbeddedBroker

            broker = EmbeddedBroker(home.broker, cache=home.jars)
            if broker.pid is not None:
                say("stopping Apache Kafka")
                broker.stop()
                stopped.append("broker")
    return stopped


def broker_state(home: Home, run: Run) -> dict[str, Any]:
    """Address, kind, pid, memory and whether the broker answers."""
    if not run.embedded:
        return {"bootstrap": run.bootstrap, "embedded": False, "pid": None, "ready": _connects(run.bootstrap)}
    from headrace.broker import EmbeddedBroker

    broker = EmbeddedBroker(home.broker, cache=home.jars)
    pid = broker.pid
    return {
        "bootstrap": run.bootstrap,
        "embedded": True,
        "pid": pid,
        "ready": pid is not None and broker.is_running(),
        "memory_mb": processes.memory_mb(pid) if pid is not None else None,
    }


@contextmanager
def _alone(home: Home, say: Say) -> Iterator[None]:
    """Only one `up` or `down` at a time."""
    from headrace.broker.locks import held

    busy = "another headrace command is starting or stopping the system"
    with held(home.lock_file, wait_seconds=OTHER_UP_SECONDS, busy=busy, progress=say):
        yield


def _ensure_topics(bootstrap: str) -> None:
    from headrace.kafka.admin import ensure_platform_topics

    ensure_platform_topics(bootstrap)


def _stop_supervisor(home: Home, run: Run) -> None:
    """End it, and forget what it knew; what it watches goes on."""
    if run.supervisor is not None:
        processes.stop([(run.supervisor.pid, run.supervisor.mark)], SUPERVISOR_SECONDS)
        run.supervisor = None
        home.save(run)
    home.supervision_file.unlink(missing_ok=True)


def _stop_services(run: Run) -> list[str]:
    """Stop all; returns those that had to be killed."""
    killed = processes.stop([(known.pid, known.mark) for known in run.services.values()], STOP_SECONDS)
    return [service for service, known in run.services.items() if known.pid in killed]


def _probing(home: Home) -> httpx2.Client:
    headers = {"authorization": f"Bearer {home.own_key()}"} if home.own_key() else {}
    return httpx2.Client(headers=headers, timeout=PROBE_SECONDS, trust_env=False)


def _wait_for_one(http: httpx2.Client, running: Running) -> str:
    """Wait for one service; returns "" or why it is not ready."""
    deadline = time.monotonic() + READY_SECONDS
    reason = "does not answer"
    while time.monotonic() < deadline:
        ready, reason = readiness(http, running)
        if not processes.is_alive(running.pid, running.mark):
            code = processes.exit_code(running.pid)
            return f"ended{'' if code is None else f' with exit code {code}'}"
        if ready:
            return ""
        time.sleep(0.1)
    return f"is not ready after {READY_SECONDS:.0f} s ({reason})"


def _deserves_another_start(home: Home, service: str, known: Running, done: Started) -> bool:
    """Whether a service failed for a reason that a second start will not meet.

    It ended while we took it for running (a kill takes a moment), or somebody took its port between our look and its
    own, and any other port will do.
    """
    if processes.is_alive(known.pid, known.mark):
        return False
    if service in done.kept:
        return True
    lines = " ".join(processes.last_lines(log_of(home, service), SHOWN_LOG_LINES)).lower()
    return "in use" in lines and "listen" in lines and not home.port_is_given(service)


def _failure(home: Home, service: str, reason: str) -> str:
    log = log_of(home, service)
    lines = (
        "\n".join(f"  | {line}" for line in processes.last_lines(log, SHOWN_LOG_LINES))
        or "  | (the log is empty)"
    )
    return f"{service} {reason}. The end of {log}:\n{lines}"


def _missing(response: httpx2.Response) -> str:
    try:
        document = response.json()
    except ValueError:
        return f"HTTP {response.status_code}"
    for part in (
        (document, document.get("checks"), document.get("ready")) if isinstance(document, dict) else ()
    ):
        waiting = (
            [str(name) for name, well in part.items() if well is False] if isinstance(part, dict) else []
        )
        if waiting:
            return f"waiting for {', '.join(waiting)}"
    return str(document.get("detail") or f"HTTP {response.status_code}") if isinstance(document, dict) else ""


def _connects(bootstrap: str) -> bool:
    """Whether anything listens at the first bootstrap address."""
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            return True
    except (OSError, ValueError):
        return False
