"""The registry's memory of retrainings: what each searched, how far it is, what came of it.

One process runs a retraining: it holds it for a while and says so again and again. If it dies, another takes over what
is there, at most the steps under way are run again.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from services.registry import proposals
from services.registry.database import Database, compare_and_set
from services.registry.decisions import deciding, newest_first, numbered, stream_row
from services.registry.domain.audit import By, Change
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.retraining import Retraining, cancelled
from services.registry.proposals import Answering
from services.registry.request import Version, expect
from services.registry.tables import RetrainingRow
from services.registry.trail import Trail

MOST_UNTOLD = 100
"""Of which a lineage server is told in one round."""
HOLD_MS = 10_000
"""For how long a process holds a retraining, unless it says so again."""


class RetrainingStore:
    """Retrainings, those that are over too. Safe to use from several threads.

    Raises `Transient` as the database does.
    """

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._write = database.write
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append

    def begin(self, stream: str, retraining: Retraining, by: By, answering: Answering | None = None) -> int:
        """Keep a retraining that is to be run; its number. answering: the proposal whose wait ends with it.

        Raises `Conflict` if one of the stream is under way or the proposal may not begin, `Absent`.
        """

        def work(session: Session) -> int:
            deciding(session, stream, check=answering is None)
            now, proposal = self._now_ms(), None
            if answering is not None:
                proposal = proposals.to_begin(session, stream, answering, now)
            open_one = session.scalar(
                select(RetrainingRow.number).where(RetrainingRow.stream == stream, RetrainingRow.open)
            )
            if open_one is not None:
                raise Conflict(
                    f"retraining {open_one} of {stream} is under way: let it end, or cancel it first"
                )
            newest = select(func.max(RetrainingRow.number)).where(RetrainingRow.stream == stream)
            number = 1 + (session.scalar(newest) or 0)
            session.add(
                RetrainingRow(
                    stream=stream, number=number, writes=1, open=True, told=0, progress={},
                    event=None if proposal is None else proposal.event,
                    state=msgspec.to_builtins(retraining), holder="", held_until_ms=0, created_ms=now, changed_ms=now,
                )
            )  # fmt: skip
            what = {"retraining": number, "trials": len(retraining.race.trials), "cause": retraining.cause}
            if proposal is not None:
                proposals.has_begun(session, proposal, number, now, by)
                what["proposal"] = proposal.number
            self._record(session, now, by, Change("retrain", {}, what, stream, retraining.model))
            return number

        return self._decide(work)

    def get(self, stream: str, number: int) -> RetrainingRow:
        """A retraining, or `Absent`."""

        def work(session: Session) -> RetrainingRow:
            stream_row(session, stream)
            return numbered(session, RetrainingRow, stream, number)

        return self._read(work)

    def all(self, stream: str, limit: int, below: int | None = None) -> list[RetrainingRow]:
        """Retrainings of a stream, newest first, those below a number. Raises `Absent`."""
        return self._read(lambda session: newest_first(session, RetrainingRow, stream, limit, below))

    def take(self, holder: str) -> RetrainingRow | None:
        """Hold the oldest that is open and that nobody else holds; None if there is none."""

        def work(session: Session) -> RetrainingRow | None:
            now = self._now_ms()
            free = (RetrainingRow.held_until_ms < now) | (RetrainingRow.holder == holder)
            row = session.scalar(
                select(RetrainingRow)
                .where(RetrainingRow.open, free)
                .order_by(RetrainingRow.created_ms, RetrainingRow.stream)
                .limit(1)
            )
            if row is not None:
                self._put(session, row, holder=holder, held_until_ms=now + HOLD_MS)
            return row

        # Asked every second: who finds nothing to be done, as nearly always, shall hold up nobody who writes.
        any_open = select(RetrainingRow.number).where(RetrainingRow.open).limit(1)
        return self._write(work) if self._read(lambda session: session.scalar(any_open)) else None

    def tell(self, stream: str, number: int, holder: str, progress: Mapping[str, tuple[int, int]]) -> bool:
        """Say how far it is, and go on holding it; False if it is not this process's any more, or is over."""

        def work(session: Session) -> bool:
            row = numbered(session, RetrainingRow, stream, number)
            if row.holder != holder or not row.open:
                return False
            plain = {name: list(part) for name, part in sorted(progress.items())}
            self._put(session, row, progress=plain, held_until_ms=self._now_ms() + HOLD_MS)
            return True

        return self._write(work)

    def untold(self) -> list[RetrainingRow]:
        """Those of which a lineage server has yet to be told something, oldest first."""
        query = (
            select(RetrainingRow)
            .where((RetrainingRow.told == 0) | ((RetrainingRow.told == 1) & ~RetrainingRow.open))
            .order_by(RetrainingRow.created_ms, RetrainingRow.stream)
            .limit(MOST_UNTOLD)
        )
        return self._read(lambda session: list(session.scalars(query)))

    def was_told(self, stream: str, number: int, told: int) -> None:
        """So much of it has been told."""

        def work(session: Session) -> None:
            row = numbered(session, RetrainingRow, stream, number)
            self._put(session, row, told=max(told, row.told))

        self._write(work)

    def turn(
        self,
        stream: str,
        number: int,
        turn: Callable[[Retraining], Retraining],
        by: By,
        *,
        holder: str | None = None,
    ) -> Retraining:
        """Take its next turn, if it is open; what it then is. holder: who must still hold it (None: anybody may).

        Its end is written to the audit trail. Raises `Conflict` if it is over, or held by another; `Absent`.
        """
        return self._write(lambda session: self._turn(session, stream, number, turn, by, holder))

    def cancel(self, stream: str, number: int, by: By) -> bool:
        """Give it up. Raises `Conflict` if it is over; `Absent`."""
        turn = partial(cancelled, by=by.name)
        return self._decide(lambda session: not self._turn(session, stream, number, turn, by, None).is_open)

    def _turn(
        self,
        session: Session,
        stream: str,
        number: int,
        turn: Callable[[Retraining], Retraining],
        by: By,
        holder: str | None,
    ) -> Retraining:
        row = numbered(session, RetrainingRow, stream, number)
        expect(retraining_version(row))
        if not row.open:
            raise Conflict(f"retraining {number} of {stream} is over")
        if holder is not None and row.holder != holder:
            raise Conflict(f"retraining {number} of {stream} is run by another process by now")
        after, now = turn(retraining_of(row)), self._now_ms()
        self._put(session, row, state=msgspec.to_builtins(after), open=after.is_open, changed_ms=now)
        if not after.is_open:
            what = {"retraining": number, "status": after.status, "says": after.says}
            self._record(session, now, by, Change("retrained", {}, what, stream, after.model))
        return after

    @staticmethod
    def _put(session: Session, row: RetrainingRow, **values: Any) -> None:
        compare_and_set(
            session,
            row,
            update(RetrainingRow)
            .where(
                RetrainingRow.stream == row.stream,
                RetrainingRow.number == row.number,
                RetrainingRow.writes == row.writes,
            )
            .values(writes=row.writes + 1, **values),
        )


def retraining_version(row: RetrainingRow) -> Version:
    """A retraining, however far its trials are."""
    return Version("retraining", f"{row.stream}/{row.number}", json.dumps(row.state, sort_keys=True))


def retraining_of(row: RetrainingRow) -> Retraining:
    """The retraining that a row holds."""
    return msgspec.convert(row.state, Retraining)
