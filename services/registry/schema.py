"""Which tables a database has, and how they are brought up to date: Alembic, in one transaction, one process at a time.

All migrations that are missing are one transaction, on SQLite too (whose schema changes Alembic by itself would not
undo): a registry that dies in the middle leaves the database as it was. Whoever comes second waits for the first, and
finds nothing left to do. A database from before Alembic says which schema it has, and is taken over there.
"""

import threading
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from headrace.errors import Fatal

BEFORE_ALEMBIC = ("0001", "0002", "0003", "0004")
"""Revisions that are what schema 1, 2, ... was."""

_alone = threading.Lock()  # Alembic's context is one for the whole process


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date, in the writing transaction at hand. Raises `Fatal` if another registry made them."""
    config = _config()
    config.attributes["connection"] = connection
    with _alone:
        found, known = revision(connection), revisions(config)
        if found is None and inspect(connection).has_table("registry_schema"):
            found = _before_alembic(connection)
            command.stamp(config, found)
        if found is not None and found not in known:
            raise Fatal(
                f"the database has schema {found}, this registry only knows those up to {known[-1]}: "
                "start the one that made it, or go back to a backup"
            )
        if found != known[-1]:
            command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """Which revision a database has; None if Alembic never saw it."""
    return MigrationContext.configure(connection).get_current_revision()


@cache
def newest() -> str:
    """The revision that the tables of this registry are."""
    return revisions(_config())[-1]


def revisions(config: Config) -> list[str]:
    """All there are, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _before_alembic(connection: Connection) -> str:
    found = list(connection.scalars(text("SELECT version FROM registry_schema")))
    if len(found) != 1 or not 1 <= found[0] <= len(BEFORE_ALEMBIC):
        raise Fatal(f"the database has schema {found}, which no registry before this one had")
    return BEFORE_ALEMBIC[found[0] - 1]
