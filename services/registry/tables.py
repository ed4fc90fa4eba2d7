"""The registry's tables. Each change of them comes with a migration (`migrations`).

`controls` is the journal of each stream: what was decided, in order, and where in the log it lies. `audit` is the
registry's own: who changed what and why, chained (`domain.audit`); rows are added to it and nothing else.
"""

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables. mirrored: what is written into it is told on `headrace.changes` (`changes`)."""

    mirrored: ClassVar[bool] = True
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's
        int: BigInteger,
        list[int]: JSON,
        list[Any]: JSON,
        dict[str, Any]: JSON,
        dict[str, int]: JSON(none_as_null=True),
    }


class SchemaRow(Base):
    """One row: a number that registries from before Alembic refuse. Whoever adds to the audit trail locks it."""

    __tablename__ = "registry_schema"
    mirrored: ClassVar[bool] = False
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
    """A version of a stream's contract, in its plain form. number: counts the contracts of the whole registry."""

    __tablename__ = "contracts"
    __table_args__ = (Index("contracts_number", "number", unique=True),)
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    document: Mapped[dict[str, Any]]
    number: Mapped[int] = mapped_column(server_default="0")
    created_ms: Mapped[int]
    created_by: Mapped[str]


class ModelRow(Base):
    """A model: a name under which specifications are versioned."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(primary_key=True)
    created_ms: Mapped[int]


class VersionRow(Base):
    """A version of a model: its specification, or a rebuild of version `parent` `without` some records of a log."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model", "digest"),)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    specification: Mapped[dict[str, Any]]
    description: Mapped[str]
    parent: Mapped[int | None]
    without: Mapped[dict[str, Any] | None]
    created_ms: Mapped[int]
    created_by: Mapped[str]


class TagRow(Base):
    """What people noted of a model (version 0) or of a version of it."""

    __tablename__ = "tags"
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class DeploymentRow(Base):
    """Where a model stands on a stream now. sequence: of the decision that put this version there."""

    __tablename__ = "deployments"
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int]
    digest: Mapped[str]
    role: Mapped[str]
    frozen: Mapped[bool]
    share: Mapped[float] = mapped_column(server_default="0")
    sequence: Mapped[int]
    changed_ms: Mapped[int]


class RolloutRow(Base):
    """A rollout (`domain.rollouts`). state: its plain form; positions: next offset to be judged, by partition.

    revision: counts what was decided of it; writes: every change, of its evidence too: whoever changes it raises that
    only if nobody else has. open: something may yet become of it; at most one of a stream is.
    """

    __tablename__ = "rollouts"
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int]
    writes: Mapped[int]
    open: Mapped[bool]
    state: Mapped[dict[str, Any]]
    positions: Mapped[dict[str, int]]
    created_ms: Mapped[int]
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


class AuditRow(Base):
    """A record of the audit trail (`domain.audit.Record`), column by column."""

    __tablename__ = "audit"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_ms: Mapped[int]
    who: Mapped[str]
    action: Mapped[str]
    stream: Mapped[str] = mapped_column(index=True)
    model: Mapped[str]
    rollout: Mapped[int]
    before: Mapped[str]
    after: Mapped[str]
    why: Mapped[str]
    previous: Mapped[str]
    digest: Mapped[str]


class RetrainingRow(Base):
    """A retraining (`domain.retraining`). state: its plain form; progress: offsets folded and to be, by trial.

    writes: counts the changes; whoever changes it raises that only if nobody else has. holder: the process that runs
    it, until held_until_ms. open: something is still to be done. event: which it answers, if one. told: of it to a
    lineage server: 0 nothing, 1 its begin, 2 its end.
    """

    __tablename__ = "retrainings"
    __table_args__ = (UniqueConstraint("event"),)
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    writes: Mapped[int]
    open: Mapped[bool]
    event: Mapped[str | None]
    state: Mapped[dict[str, Any]]
    progress: Mapped[dict[str, Any]]
    holder: Mapped[str]
    held_until_ms: Mapped[int]
    told: Mapped[int]
    created_ms: Mapped[int]
    changed_ms: Mapped[int]


class RetrainingPolicyRow(Base):
    """When a stream is retrained by itself, and how (`domain.retraining.Policy`). due_ms: next time; 0: by no clock."""

    __tablename__ = "retraining_policies"
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    policy: Mapped[dict[str, Any]]
    due_ms: Mapped[int]
    changed_ms: Mapped[int]
    changed_by: Mapped[str]


class ProposalRow(Base):
    """A proposal to retrain (`domain.proposals`). state: its plain form. event: the id of what proposes it.

    revision: counts what was decided of it; whoever changes it raises that only if nobody else has. waiting: something
    may yet become of it; at most one of a stream is.
    """

    __tablename__ = "proposals"
    __table_args__ = (UniqueConstraint("event"),)
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event: Mapped[str]
    revision: Mapped[int]
    waiting: Mapped[bool]
    state: Mapped[dict[str, Any]]
    created_ms: Mapped[int]
    changed_ms: Mapped[int]


class PayoffRow(Base):
    """What the answers of a model are worth (`contracts.payoff`); model "": of every model that has no row."""

    __tablename__ = "payoffs"
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    payoff: Mapped[dict[str, Any]]
    changed_ms: Mapped[int]
    changed_by: Mapped[str]


class ReadRow(Base):
    """Up to which offset a topic, of one partition, has been acted on."""

    __tablename__ = "read"
    topic: Mapped[str] = mapped_column(primary_key=True)
    offset: Mapped[int]


class DatasetRow(Base):
    """A version of a dataset (`domain.datasets.Reference`). reference: its digest; ranges: [from, before] by partition.

    state: `measuring`, `measured` or `failed`, and then why. digest, records: of the log records that belong.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("name", "reference"),)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reference: Mapped[str]
    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), index=True)
    ranges: Mapped[dict[str, Any]]
    contracts: Mapped[list[int]]
    without: Mapped[dict[str, Any]]
    description: Mapped[str]
    created_ms: Mapped[int]
    created_by: Mapped[str]
    reason: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    failure: Mapped[str]
    digest: Mapped[str | None]
    records: Mapped[int | None]
    measured_ms: Mapped[int | None]


class MeasurementRow(Base):
    """What was measured of a dataset's version, as JSON text: large, and so apart."""

    __tablename__ = "measurements"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    measurement: Mapped[str]


class AnswerRow(Base):
    """A request that was sent with an Idempotency-Key, and what it was answered; status None: nothing yet.

    decided: what it has decided so far, in order. claimed_until_ms: until when somebody is carrying it out.
    """

    __tablename__ = "answers"
    mirrored: ClassVar[bool] = False
    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    claimed_until_ms: Mapped[int]
    decided: Mapped[list[Any]]
    status: Mapped[int | None]
    headers: Mapped[list[Any]]
    body: Mapped[bytes]
    created_ms: Mapped[int] = mapped_column(index=True)


class OutgoingRow(Base):
    """A message that `headrace.changes` has yet to get (`contracts.events.RowsWritten`). number: its place in line."""

    __tablename__ = "outgoing"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  # SQLAlchemy's. A number is never used again
    mirrored: ClassVar[bool] = False
    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    sequence: Mapped[int]
    part: Mapped[int]
    last: Mapped[bool]
    schema: Mapped[str]
    rows: Mapped[str]
    everything: Mapped[str]
