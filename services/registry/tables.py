"""The registry's tables, and an engine that treats SQLite and PostgreSQL alike.

SQLite runs in WAL mode with full synchronisation (a decision that was answered survives a power cut), waits for locks
instead of failing, and begins writing transactions as such: its default would let two of them read the same state and
then fail in the middle. `controls` is the journal of each stream: what was decided, in order, and whether it has
reached the log.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Engine,
    ForeignKey,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace.errors import Fatal

SCHEMA_VERSION = 1
WRITING = "headrace_writing"
"""Execution option: this transaction will write."""


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {int: BigInteger, dict[str, Any]: JSON, dict[str, int]: JSON(none_as_null=True)}  # noqa: RUF012  # SQLAlchemy's


class SchemaRow(Base):
    """One row: which tables these are."""

    __tablename__ = "registry_schema"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class StreamRow(Base):
    """A stream. sequence: how many decisions were made about it; announced: up to which they were announced."""

    __tablename__ = "streams"
    name: Mapped[str] = mapped_column(primary_key=True)
    partitions: Mapped[int]
    sequence: Mapped[int]
    announced: Mapped[int]
    created_ms: Mapped[int]


class ContractRow(Base):
    """A version of a stream's contract, in its plain form."""

    __tablename__ = "contracts"
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    document: Mapped[dict[str, Any]]
    created_ms: Mapped[int]
    created_by: Mapped[str]


class ModelRow(Base):
    """A model: a name under which specifications are versioned."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(primary_key=True)
    created_ms: Mapped[int]


class VersionRow(Base):
    """A version of a model's specification."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model", "digest"),)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    specification: Mapped[dict[str, Any]]
    description: Mapped[str]
    created_ms: Mapped[int]
    created_by: Mapped[str]


class DeploymentRow(Base):
    """Where a model stands on a stream now. sequence: of the decision that put this version there."""

    __tablename__ = "deployments"
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int]
    digest: Mapped[str]
    role: Mapped[str]
    frozen: Mapped[bool]
    sequence: Mapped[int]
    changed_ms: Mapped[int]


class ControlRow(Base):
    """A decision about a stream. offsets: where its record lies in each partition of the log; None: pending."""

    __tablename__ = "controls"
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(unique=True)
    record: Mapped[bytes]
    offsets: Mapped[dict[str, int] | None]
    made_ms: Mapped[int]
    made_by: Mapped[str]


def make_engine(url: str) -> Engine:
    """An engine for `sqlite:///...` or `postgresql+psycopg://...`."""
    if url.startswith("postgresql:"):
        url = url.replace("postgresql:", "postgresql+psycopg:", 1)
    if not url.startswith("sqlite"):
        try:
            return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=5)
        except ModuleNotFoundError as error:
            raise Fatal(f"the database needs {error.name}: install headrace[postgres]") from None
        except ArgumentError:
            raise Fatal("HEADRACE_DATABASE_URL is no SQLAlchemy URL") from None
    engine = create_engine(url, connect_args={"timeout": 15.0, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=15000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
