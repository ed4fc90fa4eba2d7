"""Picks the broker's two TCP ports and remembers them in its home, so that a restart is found where clients
look.

Why not "bind to port 0 and see": the kernel then gives a port from its ephemeral range. While the broker is
down, a client that keeps reconnecting to such a port is itself given ports from that range, can hit the very
one it is calling, and connects to itself (TCP simultaneous open), which takes the port from the broker for
good. So ports are drawn below that range (Linux starts at 32768, macOS at 49152).
"""

from __future__ import annotations

import json
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from headrace.broker.errors import BrokerError, PortInUse

HOST = "127.0.0.1"
LOWEST_PORT = 20_000
HIGHEST_PORT = 32_000
_TRIES = 200
_RELEASE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ports:
    """The client port and the controller's port, both on 127.0.0.1."""

    client: int
    controller: int

    def save(self, path: Path) -> None:
        """Write to `path` in one step (a torn file would lose the address)."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"client": self.client, "controller": self.controller}) + "\n")
        fresh.replace(path)


def load(path: Path) -> Ports | None:
    """The ports remembered at `path`; None if there are none or the file is not readable as such."""
    try:
        document = json.loads(path.read_text())
        client, controller = document["client"], document["controller"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(client, int) and isinstance(controller, int):
        return Ports(client, controller)
    return None


def is_free(port: int) -> bool:
    """True if a server could listen on 127.0.0.1:port now (TIME_WAIT counts as free, as for Kafka)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
            trial.listen(1)
        except OSError:
            return False
    return True


def _becomes_free(port: int) -> bool:
    """True if the port is free, at once or soon: a killed process lets go of its sockets a moment after it is gone."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def choose(requested: int, remembered: Ports | None) -> Ports:
    """Ports to start on. `requested` 0 means: the remembered one if it is free, else any free one.

    Raises PortInUse if a particular port was requested and is taken.
    """
    if requested:
        if not _becomes_free(requested):
            raise PortInUse(
                f"port {requested} on {HOST} is used by another program: end that program, or give another port "
                "(0 picks a free one)"
            )
        client = requested
    elif remembered is not None and _becomes_free(remembered.client):
        client = remembered.client
    else:
        client = _free_port(avoid=0)
    if remembered is not None and remembered.controller != client and _becomes_free(remembered.controller):
        return Ports(client, remembered.controller)
    return Ports(client, _free_port(avoid=client))


def _free_port(*, avoid: int) -> int:
    """A random free port in the range; random, so that brokers started together seldom collide."""
    for _ in range(_TRIES):
        port = random.SystemRandom().randrange(LOWEST_PORT, HIGHEST_PORT)
        if port != avoid and is_free(port):
            return port
    raise BrokerError(f"no free port between {LOWEST_PORT} and {HIGHEST_PORT} on {HOST}: give one by hand")
