"""When streams are retrained by themselves, and which events have been acted on."""

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.registry.changes import tell_beside
from services.registry.database import Database, compare_and_set
from services.registry.decisions import deciding, stream_row
from services.registry.domain.audit import By, Change
from services.registry.domain.retraining import Policy
from services.registry.request import Version, expect
from services.registry.tables import ReadRow, RetrainingPolicyRow
from services.registry.trail import Trail


class PolicyStore:
    """Policies, one a stream. Safe to use from several threads. Raises `Transient` as the database does."""

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._write = database.write
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append

    def get(self, stream: str) -> Policy | None:
        """A stream's policy, if it has one. Raises `Absent`."""

        def work(session: Session) -> Policy | None:
            stream_row(session, stream)
            row = session.get(RetrainingPolicyRow, stream)
            return None if row is None else policy_of(row)

        return self._read(work)

    def set(self, stream: str, policy: Policy | None, by: By) -> bool:
        """Give a stream a policy (None: take it away); whether anything changed. Raises `Absent`."""

        def work(session: Session) -> bool:
            deciding(session, stream, check=False)
            row, now = session.get(RetrainingPolicyRow, stream), self._now_ms()
            before = None if row is None else policy_of(row)
            expect(*([] if before is None else [policy_version(stream, before)]))
            if before == policy:
                return False
            if row is not None and policy is None:
                session.delete(row)
            if policy is not None:
                row = row or RetrainingPolicyRow(stream=stream)
                row.policy = msgspec.to_builtins(policy, str_keys=True)
                row.changed_ms, row.changed_by = now, by.name
                row.due_ms = now + 1000 * policy.every_seconds if policy.every_seconds else 0
                session.add(row)
            change = Change("retraining-policy", _told(before), _told(policy), stream)
            self._record(session, now, by, change)
            return True

        return self._decide(work)

    def take_due(self) -> list[tuple[str, Policy]]:
        """Streams whose time has come, each once: the next time is set with it."""

        def work(session: Session) -> list[tuple[str, Policy]]:
            now = self._now_ms()
            due = select(RetrainingPolicyRow).where(
                RetrainingPolicyRow.due_ms > 0, RetrainingPolicyRow.due_ms <= now
            )
            taken = []
            for row in session.scalars(due).all():
                policy = policy_of(row)
                compare_and_set(
                    session,
                    row,
                    update(RetrainingPolicyRow)
                    .where(RetrainingPolicyRow.stream == row.stream, RetrainingPolicyRow.due_ms == row.due_ms)
                    .values(due_ms=now + 1000 * policy.every_seconds),
                )
                tell_beside(session, RetrainingPolicyRow, stream=row.stream, due_ms=row.due_ms)
                taken.append((row.stream, policy))
            return taken

        return self._write(work) if self._read(self._any_due) else []

    def _any_due(self, session: Session) -> bool:
        query = select(RetrainingPolicyRow.stream).where(
            RetrainingPolicyRow.due_ms > 0, RetrainingPolicyRow.due_ms <= self._now_ms()
        )
        return session.scalar(query.limit(1)) is not None

    def read_up_to(self, topic: str) -> int:
        """Up to which offset a topic has been acted on."""
        row = self._read(lambda session: session.get(ReadRow, topic))
        return 0 if row is None else row.offset

    def has_read(self, topic: str, offset: int) -> None:
        """It has been acted on up to there."""

        def work(session: Session) -> None:
            row = session.get(ReadRow, topic) or ReadRow(topic=topic, offset=0)
            row.offset = max(row.offset, offset)
            session.add(row)
            tell_beside(session, ReadRow, topic=topic, offset=row.offset)

        self._write(work)


def policy_version(stream: str, policy: Policy) -> Version:
    """A stream's policy: what it says."""
    return Version("retraining-policy", stream, msgspec.json.encode(policy, order="sorted").decode())


def policy_of(row: RetrainingPolicyRow) -> Policy:
    """The policy that a row holds."""
    return msgspec.convert(row.policy, Policy, str_keys=True)


def _told(policy: Policy | None) -> dict[str, Any]:
    """What of a policy the trail keeps: the search may be long."""
    if policy is None:
        return {}
    names = ("every_seconds", "on_events", "cool_down_seconds", "approval", "expires_seconds")
    return {name: getattr(policy, name) for name in names} | {"trials": policy.ask.search.trials}
