"""The registry's migrations, on both databases: they lead to what `tables.py` says, whatever they begin with."""

import json
import multiprocessing
import re
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from headrace.errors import Fatal, Transient
from services.registry import migrations, schema
from services.registry.database import Database
from services.registry.domain.audit import By, Seal
from services.registry.journal import Journal
from services.registry.rollouts import RolloutStore
from services.registry.store import Store
from services.registry.tables import Base
from services.registry.trail import Trail

VERSIONS = Path(migrations.__file__).parent / "versions"

SCHEMA_4 = """
CREATE TABLE registry_schema (version BIGINT NOT NULL, PRIMARY KEY (version));
CREATE TABLE streams (name VARCHAR NOT NULL, partitions BIGINT NOT NULL, sequence BIGINT NOT NULL,
 announced BIGINT NOT NULL, created_ms BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE models (name VARCHAR NOT NULL, created_ms BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE audit (sequence BIGINT NOT NULL, at_ms BIGINT NOT NULL, who VARCHAR NOT NULL, action VARCHAR NOT NULL,
 stream VARCHAR NOT NULL, model VARCHAR NOT NULL, rollout BIGINT NOT NULL, "before" VARCHAR NOT NULL,
 "after" VARCHAR NOT NULL, why VARCHAR NOT NULL, previous VARCHAR NOT NULL, digest VARCHAR NOT NULL,
 PRIMARY KEY (sequence));
CREATE INDEX ix_audit_stream ON audit (stream);
CREATE TABLE contracts (stream VARCHAR NOT NULL, version BIGINT NOT NULL, digest VARCHAR NOT NULL,
 document JSON NOT NULL, created_ms BIGINT NOT NULL, created_by VARCHAR NOT NULL, PRIMARY KEY (stream, version),
 FOREIGN KEY(stream) REFERENCES streams (name));
CREATE TABLE model_versions (model VARCHAR NOT NULL, version BIGINT NOT NULL, digest VARCHAR NOT NULL,
 specification JSON NOT NULL, description VARCHAR NOT NULL, parent BIGINT, without JSON, created_ms BIGINT NOT NULL,
 created_by VARCHAR NOT NULL, PRIMARY KEY (model, version), UNIQUE (model, digest),
 FOREIGN KEY(model) REFERENCES models (name));
CREATE TABLE deployments (stream VARCHAR NOT NULL, model VARCHAR NOT NULL, version BIGINT NOT NULL,
 digest VARCHAR NOT NULL, role VARCHAR NOT NULL, frozen BOOLEAN NOT NULL, share {double} DEFAULT '0' NOT NULL,
 sequence BIGINT NOT NULL, changed_ms BIGINT NOT NULL, PRIMARY KEY (stream, model),
 FOREIGN KEY(stream) REFERENCES streams (name), FOREIGN KEY(model) REFERENCES models (name));
CREATE TABLE rollouts (stream VARCHAR NOT NULL, number BIGINT NOT NULL, revision BIGINT NOT NULL,
 writes BIGINT NOT NULL, open BOOLEAN NOT NULL, state JSON NOT NULL, positions JSON NOT NULL,
 created_ms BIGINT NOT NULL, changed_ms BIGINT NOT NULL, PRIMARY KEY (stream, number),
 FOREIGN KEY(stream) REFERENCES streams (name));
CREATE TABLE controls (stream VARCHAR NOT NULL, sequence BIGINT NOT NULL, id VARCHAR NOT NULL,
 record {bytes} NOT NULL, offsets JSON, made_ms BIGINT NOT NULL, made_by VARCHAR NOT NULL,
 PRIMARY KEY (stream, sequence), FOREIGN KEY(stream) REFERENCES streams (name), UNIQUE (id));
"""
"""What made the tables of the last registry before Alembic."""
HELD = {
    "registry_schema": {"version": 4},
    "streams": {"name": "s", "partitions": 2, "sequence": 2, "announced": 2, "created_ms": 1},
    "models": {"name": "m", "created_ms": 2},
    "contracts": {"stream": "s", "version": 1, "digest": "c1", "document": {"a": [1, None]}, "created_ms": 1,
                  "created_by": "ada"},
    "model_versions": {"model": "m", "version": 1, "digest": "d1", "specification": {"model": "x"},
                       "description": "ü", "parent": None, "without": None, "created_ms": 2, "created_by": "ada"},
    "deployments": {"stream": "s", "model": "m", "version": 1, "digest": "d1", "role": "champion", "frozen": True,
                    "share": 0.25, "sequence": 2, "changed_ms": 3},
    "rollouts": {"stream": "s", "number": 1, "revision": 3, "writes": 5, "open": False, "state": {"x": 0.1},
                 "positions": {"0": 7}, "created_ms": 4, "changed_ms": 5},
    "controls": {"stream": "s", "sequence": 1, "id": "contract/s/1", "record": b"\x00{}", "offsets": {"0": 0, "1": 3},
                 "made_ms": 1, "made_by": "ada"},
    "audit": {"sequence": 1, "at_ms": 1, "who": "ada", "action": "adopt", "stream": "s", "model": "", "rollout": 0,
              "before": "{}", "after": "{}", "why": "why", "previous": "0", "digest": "1"},
}  # fmt: skip
"""A row of each, children after their parents."""


def before_alembic(database, number=4):
    """A database as a registry from before Alembic has left it, with something in every table."""
    opened = Database(database)
    on_postgres = database.startswith("postgresql")
    types = (
        {"double": "DOUBLE PRECISION", "bytes": "BYTEA"}
        if on_postgres
        else {"double": "DOUBLE", "bytes": "BLOB"}
    )

    def work(session):
        for statement in SCHEMA_4.format(**types).split(";\n"):
            if statement.strip():
                session.execute(text(statement))
        for table, row in HELD.items():
            names = ", ".join(f'"{name}"' for name in row)
            values = ", ".join(f":{name}" for name in row)
            held = {
                name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()
            }
            session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), held)
        if number < 4:
            session.execute(text("DROP TABLE audit"))
        if number < 3:
            session.execute(text("ALTER TABLE deployments DROP COLUMN share"))
            session.execute(text("DROP TABLE rollouts"))
        if number < 2:
            session.execute(text("ALTER TABLE model_versions DROP COLUMN parent"))
            session.execute(text("ALTER TABLE model_versions DROP COLUMN without"))
        session.execute(text(f"UPDATE registry_schema SET version = {number}"))

    opened.write(work)
    opened.close()


def held(opened, table):
    """The rows of a table."""
    rows = opened.read(lambda session: session.execute(Base.metadata.tables[table].select()).mappings().all())
    return [dict(row) for row in rows]


def differences(opened):
    """What a migration would have to do to make the tables what `tables.py` says, as code; empty: nothing."""

    def work(session):
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(session.connection(), opts=options)
        wanted = produce_migrations(context, Base.metadata).upgrade_ops
        return "" if wanted.is_empty() else render_python_code(wanted)

    return opened.read(work)


def told(code, known):
    following = f"{len(known) + 1:04d}"
    return (
        "tables.py and the migrations differ. Write "
        f"services/registry/migrations/versions/{following}_WHAT_IT_DOES.py with\n\n"
        '"""What it does."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        f'revision = "{following}"\ndown_revision = "{known[-1]}"\n\n\ndef upgrade() -> None:\n{code}\n\n'
        "(if that file is there already, mend it: what stands here is still missing)"
    )


@pytest.fixture
def known():
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    return schema.revisions(config)


def test_the_tables_are_what_the_migrations_make(database, known):
    """Fails with the file that is to be written."""
    opened = Database(database)
    opened.prepare()
    if database.startswith("sqlite"):
        assert opened.read(lambda session: session.scalar(text("PRAGMA journal_mode"))) == "wal"
    code = differences(opened)
    assert not code, told(code, known)
    opened.close()


def test_a_difference_is_told_as_the_code_that_mends_it(database, known):
    opened = Database(database)
    opened.prepare()
    opened.write(lambda session: session.execute(text("ALTER TABLE streams DROP COLUMN announced")))
    opened.write(lambda session: session.execute(text("DROP TABLE rollouts")))
    message = told(differences(opened), known)
    assert f"versions/{len(known) + 1:04d}_" in message
    assert "op.add_column('streams', sa.Column('announced'" in message
    assert "op.create_table('rollouts'" in message
    opened.close()


def test_the_history_is_one_line_and_counts(known):
    assert known == [f"{number:04d}" for number in range(1, len(known) + 1)]
    files = sorted(path.name for path in VERSIONS.glob("*.py"))
    assert [name[:5] for name in files] == [f"{number}_" for number in known]
    for number, name in zip(known, files, strict=True):
        written = (VERSIONS / name).read_text("utf-8")
        assert re.findall(r'^revision = "(\d{4})"$', written, re.M) == [number], name
        before = "None" if number == "0001" else f'"{int(number) - 1:04d}"'
        assert f"\ndown_revision = {before}\n" in written, f"{name} must follow {before}"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_database_from_before_alembic_is_taken_over_without_loss(database, number, known):
    before_alembic(database, number)
    opened = Database(database)
    for _ in range(2):  # once is enough, twice does no harm
        opened.prepare()
        assert opened.read(lambda session: schema.revision(session.connection())) == known[-1]
        assert not differences(opened)
        for table, row in HELD.items():
            if table == "registry_schema":
                [fence] = held(opened, table)
                assert fence["version"] > 100  # an older registry, started by mistake, must refuse it
                continue
            came_later = {"audit": 4, "rollouts": 3}.get(table, 1)
            wanted = row if table != "deployments" or number > 2 else row | {"share": 0.0}
            wanted = wanted | ({"number": 1} if table == "contracts" else {})
            assert held(opened, table) == ([wanted] if number >= came_later else [])
    trail = Trail(opened, Seal(bytes(32)), lambda: 9)
    trail.begin()
    if number < 4:  # its audit trail begins with what there is already
        [found] = trail.page(10)
        assert (found.sequence, found.action, found.who) == (1, "begin", "the registry")
        assert '"model_versions":1' in found.after
    Store(opened, lambda: 9, trail).submit("m", "d2", {"model": "y"}, "", By("bob"))
    assert [row.version for row in Store(opened, lambda: 9, trail).versions("m")] == [1, 2]
    assert Journal(opened).offsets("s", 1) == {"0": 0, "1": 3}
    assert len(RolloutStore(opened, lambda: 9, trail).all("s", 10)) == (number >= 3)
    opened.close()


def test_a_migration_that_fails_leaves_everything_as_it_was(database):
    """All that are missing are one transaction: a table that is in the way of the fourth undoes the second."""
    before_alembic(database, 1)
    opened = Database(database)
    opened.write(lambda session: session.execute(text("CREATE TABLE audit (x BIGINT)")))
    with pytest.raises((Fatal, Transient), match="audit"):
        opened.prepare()

    def columns(session):
        found = inspect(session.connection())
        return found.has_table("alembic_version"), [
            one["name"] for one in found.get_columns("model_versions")
        ]

    stamped, names = opened.read(columns)
    assert not stamped
    assert "parent" not in names
    opened.write(lambda session: session.execute(text("DROP TABLE audit")))
    opened.prepare()
    assert not differences(opened)
    opened.close()


@pytest.mark.parametrize("later", ["9999", "00ff"])
def test_a_database_of_a_later_registry_is_refused_and_left_alone(database, later, known):
    opened = Database(database)
    opened.prepare()
    opened.write(lambda session: session.execute(text(f"UPDATE alembic_version SET version_num = '{later}'")))
    with pytest.raises(Fatal, match=f"has schema {later}, this registry only knows those up to {known[-1]}"):
        opened.prepare()
    assert opened.read(lambda session: schema.revision(session.connection())) == later
    opened.close()


@pytest.mark.parametrize("number", [0, 5, 1000])
def test_a_schema_that_nobody_had_is_refused(database, number):
    before_alembic(database)
    opened = Database(database)
    opened.write(lambda session: session.execute(text(f"UPDATE registry_schema SET version = {number}")))
    with pytest.raises(Fatal, match="which no registry before this one had"):
        opened.prepare()
    opened.close()


def _prepare(database):
    opened = Database(database)
    opened.prepare()
    found = opened.read(lambda session: schema.revision(session.connection())), differences(opened)
    opened.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("begins", ["empty", "before Alembic"])
def test_processes_that_start_at_once_are_safe(database, begins, known):
    if begins == "before Alembic":
        before_alembic(database)
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(abs, range(3)))  # all are up before the first begins
        assert list(pool.map(_prepare, [database] * 3)) == [(known[-1], "")] * 3
    opened = Database(database)
    assert len(held(opened, "registry_schema")) == 1
    assert held(opened, "streams") == ([HELD["streams"]] if begins == "before Alembic" else [])
    opened.close()


def test_whoever_comes_second_waits_for_the_first(database):
    _prepare(database)  # else what the first has made would hold the second up, lock or not
    first, second = Database(database), Database(database)
    looked, may_end = threading.Event(), threading.Event()

    def work(session):
        schema.upgrade(session.connection())
        looked.set()
        assert may_end.wait(20)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.write, work)
        assert looked.wait(20)
        other = pool.submit(second.prepare)
        try:
            with pytest.raises(TimeoutError):
                other.result(1.0)
        finally:
            may_end.set()
        one.result(20)
        other.result(20)
    first.close()
    second.close()
