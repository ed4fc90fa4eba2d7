"""What the answers of models are worth: a stream's payoff, and those of models that have one of their own.

It belongs to a deployment and is announced with it, but it is no decision about who answers: no control record, nothing
in the log. So it may be set before, with or after a deployment and changed at any time; each change is in the trail.
"""

from collections.abc import Callable

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace.contracts.payoff import Payoff
from services.registry.database import Database
from services.registry.decisions import Absent, deciding, stream_row
from services.registry.domain.audit import By, Change
from services.registry.request import Version, expect
from services.registry.tables import ModelRow, PayoffRow
from services.registry.trail import Trail

OF_STREAM = ""
"""In place of a model's name: the payoff of every model that has none of its own."""

Plain = dict[str, float]


class Payoffs(dict[str, Plain]):
    """Payoffs of one stream in their plain form, by model."""

    def holds_for(self, model: str) -> Plain | None:
        """What a model's answers are worth; None: nobody has said."""
        return self.get(model, self.get(OF_STREAM))


class PayoffStore:
    """Payoffs, one a stream and one a model on it. Safe to use from several threads. Raises `Transient`, `Absent`."""

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append

    def of(self, stream: str) -> Payoffs:
        """All payoffs of a stream."""

        def work(session: Session) -> Payoffs:
            stream_row(session, stream)
            return _of(session, stream)

        return self._read(work)

    def set(self, stream: str, model: str, payoff: Payoff | None, by: By) -> bool:
        """Give a model, or the stream (`OF_STREAM`), a payoff (None: take it away); whether anything changed."""
        becomes = None if payoff is None else msgspec.to_builtins(payoff)

        def work(session: Session) -> bool:
            row, present = deciding(session, stream, check=False), _of(session, stream)
            expect(*([payoffs_version(stream, present)] if present else []))
            if model and session.get(ModelRow, model) is None:
                raise Absent(f"there is no model {model}")
            if present.get(model) == becomes:
                return False
            now, kept = self._now_ms(), session.get(PayoffRow, (stream, model))
            if kept is not None and becomes is None:
                session.delete(kept)
            if becomes is not None:
                kept = kept or PayoffRow(stream=stream, model=model)
                kept.payoff, kept.changed_ms, kept.changed_by = becomes, now, by.name
                session.add(kept)
            # Whoever settles the stream next announces it again, should we die before we do.
            row.announced = min(row.announced, row.sequence - 1)
            change = Change("payoff", present.get(model) or {}, becomes or {}, stream, model)
            self._record(session, now, by, change)
            return True

        return self._decide(work)


def payoffs_version(stream: str, payoffs: Payoffs) -> Version:
    """All payoffs of a stream: what they say."""
    return Version("payoffs", stream, msgspec.json.encode(dict(payoffs), order="sorted").decode())


def _of(session: Session, stream: str) -> Payoffs:
    rows = session.scalars(select(PayoffRow).where(PayoffRow.stream == stream).order_by(PayoffRow.model))
    return Payoffs({row.model: row.payoff for row in rows})
