"""Hears the alerts and mutes that this or another process has told, and hands them to the event loop.

An ordinary reader on a thread of its own, not Faust: others (scoring's checks) write alerts compressed with lz4. It is
open before the topics are read for recovery, so nothing is missed in between; what is heard twice counts once.
"""

import asyncio
import threading
from collections.abc import Callable

import structlog

from headrace.contracts.topics import ALERTS, MUTES
from headrace.errors import HeadraceError, Transient
from headrace.kafka.tail import Tail
from services.monitor.control import ControlPlane, Kept

log = structlog.get_logger("headrace.monitor.hearing")

READ_RECORDS = 500
WAIT_SECONDS = 0.1
AWAY_SECONDS = 1.0
STOP_SECONDS = 5.0


class Hearing:
    """Reads both topics from where they end when it is made. `fail` is called if it cannot go on."""

    def __init__(self, bootstrap: str, control: ControlPlane, fail: Callable[[str], None]) -> None:
        self._handlers = [
            (Tail(bootstrap, ALERTS.name, client_id="headrace-monitor"), control.hear),
            (Tail(bootstrap, MUTES.name, client_id="headrace-monitor"), control.hear_mute),
        ]
        self._fail = fail
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what comes to `loop` from now on."""
        self._thread = threading.Thread(target=self._hear, args=(loop,), name="hearing", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _hear(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._stopping.is_set():
                for tail, handler in self._handlers:
                    try:
                        records = tail.read(READ_RECORDS, WAIT_SECONDS)
                    except Transient as error:
                        log.warning("cannot be read for now", topic=tail.topic, error=str(error))
                        self._stopping.wait(AWAY_SECONDS)
                        continue
                    for record in records:
                        kept = Kept(record.value, record.offset, record.timestamp_ms)
                        loop.call_soon_threadsafe(handler, kept)
        except (HeadraceError, RuntimeError) as error:  # RuntimeError: the loop has ended
            if not self._stopping.is_set():
                self._fail(f"alerts cannot be heard: {error}")
        finally:
            for tail, _ in self._handlers:
                tail.close()
