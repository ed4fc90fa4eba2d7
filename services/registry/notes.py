"""What people note of models and their versions: tags, and a version's description. None of it changes an answer.

Every note takes the model's row first, as whoever decides about a stream takes the stream's: what the audit trail
says was there before is what the change found.
"""

from collections.abc import Callable, Collection, Iterable
from hashlib import sha256

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from headrace.errors import Unusable
from services.registry.database import Database
from services.registry.decisions import Absent
from services.registry.domain.audit import By, Change
from services.registry.tables import ModelRow, TagRow, VersionRow
from services.registry.trail import Trail

LONGEST_KEY = 250
LONGEST_VALUE = 5_000
LONGEST_DESCRIPTION = 2_000
MOST_TAGS = 100
"""Tags of one model, and of one version."""
RESERVED = ("headrace.", "mlflow.prompt.")
"""Keys that begin so say what the registry itself knows, or mean what no model of ours is."""

Noted = tuple[str, int]
"""What a note is about: a model and its version; version 0: the model itself."""


class Notes:
    """Writes and reads notes. Safe to use from several threads. Raises `Absent`, `Unusable`, and `Transient`."""

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append

    def tag(self, noted: Noted, key: str, value: str, by: By) -> bool:
        """Set a tag; False if it is so already."""
        check_tag(key, value)

        def work(session: Session) -> bool:
            _held(session, noted)
            row = session.get(TagRow, (*noted, key))
            if row is not None and row.value == value:
                return False
            before = {} if row is None else {"key": key, "value": row.value}
            if row is None:
                here = (TagRow.model == noted[0], TagRow.version == noted[1])
                if (session.scalar(select(func.count()).select_from(TagRow).where(*here)) or 0) >= MOST_TAGS:
                    raise Unusable(f"at most {MOST_TAGS} tags: delete one first", where="key")
                session.add(TagRow(model=noted[0], version=noted[1], key=key, value=value))
            else:
                row.value = value
            self._note(session, "tag", noted, before, {"key": key, "value": value}, by)
            return True

        return self._decide(work)

    def untag(self, noted: Noted, key: str, by: By) -> bool:
        """Delete a tag; False if there is none."""

        def work(session: Session) -> bool:
            _held(session, noted)
            row = session.get(TagRow, (*noted, key))
            if row is None:
                return False
            session.delete(row)
            self._note(session, "untag", noted, {"key": key, "value": row.value}, {}, by)
            return True

        return self._decide(work)

    def describe(self, model: str, version: int, description: str, by: By) -> bool:
        """Give a version another description; False if it has this one.

        The trail keeps digests only: the description of a rebuild may name a person.
        """
        if len(description) > LONGEST_DESCRIPTION or "\x00" in description:
            raise Unusable(
                f"a description has at most {LONGEST_DESCRIPTION} characters, none of them NUL",
                where="description",
            )

        def work(session: Session) -> bool:
            row = _held(session, (model, version))
            if row is None or row.description == description:
                return False
            before, after = ({"sha256": _digest(text)} for text in (row.description, description))
            row.description = description
            self._note(session, "describe", (model, version), before, after, by)
            return True

        return self._decide(work)

    def tags(self, noted: Collection[Noted]) -> dict[Noted, dict[str, str]]:
        """The tags of each that has any, by key."""
        query = (
            select(TagRow)
            .where(tuple_(TagRow.model, TagRow.version).in_(noted))
            .order_by(TagRow.model, TagRow.version, TagRow.key)
        )
        found: dict[Noted, dict[str, str]] = {}
        for row in self._read(lambda session: list(session.scalars(query))):
            found.setdefault((row.model, row.version), {})[row.key] = row.value
        return found

    def created(self, models: Iterable[str]) -> dict[str, int]:
        """When each model was first registered, in ms since 1970."""
        query = select(ModelRow).where(ModelRow.name.in_(list(models)))
        return {row.name: row.created_ms for row in self._read(lambda session: list(session.scalars(query)))}

    def _note(
        self,
        session: Session,
        action: str,
        noted: Noted,
        before: dict[str, str],
        after: dict[str, str],
        by: By,
    ) -> None:
        model, version = noted
        which = {"version": version} if version else {}
        change = Change(action, {**which, **before}, {**which, **after}, model=model)
        self._record(session, self._now_ms(), by, change)


def check_tag(key: str, value: str) -> None:
    """Raise `Unusable` if there can be no such tag."""
    if not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise Unusable(f"a tag's key has 1 to {LONGEST_KEY} characters, all printable", where="key")
    if key.startswith(RESERVED):
        raise Unusable(f"keys that begin with {' or '.join(RESERVED)} are not yours to set", where="key")
    if len(value) > LONGEST_VALUE or "\x00" in value:
        raise Unusable(
            f"a tag's value has at most {LONGEST_VALUE} characters, none of them NUL", where="value"
        )


def _held(session: Session, noted: Noted) -> VersionRow | None:
    """Take the model's row, and find the version (None for 0). Raises `Absent`."""
    model, version = noted
    taken = select(ModelRow).where(ModelRow.name == model).with_for_update(key_share=True)
    if session.scalar(taken) is None:
        raise Absent(f"there is no model {model}")
    row = session.get(VersionRow, noted) if version else None
    if version and row is None:
        raise Absent(f"no version {version} of {model}")
    return row


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
