"""The registry's tables: made at the first start, brought up to date later, refused if they are another's."""

from pathlib import Path

import pytest
from sqlalchemy import text

from headrace.errors import Fatal
from services.registry.database import Database
from services.registry.store import Store

SPECIFICATION = {"model": "dummy.NoChangeClassifier"}


def test_tables_of_schema_1_are_brought_up_to_date_with_what_they_hold(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.prepare()
    Store(database, lambda: 1).submit("model", "digest", SPECIFICATION, "", "somebody")

    def as_it_was(session) -> None:
        for column in ("parent", "without"):
            session.execute(text(f"ALTER TABLE model_versions DROP COLUMN {column}"))
        session.execute(text("ALTER TABLE deployments DROP COLUMN share"))
        session.execute(text("UPDATE registry_schema SET version = 1"))

    database.write(as_it_was)
    database.close()
    for _ in range(2):  # once is enough, twice does no harm
        database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
        database.prepare()
        [version] = Store(database, lambda: 2).versions("model")
        assert (version.specification, version.parent, version.without) == (SPECIFICATION, None, None)
        database.close()


def test_tables_of_a_later_registry_are_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.prepare()
    database.write(lambda session: session.execute(text("UPDATE registry_schema SET version = 99")))
    with pytest.raises(Fatal, match="schema"):
        database.prepare()
    database.close()
