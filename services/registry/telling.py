"""Tells what changes have written, on `headrace.changes`, in the order of the audit trail.

What is to be told waits in the database (`changes`). At a start it is seen to that the topic, with what waits, leads to
what the database holds: all of it is told anew if the topic was lost, the tables have changed, or the database was
put back to an older state. An empty database is not told: it may be the registry's loss, and is to be made again.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

import structlog

from headrace.contracts.codec import encode
from headrace.contracts.events import RowsWritten
from headrace.errors import Fatal
from services.registry.domain.changes import opened, sealed
from services.registry.journal import Journal
from services.registry.schema import newest
from services.registry.trail import Trail

NEWEST = 1000
"""Messages that are looked at first, when the newest is sought."""

_log = structlog.stdlib.get_logger("registry")


class ChangeLog(Protocol):
    """What is needed of Kafka; see `agents.KafkaControlLog`."""

    def tell_changes(self, changes: Sequence[bytes]) -> None:
        """Keep what changes have written, for ever and in this order."""
        ...

    def told_changes(self, newest: int | None = None) -> Iterator[bytes]:
        """What was told of changes, oldest first; only the newest so many."""
        ...


class Telling:
    """Takes what waits to the topic. Safe to use from several threads. Raises `Transient` as log and database do."""

    def __init__(self, journal: Journal, trail: Trail, log: ChangeLog) -> None:
        self._journal = journal
        self._trail = trail
        self._log = log
        self._one_by_one = threading.Lock()

    def tell(self) -> None:
        """Tell everything that waits."""
        with self._one_by_one:
            while waiting := self._journal.outgoing():
                self._log.tell_changes([encode(sealed(self._trail.seal, told)) for _, told in waiting])
                self._journal.arrived(number for number, _ in waiting)

    def begin(self) -> None:
        """See to it that the topic leads to what there is. Raises `Fatal` if the database has lost what it holds."""
        last, head = self._last(), self._trail.head().sequence
        told = 0 if last is None else last.sequence
        if told and not head:
            raise Fatal(
                f"the database is empty, but headrace.changes tells of {told} changes made with this audit key: make "
                "it again (headrace registry restore), or begin anew with another key"
            )
        if told > head:
            _log.error("the database was put back to an older state", changes=head, told=told)
        waiting = [message for _, message in self._journal.outgoing() if message.sequence]
        follows = waiting[0].sequence in (told, told + 1) if waiting else told == head
        alike = {message.schema for message in (last, *waiting) if message is not None} <= {newest()}
        if told > head or not (follows and alike):
            self._trail.tell_everything()

    def _last(self) -> RowsWritten | None:
        """The newest message about a change that was told with this key."""
        for most in (NEWEST, None):
            found = (opened(self._trail.seal, value) for value in self._log.told_changes(most))
            told = [message for message in found if message is not None and message.sequence]
            if told:
                return told[-1]
        return None
