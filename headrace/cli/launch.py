"""Starting one process of the system: the broker, or a service on a port that is free.

Apart from `system`, because the supervisor needs this and nothing else of the command line: it must stay small, so no
HTTP client is imported here.
"""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from headrace.cli import processes
from headrace.cli.home import Home, Run, Running
from headrace.errors import Unusable

PORT_SECONDS = 2.0
PORT_STEP = 10
PORT_STEPS = 100
FAILED_LOG_BYTES = 1_000_000
"""One that dies again and again goes on writing into one log up to this size, or its first reason would be gone."""

Say = Callable[[str], None]


def start_broker(home: Home, say: Say) -> tuple[str, bool]:
    """The broker's bootstrap servers, and whether it ran already."""
    if home.bootstrap:
        say(f"using the Kafka at {home.bootstrap} (HEADRACE_BOOTSTRAP)")
        return home.bootstrap, True
    from headrace.broker import EmbeddedBroker

    address = EmbeddedBroker(home.broker, cache=home.jars).start(progress=say)
    return address.bootstrap_servers, address.reused


def start_service(
    home: Home, service: str, known: Running | None, run: Run, *, again: bool = False
) -> Running:
    """Start one service as a detached process; it is not ready yet.

    again: after a failure, so its log goes on until it has grown. Raises `Unusable` if there is no port for it.
    """
    host = home.host_of(service)
    port = choose_port(home, service, host, known, {other.port for other in run.services.values()})
    log = log_of(home, service)
    processes.rotate(log, FAILED_LOG_BYTES if again else 0)
    upper = service.upper()
    environment = {
        **service_environment(home, run.bootstrap),
        f"HEADRACE_{upper}_HOST": host,
        f"HEADRACE_{upper}_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    pid = processes.start(
        service_command(service),
        log=log,
        environment=environment,
        folder=home.path,
    )
    return Running(pid, host, port, processes.mark_of(pid))


def service_environment(home: Home, bootstrap: str) -> dict[str, str]:
    """What every service of this installation is told."""
    return {
        **home.environment,
        "HEADRACE_HOME": str(home.path),
        "HEADRACE_KEYS": str(home.keys_file),
        "HEADRACE_BOOTSTRAP": bootstrap,
    }


def service_command(service: str, *arguments: str) -> list[str]:
    """How a service is run."""
    return [sys.executable, "-P", "-m", f"services.{service}", *arguments]


def choose_port(home: Home, service: str, host: str, known: Running | None, taken: set[int]) -> int:
    """The port of a service: the given one, else the last, else the default, else the next free one."""
    wanted = home.wanted_port(service)
    if home.port_is_given(service):
        if not becomes_free(host, wanted):
            raise Unusable(f"port {wanted} is taken; free it or change HEADRACE_{service.upper()}_PORT")
        return wanted
    if known is not None and becomes_free(host, known.port):
        return known.port
    # Steps upwards rather than any free port: in the kernel's own range a client that reconnects could get it first.
    for port in range(wanted, min(wanted + PORT_STEPS * PORT_STEP, 65_536), PORT_STEP):
        if port not in taken and is_free(host, port):
            return port
    raise Unusable(
        f"no free port for {service} from {wanted} on; name one with HEADRACE_{service.upper()}_PORT"
    )


def becomes_free(host: str, port: int) -> bool:
    """Whether a port is free, or soon: that of a process just killed takes a moment. Clients know the old address."""
    deadline = time.monotonic() + PORT_SECONDS
    while not (free := is_free(host, port)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return free


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def log_of(home: Home, service: str) -> Path:
    """The log file of a service."""
    return home.logs / f"{service}.log"
