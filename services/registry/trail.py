"""The audit trail in the database: appended to in the transaction that makes a change, read page by page.

The chain is one for the whole registry, so every change meets here, last in its transaction. On SQLite only one writes
at a time anyway. Elsewhere they wait in line for the schema's row: a lock and not a compare-and-set, because whoever
came second among many would else begin its whole decision again, and again. Should a database not lock (another
isolation, another row), the number is the table's key, and the loser's transaction is made again like any other.
"""

from collections.abc import Callable, Collection, Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from headrace.trail import Examination
from services.registry import changes
from services.registry.database import Database
from services.registry.domain.audit import (
    EMPTY,
    By,
    Change,
    Head,
    Record,
    Seal,
    made_version,
)
from services.registry.tables import (
    AuditRow,
    ContractRow,
    ControlRow,
    RolloutRow,
    SchemaRow,
    StreamRow,
    VersionRow,
)

PAGE = 500
ITSELF = By("the registry", "changes from before there was an audit trail")

FIELDS = Record.__struct_fields__


class Trail:
    """Appends to the trail and reads it. Safe to use from several threads. Raises `Transient` as the database does."""

    def __init__(self, database: Database, seal: Seal, now_ms: Callable[[], int]) -> None:
        self._read = database.read
        self._write = database.write
        self._now_ms = now_ms
        self.seal = seal

    def begin(self) -> bool:
        """Begin the chain of a registry that is older than it with a record of how much there is.

        False if there is a chain already whose last record was not written with this key.
        """

        def work(session: Session) -> bool:
            in_line(session)
            newest = _newest(session)
            if newest is not None:
                return self.seal.wrote(_record(newest))
            kinds = {"streams": StreamRow, "contracts": ContractRow, "model_versions": VersionRow,
                     "decisions": ControlRow, "rollouts": RolloutRow}  # fmt: skip
            found = {
                name: session.scalar(select(func.count()).select_from(row)) or 0
                for name, row in kinds.items()
            }
            if any(found.values()):
                self.append(session, self._now_ms(), ITSELF, Change("begin", {}, found))
            return True

        return self._write(work)

    def append(self, session: Session, now_ms: int, by: By, change: Change) -> None:
        """Record a change in the transaction that makes it, as the last thing in there."""
        session.flush()
        in_line(session)
        record = self.seal.record(_head(session), now_ms, by, change)
        session.add(AuditRow(**{name: getattr(record, name) for name in FIELDS}))
        changes.tell(session, record.sequence)

    def tell_everything(self) -> None:
        """Let every row be told again, as of the last record, in place of what was not told yet."""

        def work(session: Session) -> None:
            session.execute(select(SchemaRow.version).with_for_update())
            changes.tell_everything(session, _head(session).sequence)

        self._write(work)

    def head(self) -> Head:
        """Where the chain ends."""
        return self._read(_head)

    def page(
        self, limit: int, below: int | None = None, *, stream: str = "", model: str = "", who: str = ""
    ) -> list[Record]:
        """Records below a number that are about a stream, about a model, by somebody; newest first."""
        query = select(AuditRow).order_by(AuditRow.sequence.desc()).limit(limit)
        if below is not None:
            query = query.where(AuditRow.sequence < below)
        for column, wanted in ((AuditRow.stream, stream), (AuditRow.model, model), (AuditRow.who, who)):
            if wanted:
                query = query.where(column == wanted)
        return self._read(lambda session: [_record(row) for row in session.scalars(query)])

    def reasons(self, models: Collection[str]) -> dict[tuple[str, int], str]:
        """Why each version of the models was made, where that was said: by model and version."""
        query = select(AuditRow).where(
            AuditRow.model.in_(models), AuditRow.action.in_(("register", "rebuild")), AuditRow.why != ""
        )
        found = {}
        for row in self._read(lambda session: list(session.scalars(query))):
            version = made_version(_record(row))
            if version is not None:
                found[(row.model, version)] = row.why
        return found

    def examine(self, heads: Iterable[bytes]) -> Examination:
        """Examine the whole chain, against everything that was announced of it."""
        examination, place = Examination(map(self.seal.opened, heads)), 0
        while page := self._from(place):
            if not examination.read(page, self.seal.wrote):
                break
            place = page[-1].sequence
        examination.end()
        return examination

    def _from(self, place: int) -> list[Record]:
        query = select(AuditRow).where(AuditRow.sequence > place).order_by(AuditRow.sequence).limit(PAGE)
        return self._read(lambda session: [_record(row) for row in session.scalars(query)])


def in_line(session: Session) -> None:
    """Wait until nobody else counts anything of the whole registry: records, contracts. Rows are taken before it."""
    session.execute(select(SchemaRow.version).with_for_update())


def _newest(session: Session) -> AuditRow | None:
    return session.scalar(select(AuditRow).order_by(AuditRow.sequence.desc()).limit(1))


def _head(session: Session) -> Head:
    newest = _newest(session)
    return EMPTY if newest is None else Head(newest.sequence, newest.digest, newest.at_ms)


def _record(row: AuditRow) -> Record:
    return Record(*(getattr(row, name) for name in FIELDS))
