"""What every service does around its work: settings, logs, a Kafka host beside an HTTP API, and one way to end.

The API has the main thread (signals arrive there), the host a thread of its own. SIGTERM ends the API, then the host
after the batch in hand; a host that fails ends the API. Whatever makes a service end by itself ends the process with
exit code 1 and, as its last line on stderr, the service's name and the reason: that line is what a supervisor shows. It
ends within `END_SECONDS` of the failure, wherever a library hangs: half a service answers `/livez` and does nothing.

The port is taken before the host starts. A second process that was started by mistake then fails at once, where it
would first have fenced the one that works.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog
from fastapi import FastAPI
from pydantic import ValidationError

from headrace import logs
from headrace.errors import Fatal, HeadraceError
from headrace.web import listen, serve

if TYPE_CHECKING:
    from headrace.traces import Traces

log = structlog.get_logger("headrace.runner")

STOP_SECONDS = 20.0
END_SECONDS = 40.0
"""More than all orderly ways to end take together."""

Settings = TypeVar("Settings")


def run_service(name: str, settings: Callable[[], Settings], run: Callable[[Settings], int]) -> int:
    """A service's whole `main`; returns the exit code. What can be expected to fail ends in one line, no traceback."""
    try:
        loaded = settings()
        logs.configure(name)
        return run(loaded)
    except ValidationError as error:
        _say(name, "; ".join(f"{_variable(one['loc'])}: {one['msg']}" for one in error.errors()))
    except (HeadraceError, OSError) as error:
        _say(name, str(error))
    return 1


def _variable(place: tuple[int | str, ...]) -> str:
    """The environment variable that a setting came from."""
    name = "_".join(map(str, place)).upper()
    return name if name.startswith("HEADRACE_") else f"HEADRACE_{name}"


def _say(name: str, why: str) -> None:
    sys.stderr.write(f"{name}: {' '.join(why.split())}\n")
    sys.stderr.flush()


class TracedSettings(Protocol):
    """Where traces go; see docs/traces.md."""

    @property
    def instance(self) -> str: ...
    @property
    def traces_url(self) -> str: ...


def open_traces(name: str, settings: TracedSettings, ratio: float = 0.0) -> "Traces | None":
    """A service's traces; None, and nothing of OpenTelemetry loaded, if none are wanted. `Fatal` if it is missing.

    ratio: share of its requests to trace.
    """
    if not settings.traces_url:
        return None
    try:
        from headrace.traces import Traces
    except ModuleNotFoundError as error:
        raise Fatal(f"HEADRACE_TRACES_URL needs {error.name}: install headrace[traces]") from None
    return Traces(name, settings.instance, settings.traces_url, ratio)


class Host(Protocol):
    """What runs on a thread until asked to stop."""

    def run(self) -> None:
        """Work; returns after `stop`, raises if the process must be restarted."""
        ...

    def stop(self) -> None:
        """Ask `run` to return."""
        ...


def serve_with_host(app: FastAPI, host: Host, *, address: str, port: int) -> int:
    """Serve `app` beside a running `host`; returns the exit code. Raises `Fatal` if either fails or cannot start."""
    listener = listen(address, port)
    ended = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            host.run()
        except BaseException as error:  # the main thread reports it
            failed.append(error)
            log.error("host failed", error=str(error), exc_info=not isinstance(error, HeadraceError))
            _end_for_certain(app.title.removeprefix("Headrace "), error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="host", daemon=True)
    thread.start()
    try:
        serve(app, listener=listener, stop=ended)
    except Fatal as error:
        failed.append(error)  # behind what the host said, if it did: that is then the reason
    finally:
        host.stop()
        thread.join(STOP_SECONDS)
    if failed:
        raise Fatal(str(failed[0]) or type(failed[0]).__name__) from failed[0]
    if thread.is_alive():
        raise Fatal(f"its work did not end within {STOP_SECONDS:.0f} s after the stop")
    return 0


def _end_for_certain(name: str, error: BaseException) -> None:
    """Should the orderly end hang, end without it."""

    def end() -> None:
        _say(name, f"{error} (ended by force, as it did not end by itself)")
        os._exit(1)

    timer = threading.Timer(END_SECONDS, end)
    timer.daemon = True
    timer.start()
