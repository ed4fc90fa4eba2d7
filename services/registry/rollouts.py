"""The registry's memory of rollouts: each turn of one is one transaction with the decisions that it takes.

A rollout's row carries a revision; whoever turns it raises it only if nobody else has. So of two operators who promote
at once, or of an operator and the judge, one is told that it has been done.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from headrace.contracts.left_out import LeftOut
from headrace.contracts.stream import Task
from services.registry.database import Database, compare_and_set
from services.registry.decisions import (
    Absent,
    decide,
    deciding,
    line_up,
    newest_first,
    numbered,
    rollout_of,
    rollout_version,
    stream_row,
    stream_version,
    to_be_placed,
)
from services.registry.domain import audit, controls, lifecycle
from services.registry.domain.audit import By, Change
from services.registry.domain.evidence import Evidence
from services.registry.domain.lifecycle import Conflict, LineUp
from services.registry.domain.rollouts import Act, Contender, Move, Plan, Rollout
from services.registry.request import expect
from services.registry.tables import RolloutRow, StreamRow, VersionRow
from services.registry.trail import Trail

Judged = tuple[Mapping[int, int], Mapping[int, int]]
"""Positions in the outcomes, by partition: from which, and up to before which, they were weighed."""


class RolloutStore:
    """Rollouts, those that are over too. Safe to use from several threads. Raises `Transient` as the database does."""

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append

    def begin(
        self,
        stream: str,
        chosen: VersionRow,
        task: Task,
        plan: Plan,
        positions: Mapping[int, int],
        by: By,
        *,
        learnt: bool = False,
        without: LeftOut = LeftOut(),  # noqa: B008  # it is frozen
    ) -> int:
        """Put a version beside the champion, to be judged by the outcomes from `positions` on; the rollout's number.

        learnt: it begins with what the log would have taught it, but for `without`, unless it stands there already.
        Raises `Conflict`, `Absent`.
        """

        def work(session: Session) -> int:
            row = deciding(session, stream)
            before = line_up(session, stream)
            champion = lifecycle.champion(before)
            if champion is None:
                raise Conflict(f"{stream} has no champion to be compared with: deploy the model as champion")
            if champion.model == chosen.model:
                raise Conflict(
                    f"{chosen.model} is the champion itself: register the other specification under another name"
                )
            under_way = session.scalar(
                select(RolloutRow.number).where(RolloutRow.stream == stream, RolloutRow.open)
            )
            if under_way is not None:
                raise Conflict(f"rollout {under_way} of {stream} is under way: let it end, or abort it first")
            now = self._now_ms()
            placed = to_be_placed(session, before, chosen)
            after = lifecycle.deploy(before, placed.model, placed.version, placed.digest, "challenger")
            if after is not None:
                made = controls.deployed(
                    stream,
                    row.sequence + 1,
                    placed.model,
                    placed.version,
                    placed.specification,
                    "challenger",
                    learnt=learnt,
                    without=without,
                )
                decide(session, row, before, after, made, now, by.name, placed=placed.model)
            number = 1 + (
                session.scalar(select(func.max(RolloutRow.number)).where(RolloutRow.stream == stream)) or 0
            )
            rollout = Rollout(
                Contender(placed.model, placed.version),
                Contender(champion.model, champion.version),
                task,
                plan,
                proposed_by=by.name,
            )
            session.add(
                RolloutRow(
                    stream=stream,
                    number=number,
                    revision=1,
                    writes=1,
                    open=True,
                    state=msgspec.to_builtins(rollout),
                    positions=_plain(positions),
                    created_ms=now,
                    changed_ms=now,
                )
            )
            was, becomes = audit.moved(before, before if after is None else after)
            becomes["rollout"] = audit.begun(rollout)
            self._record(
                session, now, by, Change("rollout-begin", was, becomes, stream, chosen.model, number)
            )
            return number

        return self._decide(work)

    def get(self, stream: str, number: int | None = None) -> RolloutRow:
        """A rollout (None: the newest), or `Absent`."""
        query = (
            select(RolloutRow).where(RolloutRow.stream == stream).order_by(RolloutRow.number.desc()).limit(1)
        )
        if number is not None:
            query = query.where(RolloutRow.number == number)

        def work(session: Session) -> RolloutRow:
            stream_row(session, stream)
            found = session.scalar(query)
            if found is None:
                raise Absent(
                    f"stream {stream} has no rollout"
                    if number is None
                    else f"{stream} has no rollout {number}"
                )
            return found

        return self._read(work)

    def all(self, stream: str, limit: int, below: int | None = None) -> list[RolloutRow]:
        """Rollouts of a stream, newest first, those below a number. Raises `Absent`."""
        return self._read(lambda session: newest_first(session, RolloutRow, stream, limit, below))

    def about(self, model: str, version: int) -> list[RolloutRow]:
        """All in which a version took part, oldest first, of any stream."""
        query = select(RolloutRow).order_by(RolloutRow.created_ms, RolloutRow.number)
        wanted = Contender(model, version)

        def work(session: Session) -> list[RolloutRow]:
            found = []
            for row in session.scalars(query):
                rollout = rollout_of(row)
                if wanted in (rollout.challenger, rollout.champion):
                    found.append(row)
            return found

        return self._read(work)

    def under_way(self) -> list[RolloutRow]:
        """All that are open, of any stream."""
        query = select(RolloutRow).where(RolloutRow.open).order_by(RolloutRow.stream)
        return self._read(lambda session: list(session.scalars(query)))

    def turn(
        self,
        stream: str,
        number: int,
        turn: Act,
        by: By,
        *,
        action: str,
        revision: int | None = None,
        judged: Judged | None = None,
    ) -> bool:
        """Take a rollout's next turn, with what it makes of the line-up; whether the line-up moved.

        turn: given the rollout and the time, its next state and moves. action: what the turn is called. revision: that
        it must still have. judged: what was weighed for it. Raises `Conflict`, `Absent`.
        """

        def work(session: Session) -> bool:
            stands = deciding(session, stream, check=False)
            row = numbered(session, RolloutRow, stream, number)
            expect(rollout_version(row), stream_version(stands))
            stale = revision is not None and row.revision != revision
            if stale or (judged is not None and row.positions != _plain(judged[0])):
                raise Conflict(f"rollout {number} of {stream} has changed meanwhile: look at it again")
            now = self._now_ms()
            before = rollout_of(row)
            after, moves = turn(before, now)
            decided = _keep(session, row, before, after, None if judged is None else judged[1], now)
            stood = stand = line_up(session, stream) if moves else {}
            for move in moves:
                stand = _make(session, stands, stand, move, now, by.name)
            if decided:
                was, becomes = audit.turned(before, after)
                places_were, places_are = audit.moved(stood, stand)
                model = after.challenger.model
                change = Change(action, was | places_were, becomes | places_are, stream, model, number)
                self._record(session, now, by, change)
            return bool(moves)

        return self._decide(work)


def _keep(
    session: Session,
    row: RolloutRow,
    before: Rollout,
    after: Rollout,
    positions: Mapping[int, int] | None,
    now: int,
) -> bool:
    """Keep a rollout's next state; whether more has changed than what labels add."""
    decided = _decided(before) != _decided(after)  # what labels add is nothing to overlook
    values: dict[str, Any] = {
        "state": msgspec.to_builtins(after),
        "open": after.is_open,
        "writes": row.writes + 1,
        "revision": row.revision + decided,
        "changed_ms": now if decided else row.changed_ms,
    }
    if positions is not None:
        values["positions"] = _plain(positions)
    compare_and_set(
        session,
        row,
        update(RolloutRow)
        .where(
            RolloutRow.stream == row.stream, RolloutRow.number == row.number, RolloutRow.writes == row.writes
        )
        .values(**values),
    )
    return decided


def _plain(positions: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in sorted(positions.items())}


def _decided(rollout: Rollout) -> Rollout:
    return msgspec.structs.replace(rollout, evidence=Evidence(), warmed=0)


def _make(session: Session, row: StreamRow, before: LineUp, move: Move, now: int, by: str) -> LineUp:
    """The line-up after one move; the same if it is so already."""
    sequence = row.sequence + 1
    match move:
        case ("share", model, share):
            after = lifecycle.share(before, model, share)
            made = controls.shared(row.name, sequence, model, share)
        case (verb, model):
            after = lifecycle.change(before, model, verb)
            made = controls.changed(row.name, sequence, model, verb)
    if after is None:
        return before
    decide(session, row, before, after, made, now, by)
    return after
