"""What was decided about each stream, in order, and how far it has come: written to the log, announced.

A decision without offsets is pending. Nothing here decides; `store` writes a decision into the journal in the same
transaction in which it makes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import cast

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from headrace.contracts.codec import decode_log_record
from headrace.contracts.events import Control, RowsWritten
from services.registry import changes
from services.registry.database import Database
from services.registry.domain.history import Decision
from services.registry.tables import ControlRow, StreamRow


@dataclass(frozen=True, slots=True)
class Pending:
    """A decision that has yet to reach the log."""

    stream: str
    sequence: int
    partitions: int
    record: bytes


class Journal:
    """The journal of every stream. Safe to use from several threads. Raises `Transient` as the database does."""

    def __init__(self, database: Database) -> None:
        self._read = database.read
        self._write = database.write

    def pending(self, stream: str) -> list[Pending]:
        """Decisions about a stream that have yet to reach its log, in order."""
        query = (
            select(ControlRow.stream, ControlRow.sequence, StreamRow.partitions, ControlRow.record)
            .join(StreamRow, StreamRow.name == ControlRow.stream)
            .where(ControlRow.stream == stream, ControlRow.offsets.is_(None))
            .order_by(ControlRow.sequence)
        )
        return self._read(lambda session: [Pending(*row) for row in session.execute(query)])

    def effective(self, decision: Pending, offsets: dict[int, int]) -> None:
        """The decision is in the log, there."""
        written = {str(partition): offset for partition, offset in sorted(offsets.items())}
        statement = (
            update(ControlRow)
            .where(ControlRow.stream == decision.stream, ControlRow.sequence == decision.sequence)
            .values(offsets=written)
        )
        key = {"stream": decision.stream, "sequence": decision.sequence}

        def work(session: Session) -> None:
            session.execute(statement)
            changes.tell_beside(session, ControlRow, **key, offsets=written)

        self._write(work)

    def offsets(self, stream: str, sequence: int) -> dict[str, int] | None:
        """Where a decision lies in the log; None if it is pending."""
        query = select(ControlRow.offsets).where(ControlRow.stream == stream, ControlRow.sequence == sequence)
        return self._read(lambda session: session.scalar(query))

    def decided(self, stream: str, at_ms: int) -> list[Decision]:
        """Every decision about a stream up to a moment, oldest first."""
        latest = select(func.max(ControlRow.sequence)).where(
            ControlRow.stream == stream, ControlRow.made_ms <= at_ms
        )

        def work(session: Session) -> list[Decision]:
            # Up to the last one by then: should the clock have been set back, decisions still come in their order.
            query = (
                select(ControlRow)
                .where(ControlRow.stream == stream, ControlRow.sequence <= (session.scalar(latest) or 0))
                .order_by(ControlRow.sequence)
            )
            return [
                Decision(
                    row.sequence,
                    cast(Control, decode_log_record(row.record)),
                    row.made_ms,
                    row.made_by,
                    row.offsets,
                )
                for row in session.scalars(query)
            ]

        return self._read(work)

    def unsettled(self) -> list[str]:
        """Streams with a decision that is pending or not announced."""
        query = (
            select(StreamRow.name).where(StreamRow.announced < StreamRow.sequence).order_by(StreamRow.name)
        )
        return self._read(lambda session: list(session.scalars(query)))

    def reopen(self, stream: str) -> None:
        """The log has lost its records: every decision has to be written again."""

        def work(session: Session) -> None:
            rewrite = update(ControlRow).where(ControlRow.stream == stream)
            session.execute(rewrite.values(offsets=None))
            session.execute(update(StreamRow).where(StreamRow.name == stream).values(announced=0))

        self._write(work)

    def outgoing(self) -> list[tuple[int, RowsWritten]]:
        """The oldest messages about changes that have yet to reach their topic, with their places in the line."""
        return self._read(changes.waiting)

    def arrived(self, numbers: Iterable[int]) -> None:
        """They have reached it."""
        self._write(partial(changes.arrived, numbers=list(numbers)))

    def announced(self, stream: str, sequence: int) -> None:
        """Everything about the stream up to this decision has been announced."""
        statement = (
            update(StreamRow)
            .where(StreamRow.name == stream, StreamRow.announced < sequence)
            .values(announced=sequence)
        )
        self._write(lambda session: session.execute(statement))
