"""Settings of the registry: the only place where it reads the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace import child
from services.registry.steps import States


class RegistrySettings(BaseSettings):
    """HEADRACE_* variables; see docs/settings.md."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="HEADRACE_", populate_by_name=True)

    bootstrap: str = "127.0.0.1:9092"
    home: Path = Path.home() / ".headrace"
    keys: Path | None = None
    host: str = Field("127.0.0.1", validation_alias="HEADRACE_REGISTRY_HOST")
    port: int = Field(8104, validation_alias="HEADRACE_REGISTRY_PORT")
    database_url: str = ""
    """SQLAlchemy URL; empty is SQLite in the home folder. PostgreSQL: `postgresql+psycopg://user:password@host/name`."""
    replication: int = Field(1, ge=1, le=9, validation_alias="HEADRACE_REPLICATION")
    """Replicas of the topics that the registry makes; 3 on a cluster."""
    archive: str = ""
    """Where logs are archived: file:///folder, s3://bucket/prefix, gs://... or az://...; empty: nowhere."""
    archive_lag_seconds: float = Field(3600.0, gt=0, validation_alias="HEADRACE_ARCHIVE_LAG_SECONDS")
    """How far the archive may be behind a log that fills no segment."""
    archive_keep_records: int = Field(0, ge=0, validation_alias="HEADRACE_ARCHIVE_KEEP_RECORDS")
    """Newest offsets of a partition that stay in Kafka though archived; older ones are removed; 0: none are."""

    trial_processes: int = Field(1, ge=1, le=64, validation_alias="HEADRACE_TRIAL_PROCESSES")
    """Trials of a retraining that run at once, each a process of its own."""
    price_cpu_hour: float = Field(0.0, ge=0, allow_inf_nan=False, validation_alias="HEADRACE_PRICE_CPU_HOUR")
    """What an hour of processor time costs, for what retrainings say they will cost; as the monitor's."""
    currency: str = Field("", max_length=16, validation_alias="HEADRACE_PRICE_CURRENCY")
    """The currency of prices and payoffs: a name that is shown."""
    idempotency_keys: int = Field(10_000, ge=1, validation_alias="HEADRACE_REGISTRY_IDEMPOTENCY_KEYS")
    """Answers remembered by Idempotency-Key."""
    idempotency_seconds: float = Field(
        86_400.0, gt=0, validation_alias="HEADRACE_REGISTRY_IDEMPOTENCY_SECONDS"
    )
    """How long they are remembered."""

    openlineage_url: str = ""
    """An OpenLineage server that is told of retrainings, e.g. http://marquez:5000; empty: none is."""
    openlineage_key: str = ""
    """Its API key, sent as a bearer token."""

    audit_key: Path | None = None
    """File of the secret that signs the audit trail; unset: `audit.key` in the home, made at the first start."""

    @property
    def key_file(self) -> Path:
        """Where API keys are kept."""
        return self.keys or self.home / "keys.json"

    @property
    def audit_key_file(self) -> Path:
        """The secret that signs the audit trail; made on first start, mode 0600."""
        return self.audit_key or self.home / "audit.key"

    @property
    def states(self) -> States:
        """Where trials read the log and keep what they learn: where scoring, on the same machine, will look for it."""
        return States(
            self.bootstrap,
            self.home / "snapshots",
            self.home / "snapshot.key",
            self.archive,
            child.environment(),
        )

    @property
    def database(self) -> str:
        """The database URL that is meant."""
        return self.database_url or f"sqlite:///{self.home / 'registry.db'}"
