"""Makes an empty database again from `headrace.changes`: the rows that every change has written, in their order.

All of it is one transaction. What is missing or was written with other tables is refused, as half a registry is worse
than none: it would give numbers a second time that are in the logs already. What the topic does not have is little, and
comes again by itself: decisions whose place in the log was not told are written once more (their ids are the same).
"""

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import LargeBinary, inspect
from sqlalchemy.orm import Session

from headrace.contracts.events import RowsWritten
from headrace.errors import Fatal, Unusable
from services.registry.changes import AT_A_TIME, MODELS, is_empty
from services.registry.database import Database
from services.registry.domain.audit import Seal
from services.registry.domain.changes import Changes, Line, newest_run, opened
from services.registry.schema import newest
from services.registry.tables import Base


class Restored(NamedTuple):
    """What was made again. changes: number of the last. strange: messages that were not signed with the key.

    unfinished: number of a change that was not told to its end, and so was never answered nor in a log; 0: none.
    """

    changes: int
    strange: int
    unfinished: int


def restore(database: Database, seal: Seal | None, told: Callable[[], Iterable[bytes]]) -> Restored:
    """Fill an empty database. told: every message of the topic, oldest first. seal: None takes them unverified.

    Raises `Fatal` if the database is not empty, `Unusable` if the topic does not hold a whole registry.
    """
    return database.write(lambda session: _restore(session, seal, told))


def _restore(session: Session, seal: Seal | None, told: Callable[[], Iterable[bytes]]) -> Restored:
    if not is_empty(session):
        raise Fatal("the database is not empty: a registry is only made again where there is none")
    run, strange = newest_run(_messages(seal, told())), 0
    changes, applied, nested = Changes(run), 0, None
    for value in told():
        message = opened(seal, value)
        if message is None:
            strange += 1
            continue
        kind, lines = changes.read(message)
        if kind == "stray":
            continue
        if message.schema != newest():
            raise Unusable(
                f"it was told by a registry whose tables are of schema {message.schema}, this one's are of {newest()}: "
                "make it again with that one, then start this one"
            )
        if kind == "begins":
            nested = session.begin_nested()
        for line in lines:
            _apply(session, line)
            applied += 1
            if applied % AT_A_TIME == 0:
                _let_go(session)
        if message.last and kind != "beside":
            assert nested is not None
            nested.commit()
            _let_go(session)
    if changes.under_way is not None and nested is not None:
        nested.rollback()
    if not changes.sequence:
        raise Unusable("headrace.changes holds nothing that was told with this audit key")
    return Restored(changes.sequence, strange, changes.under_way.sequence if changes.under_way else 0)


def _messages(seal: Seal | None, values: Iterable[bytes]) -> Iterator[RowsWritten]:
    return (message for value in values if (message := opened(seal, value)) is not None)


def _apply(session: Session, line: Line) -> None:
    model = MODELS[line.table]
    values = {name: _value(model, name, value) for name, value in line.row.items()}
    columns = model.__table__.columns.keys()
    row = session.get(model, tuple(values[column.name] for column in inspect(model).primary_key))
    if line.how == "gone":
        if row is not None:
            session.delete(row)
    elif row is not None:
        for name, value in values.items():
            setattr(row, name, value)
    elif line.how == "is" or values.keys() >= {*columns}:
        # What was never set stays unset: to JSON columns, None is a value.
        session.add(model(**{name: value for name, value in values.items() if value is not None}))


def _value(model: type[Base], name: str, value: Any) -> Any:
    """A value as its column takes it: bytes travel as base64."""
    is_bytes = isinstance(model.__table__.columns[name].type, LargeBinary)
    return b64decode(value) if is_bytes and value is not None else value


def _let_go(session: Session) -> None:
    """Write what is there and forget it: the registry may be larger than the memory."""
    session.flush()
    session.expunge_all()
    session.info.clear()
