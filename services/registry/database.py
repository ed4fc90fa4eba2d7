"""The database: transactions that are made again when somebody else was faster, SQLite and PostgreSQL alike.

Writers wait in line, on both: every decision goes to the end of one audit chain, so that two at once would only take
the end away from each other. SQLite runs in WAL mode with full synchronisation (a decision that was answered survives
a power cut) and begins writing transactions as such: its default would let two of them read the same state and then
fail in the middle. In PostgreSQL a writing transaction begins by taking a lock that lasts as long as it does.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    Update,
    create_engine,
    event,
    select,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from headrace.errors import Fatal, Transient
from services.registry import schema
from services.registry.changes import Writing, check, note
from services.registry.request import Asked, Unmatched, present
from services.registry.tables import AnswerRow

Result = TypeVar("Result")
ATTEMPTS = 10
WRITING = "headrace_writing"
"""Execution option: this transaction will write."""
LINE = 0x6865616472616365
"""Key of the PostgreSQL advisory lock that writers wait for: "headrace" in ASCII."""
LINE_MS = 15_000
"""How long a writer waits for the others, in milliseconds."""


class Stale(Exception):
    """Raised inside a writing transaction whose state somebody else has changed: it is made again."""


class Database:
    """Transactions on `sqlite:///...` or `postgresql://...`. Safe to use from several threads.

    Raises `Transient` when the database is away, `Fatal` when it cannot be used at all.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._engine = _engine(url)
        self._writing = self._engine.execution_options(**{WRITING: True})

    def prepare(self) -> None:
        """Make the tables, or bring older ones up to date (`schema`). Raises `Fatal` if another registry made them."""
        try:
            self.write(lambda session: schema.upgrade(session.connection()))
        except IntegrityError:
            raise
        except DatabaseError as error:
            raise Fatal(f"the database {self._engine.url!r} cannot be used: {error.orig}") from None
        except Transient as away:  # now, unlike later, nobody but the operator reads the details
            details = getattr(away.__cause__, "orig", None)
            raise Transient(f"{away}, {self._engine.url!r}: {details}" if details else str(away)) from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def reachable(self) -> bool:
        """Whether the database answers."""
        try:
            self.read(lambda session: session.execute(select(1)))
        except Transient:
            return False
        return True

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in a transaction that reads."""
        return _attempt(self._engine, work)

    def decide(self, work: Callable[[Session], Result]) -> Result:
        """Run `work`, which decides something for a request, in a transaction that writes; its result is plain JSON.

        A request that comes again with its Idempotency-Key is given what `work` said the first time. Raises
        `Unmatched` if the request is conditional and what is decided here looks at no condition.
        """
        request = present()
        if request is None:
            return self.write(work)
        decided = self.write(partial(_once, request, work))
        request.decided += 1
        return decided

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in a transaction that writes; again, from the start, if somebody else was faster."""
        for _ in range(ATTEMPTS):
            try:
                return _attempt(self._writing, work, Writing)
            except (Stale, IntegrityError):
                continue
        raise Transient("too many changes at once: the decision was not made")


def compare_and_set(session: Session, row: object, statement: Update) -> None:
    """Carry out an update of a row whose condition is the state that was read; the row is then as it was left.

    Raises `Stale` if it is another by now.
    """
    done = session.execute(statement.execution_options(synchronize_session=False))
    if cast(CursorResult[Any], done).rowcount != 1:
        raise Stale
    session.refresh(row)
    note(session, row)


def _once(request: Asked, work: Callable[[Session], Result], session: Session) -> Result:
    """Decide, unless it was decided under the request's key before; note it there."""
    row = session.get(AnswerRow, request.claim, with_for_update=True) if request.claim else None
    if row is not None and len(row.decided) > request.decided:
        before = row.decided[request.decided]
        return cast(Result, tuple(before) if isinstance(before, list) else before)
    request.checked = False
    result = work(session)
    if request.conditional and not request.checked:
        raise Unmatched("this cannot be made to depend on If-Match or If-None-Match")
    if row is not None:
        row.decided = [*row.decided, result]
    return result


def _attempt(engine: Engine, work: Callable[[Session], Result], kind: type[Session] = Session) -> Result:
    try:
        with kind(engine, expire_on_commit=False) as session, session.begin():
            result = work(session)
            check(session)
            return result
    except (OperationalError, InterfaceError) as error:
        raise Transient(f"the registry's database does not answer: {type(error.orig).__name__}") from error
    except PoolTimeout:
        raise Transient("the registry's database is busy") from None


def _engine(url: str) -> Engine:
    """An engine for `sqlite:///...` or `postgresql+psycopg://...`."""
    if url.startswith("postgresql:"):
        url = url.replace("postgresql:", "postgresql+psycopg:", 1)
    if not url.startswith("sqlite"):
        try:
            return (
                _postgresql(url) if url.startswith("postgresql") else create_engine(url, pool_pre_ping=True)
            )
        except ModuleNotFoundError as error:
            raise Fatal(f"the database needs {error.name}: install headrace[postgres]") from None
        except ArgumentError:
            raise Fatal("HEADRACE_DATABASE_URL is no SQLAlchemy URL") from None
    return _sqlite(url)


def _postgresql(url: str) -> Engine:
    patience = {"connect_timeout": 5}
    engine = create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=5, connect_args=patience)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(WRITING):
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LINE_MS}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LINE})")

    return engine


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": LINE_MS / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={LINE_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
