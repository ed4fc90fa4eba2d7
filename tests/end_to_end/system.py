"""A whole running system for tests: the embedded broker and the four services as processes, in a home of its own."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.cli import system as control
from headrace.cli.home import Home
from headrace.client import Addresses, Client, ServiceProblem

PATIENCE_SECONDS = 120.0


def quiet(_: str) -> None:
    """Nobody watches."""


@dataclass
class System:
    """What a test talks to."""

    home: Home
    client: Client
    bootstrap: str

    def kill(self, service: str) -> None:
        """End a service as a crash would; returns once the supervisor has brought it back and it is ready."""
        old = self.home.load().services[service]
        os.kill(old.pid, signal.SIGKILL)

        def back() -> bool:
            run = self.home.load()
            return run.services[service] != old and control.ready_now(self.home, run)[service][0]

        self.wait(back)

    def total(self, stream: str) -> dict[str, Any]:
        """Scoring's counts of a stream over all partitions."""
        total: dict[str, Any] = self.client.metrics(stream)["total"]
        return total

    def wait(self, what: Callable[[], bool]) -> None:
        """Until it is so; fails after two minutes. A stream that scoring does not hold (yet, or just now) is a no."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_so(what):
            assert time.monotonic() < deadline, "the system did not get there in time"
            time.sleep(0.2)

    @staticmethod
    def _is_so(what: Callable[[], bool]) -> bool:
        try:
            return what()
        except ServiceProblem as problem:
            if (problem.status, problem.title) != (404, "Unknown stream"):
                raise
            return False


@contextmanager
def running_system(folder: Path) -> Iterator[System]:
    """Bring a system up on free ports, and down again."""
    home = Home(folder, environment=dict(os.environ))
    run = control.up(home, quiet, quiet).run
    addresses = Addresses(**{name: running.url for name, running in run.services.items()})
    client = Client(addresses, key=home.cli_key_file.read_text(encoding="ascii").strip())
    try:
        yield System(home, client, run.bootstrap)
    finally:
        client.close()
        control.down(home, quiet)
