"""What is told of every change: the rows that it wrote, kept in its own transaction until a topic has them.

Whatever a transaction adds, alters or deletes through its session is noted (`Writing`, and `compare_and_set` for what
goes around it); when the change is recorded in the audit trail, the rows as they are then become messages in the table
`outgoing`, numbered like the record. So a message is there if and only if the change is, and their order is the
trail's, though many decide at once. `Registry.settle` takes them from there to `headrace.changes`, before a decision
goes to the log: a registry that is made again from the topic knows everything that is in a log.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, event, func, inspect, select
from sqlalchemy.orm import Session

from headrace.contracts.events import RowsWritten
from services.registry.domain.changes import Line, beside, cut
from services.registry.schema import newest
from services.registry.tables import Base, OutgoingRow

MODELS: dict[str, type[Base]] = {
    mapper.class_.__tablename__: mapper.class_ for mapper in Base.registry.mappers
}
KEPT = [MODELS[table.name] for table in Base.metadata.sorted_tables if MODELS[table.name].mirrored]
"""What is told of, parents before their children."""
AT_A_TIME = 500
FIELDS = [name for name in RowsWritten.__struct_fields__ if name != "signature"]
"""Of a message, as long as it waits: it is signed when it goes."""

_PLACE = {model: number for number, model in enumerate(KEPT)}
_NOTED, _DELETED, _TOLD = "headrace_noted", "headrace_deleted", "headrace_told"


class Writing(Session):
    """A session that notes what it writes."""


@event.listens_for(Writing, "before_flush")
def _flushing(session: Session, *_: Any) -> None:
    for row in session.new:
        note(session, row)
    for row in session.dirty:
        note(session, row)
    for row in session.deleted:
        session.info.setdefault(_DELETED, []).append(_line(row, "gone"))


def note(session: Session, row: Any) -> None:
    """The row is written in this transaction."""
    if type(row) in _PLACE:
        session.info.setdefault(_NOTED, {})[id(row)] = row


def tell(session: Session, sequence: int) -> None:
    """Tell what the change with this number has written, as the last thing in its transaction."""
    session.flush()
    gone: list[Line] = session.info.pop(_DELETED, [])
    noted = sorted(session.info.pop(_NOTED, {}).values(), key=lambda row: _PLACE[type(row)])
    there = [row for row in noted if row in session]
    _put(session, cut([*gone, *(_line(row, "is") for row in there)], sequence, newest()))
    session.info[_TOLD] = True


def check(session: Session) -> None:
    """Nothing was written after it was told: it would be missing from the topic."""
    session.flush()
    late = session.info.get(_NOTED) or session.info.get(_DELETED)
    assert not (session.info.get(_TOLD) and late), f"written after the audit trail's record: {late}"


def tell_beside(session: Session, model: type[Base], **values: Any) -> None:
    """Tell what has come of a change later: some values of a row, its key among them."""
    _put(session, [beside(Line(model.__tablename__, values, "has"), newest())])


def tell_everything(session: Session, sequence: int) -> None:
    """Tell every row there is, the change with this number being the last, in place of what was not told yet.

    The caller lets nobody else change anything meanwhile.
    """
    told = select(OutgoingRow.number).where(OutgoingRow.everything != "")
    if session.scalar(told.limit(1)) is not None:
        return  # it is on its way
    session.execute(delete(OutgoingRow))
    _put(session, cut(_all(session), sequence, newest(), everything=uuid4().hex))


def waiting(session: Session) -> list[tuple[int, RowsWritten]]:
    """The oldest messages that no topic has yet, with their places in the line."""
    query = select(OutgoingRow).order_by(OutgoingRow.number).limit(AT_A_TIME)
    rows = session.scalars(query)
    return [(row.number, RowsWritten(**{name: getattr(row, name) for name in FIELDS})) for row in rows]


def arrived(session: Session, numbers: Iterable[int]) -> None:
    """The topic has these messages."""
    session.execute(delete(OutgoingRow).where(OutgoingRow.number.in_(list(numbers))))


def is_empty(session: Session) -> bool:
    """Whether there is nothing in the database that is told of."""
    return not any(session.scalar(select(func.count()).select_from(model)) for model in KEPT)


def _put(session: Session, messages: Iterable[RowsWritten]) -> None:
    for told in messages:
        row = OutgoingRow(**{name: getattr(told, name) for name in FIELDS})
        session.add(row)
        session.flush()
        session.expunge(row)


def _all(session: Session) -> Iterator[Line]:
    for model in KEPT:
        key = inspect(model).primary_key
        rows = session.scalars(select(model).order_by(*key).execution_options(yield_per=AT_A_TIME))
        for row in rows:
            yield _line(row, "is")
            session.expunge(row)


def _line(row: Any, how: Any) -> Line:
    names = row.__table__.primary_key.columns.keys() if how == "gone" else row.__table__.columns.keys()
    return Line(row.__tablename__, {name: getattr(row, name) for name in names}, how)
