"""Answers by Idempotency-Key: a request that comes again is answered as the first time, and decides nothing again.

Before a request is carried out its key is claimed here; its answer is kept here after that. What it decides is noted
under the key in the transaction that decides (`Database.decide`), so that a request which comes again after a crash, or
after a 503, goes on with what it had decided and is answered as it would have been the first time. A claim is good for
a while only: whoever died with it shall not block the key. Should that be too short, two work under one key at once,
and still decide once. Answers are kept for a time, and so many of them; the oldest go first.
"""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from services.registry.database import Database
from services.registry.tables import AnswerRow

CLAIM_SECONDS = 30.0
"""How long a request may be under way before another with its key is let in."""


class Answer(NamedTuple):
    """An HTTP answer, without what the edge adds to each."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Reused(Exception):
    """The key came with another request before."""


class UnderWay(Exception):
    """The first request with the key has not been answered yet."""


class Answers:
    """The memory of answers. Safe to use from several threads and processes. Raises `Transient` as the database does.

    keep_seconds, most: for how long, and how many.
    """

    def __init__(
        self, database: Database, now_ms: Callable[[], int], *, keep_seconds: float, most: int
    ) -> None:
        self._write = database.write
        self._now_ms = now_ms
        self._keep_ms = int(keep_seconds * 1000)
        self._most = most

    def claim(self, caller: str, key: str, fingerprint: str) -> Answer | None:
        """The answer that this request got before; None: it is now yours to carry out. Raises `Reused`, `UnderWay`."""

        def work(session: Session) -> Answer | None:
            now = self._now_ms()
            self._forget(session, now)
            row = session.get(AnswerRow, (caller, key), with_for_update=True)
            if row is None:
                row = AnswerRow(
                    caller=caller, key=key, fingerprint=fingerprint, decided=[], headers=[], body=b""
                )
                row.created_ms = now
                session.add(row)
            elif row.fingerprint != fingerprint:
                raise Reused
            elif row.status is not None:
                return Answer(row.status, [(name, value) for name, value in row.headers], row.body)
            elif row.claimed_until_ms > now:
                raise UnderWay
            row.claimed_until_ms = now + int(CLAIM_SECONDS * 1000)
            return None

        return self._write(work)

    def keep(self, caller: str, key: str, answer: Answer) -> None:
        """Remember the answer to what was claimed."""
        headers = [list(one) for one in answer.headers]
        statement = (
            update(AnswerRow)
            .where(AnswerRow.caller == caller, AnswerRow.key == key)
            .values(status=answer.status, headers=headers, body=answer.body)
        )
        self._write(lambda session: session.execute(statement))

    def release(self, caller: str, key: str) -> None:
        """It could not be answered: let the next one try. What was decided stays decided."""

        def work(session: Session) -> None:
            row = session.get(AnswerRow, (caller, key), with_for_update=True)
            if row is not None and row.decided:
                row.claimed_until_ms = 0
            elif row is not None:
                session.delete(row)

        self._write(work)

    def _forget(self, session: Session, now: int) -> None:
        """Forget what is too old or too much; nothing that is under way."""
        newest = select(AnswerRow.created_ms).order_by(AnswerRow.created_ms.desc())
        crowded = session.scalar(newest.offset(self._most - 1).limit(1))
        before = now - self._keep_ms if crowded is None else max(crowded, now - self._keep_ms)
        idle = or_(AnswerRow.status.is_not(None), AnswerRow.claimed_until_ms <= now)
        session.execute(delete(AnswerRow).where(AnswerRow.created_ms <= before, idle))
