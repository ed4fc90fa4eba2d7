"""The registry's tables: made at the first start, brought up to date later, refused if they are another's."""

from pathlib import Path

import pytest
from sqlalchemy import text

from headrace.errors import Fatal
from services.registry.database import Database
from services.registry.domain.audit import By, Seal
from services.registry.store import Store
from services.registry.trail import Trail

SPECIFICATION = {"model": "dummy.NoChangeClassifier"}


def trail_of(database: Database) -> Trail:
    return Trail(database, Seal(bytes(32)), lambda: 2)


def store_of(database: Database) -> Store:
    return Store(database, lambda: 1, trail_of(database))


def test_tables_of_schema_1_are_brought_up_to_date_with_what_they_hold(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.prepare()
    store_of(database).submit("model", "digest", SPECIFICATION, "", By("somebody"))

    def as_it_was(session) -> None:
        for column in ("parent", "without"):
            session.execute(text(f"ALTER TABLE model_versions DROP COLUMN {column}"))
        session.execute(text("ALTER TABLE deployments DROP COLUMN share"))
        session.execute(text("DROP TABLE audit"))
        session.execute(text("UPDATE registry_schema SET version = 1"))

    database.write(as_it_was)
    database.close()
    for _ in range(2):  # once is enough, twice does no harm
        database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
        database.prepare()
        [version] = store_of(database).versions("model")
        assert (version.specification, version.parent, version.without) == (SPECIFICATION, None, None)
        trail_of(database).begin()
        [found] = trail_of(database).page(10)  # its audit trail begins with what there is already
        assert (found.sequence, found.action, found.who) == (1, "begin", "the registry")
        assert '"model_versions":1' in found.after
        database.close()


def test_the_trail_of_a_new_registry_begins_with_its_first_change(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.prepare()
    trail_of(database).begin()
    assert trail_of(database).page(10) == []
    store_of(database).submit("model", "digest", SPECIFICATION, "", By("somebody"))
    assert trail_of(database).begin()
    assert not Trail(database, Seal(b"o" * 32), lambda: 2).begin()
    assert [record.action for record in trail_of(database).page(10)] == ["register"]
    database.close()


def test_tables_of_a_later_registry_are_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.prepare()
    database.write(lambda session: session.execute(text("UPDATE registry_schema SET version = 99")))
    with pytest.raises(Fatal, match="schema"):
        database.prepare()
    database.close()
