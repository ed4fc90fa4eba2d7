"""Runs a Kafka host and an HTTP API in one process, and ends both together.

The API has the main thread (signals arrive there), the host a thread of its own. SIGTERM ends the API, then the host
after the batch in hand; a host that fails ends the API, so that a supervisor sees the process die and says why.
"""

import threading
from typing import Protocol

import structlog
from fastapi import FastAPI

from headrace.web import serve

log = structlog.get_logger("headrace.runner")

STOP_SECONDS = 20.0


class Host(Protocol):
    """What runs on a thread until asked to stop."""

    def run(self) -> None:
        """Work; returns after `stop`, raises if the process must be restarted."""
        ...

    def stop(self) -> None:
        """Ask `run` to return."""
        ...


def serve_with_host(app: FastAPI, host: Host, *, address: str, port: int) -> int:
    """Serve `app` beside a running `host`; returns the process's exit code. Raises `Fatal` if it cannot serve."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            host.run()
        except BaseException as error:  # the main thread reports it
            failed.append(error)
            log.error("host failed", error=str(error), kind=type(error).__name__)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="host", daemon=True)
    thread.start()
    try:
        serve(app, host=address, port=port, stop=ended)
    finally:
        host.stop()
        thread.join(STOP_SECONDS)
    if thread.is_alive():
        log.error("host did not stop in time", seconds=STOP_SECONDS)
    return 1 if failed or thread.is_alive() else 0
