"""The registry's database, when there is nothing in it yet; how it is brought up to date: test_registry_migrations."""

from pathlib import Path

from services.registry.database import Database
from services.registry.domain.audit import By, Seal
from services.registry.store import Store
from services.registry.trail import Trail

SPECIFICATION = {"model": "dummy.NoChangeClassifier"}


def trail_of(database: Database) -> Trail:
    return Trail(database, Seal(bytes(32)), lambda: 2)


def store_of(database: Database) -> Store:
    return Store(database, lambda: 1, trail_of(database))


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
