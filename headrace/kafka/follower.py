"""Follows `headrace.registry`: what streams and deployments exist, in every service, without asking anybody.

The topic is compacted, so reading it from its start gives the present; a service is ready once it has reached the end
and then hears of changes within milliseconds. The dictionaries are replaced, never changed, so that an event loop may
iterate over one while the thread goes on.
"""

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from headrace.contracts.codec import decode_announcement
from headrace.contracts.events import Announcement, DeploymentAnnounced, StreamAnnounced
from headrace.contracts.topics import REGISTRY
from headrace.errors import Fatal, Transient
from headrace.kafka.tail import Tail, TailRecord

BATCH = 1000
WAIT_SECONDS = 0.2

_log = logging.getLogger(__name__)


class RegistryFollower:
    """The registry's announcements, folded.

    on_change: called once an announcement, in order: during `start` on the caller's thread, afterwards on the
    follower's own. It must not block long nor raise: if it raises, `start` raises, or later the follower stops and
    `healthy` turns False, because a service that missed a contract must not go on.
    """

    def __init__(self, bootstrap: str, on_change: Callable[[Announcement], None]) -> None:
        self.streams: dict[str, StreamAnnounced] = {}
        self.deployments: dict[tuple[str, str], DeploymentAnnounced] = {}
        self._bootstrap = bootstrap
        self._on_change = on_change
        self._stopping = threading.Event()
        self._failure = ""
        self._thread: threading.Thread | None = None

    def champions(self) -> dict[str, tuple[str, int]]:
        """By stream, (model, version) of its champion."""
        deployed = self.deployments.values()
        return {one.stream: (one.model, one.version) for one in deployed if one.role == "champion"}

    def start(self, timeout_seconds: float = 30) -> None:
        """Read to the end, then follow in a daemon thread. Raises `Transient` if the end is not reached in time.

        A registry topic that does not exist yet is waited for (the registry service makes it).
        """
        deadline = time.monotonic() + timeout_seconds
        tail = self._open(deadline)
        try:
            while not tail.caught_up():
                if time.monotonic() > deadline:
                    raise Transient(f"{REGISTRY.name} was not read to its end in {timeout_seconds:g} s")
                self._fold(tail.read(BATCH, WAIT_SECONDS))
        except BaseException:
            tail.close()
            raise
        self._thread = threading.Thread(
            target=self._follow, args=(tail,), name="registry-follower", daemon=True
        )
        self._thread.start()

    def healthy(self) -> bool:
        """Whether the follower is at work. A broker that is away for a while does not make it unhealthy."""
        return self._thread is not None and self._thread.is_alive()

    def check(self) -> None:
        """Raise `Fatal`, with the reason, if the follower does not follow any more: what it told grows old."""
        if self._thread is not None and not self._thread.is_alive() and not self._stopping.is_set():
            raise Fatal(f"the registry follower has ended: {self._failure or 'see the log above'}")

    def stop(self) -> None:
        """Stop following; returns when the thread has ended."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10.0)

    def _open(self, deadline: float) -> Tail:
        while True:
            try:
                return Tail(
                    self._bootstrap,
                    REGISTRY.name,
                    start="earliest",
                    client_id="headrace-follower",
                    timeout_seconds=max(0.5, deadline - time.monotonic()),
                )
            except Transient:
                if time.monotonic() > deadline or self._stopping.wait(WAIT_SECONDS):
                    raise

    def _follow(self, tail: Tail) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    records = tail.read(BATCH, WAIT_SECONDS)
                except Transient as error:
                    _log.warning("the registry topic cannot be read for now: %s", error)
                    self._stopping.wait(1.0)
                    continue
                self._fold(records)
        except Fatal as error:
            self._failure = str(error)
            _log.error("the registry follower stops: %s", error)
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            _log.exception("the registry follower stops: a change could not be applied")
        finally:
            tail.close()

    def _fold(self, records: list[TailRecord]) -> None:
        for record in records:
            if record.value is None:
                self._forget(record.key or b"")
                continue
            try:
                announcement = decode_announcement(record.value)
            except msgspec.MsgspecError as error:
                # Written by a newer registry, or not by a registry: what we cannot read we cannot follow.
                _log.error("%s offset %d cannot be read: %s", REGISTRY.name, record.offset, error)
                continue
            if isinstance(announcement, StreamAnnounced):
                self.streams = {**self.streams, announcement.stream: announcement}
            else:
                place = (announcement.stream, announcement.model)
                self.deployments = {**self.deployments, place: announcement}
            self._on_change(announcement)

    def _forget(self, key: bytes) -> None:
        match key.decode("utf-8", "replace").split("/"):
            case ["stream", stream]:
                self.streams = {name: known for name, known in self.streams.items() if name != stream}
            case ["deployment", stream, model]:
                gone = (stream, model)
                self.deployments = {
                    place: known for place, known in self.deployments.items() if place != gone
                }
