"""Settings of scoring: the only place where it reads the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ScoringSettings(BaseSettings):
    """HEADRACE_* variables; see docs/settings.md."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="HEADRACE_", populate_by_name=True)

    bootstrap: str = "127.0.0.1:9092"
    home: Path = Path.home() / ".headrace"
    keys: Path | None = None
    host: str = Field("127.0.0.1", validation_alias="HEADRACE_SCORING_HOST")
    port: int = Field(8102, validation_alias="HEADRACE_SCORING_PORT")
    instance: str = Field("scoring-0", validation_alias="HEADRACE_SCORING_INSTANCE")
    """Stable name of this process among the scoring processes; two may not share one."""
    traces_url: str = ""
    """Where an OpenTelemetry collector takes traces (OTLP over HTTP), path included; empty: none are made."""
    batch_records: int = Field(10_000, ge=1, le=100_000, validation_alias="HEADRACE_SCORING_BATCH_RECORDS")
    """Most log records in one transaction."""
    snapshot_records: int = Field(200_000, ge=0, validation_alias="HEADRACE_SCORING_SNAPSHOT_RECORDS")
    """Log records between two snapshots of a partition; 0 takes none."""
    recheck_seconds: float = Field(3600.0, ge=0, validation_alias="HEADRACE_SCORING_RECHECK_SECONDS")
    """Seconds between two sampled checks (a stretch of a log is folded again and compared); 0: none."""
    window_seconds: int = Field(
        3600, ge=1, le=31 * 24 * 3600, validation_alias="HEADRACE_MONITOR_WINDOW_SECONDS"
    )
    """Windows, in event time, in which scoring tells what models cost; the monitor takes them if they are its own."""
    archive: str = ""
    """Where logs are archived, see the registry's; what Kafka no longer has is read from there."""

    @property
    def key_file(self) -> Path:
        """Where API keys are kept."""
        return self.keys or self.home / "keys.json"

    @property
    def snapshot_folder(self) -> Path:
        """Where snapshots are kept."""
        return self.home / "snapshots"

    @property
    def snapshot_key_file(self) -> Path:
        """The secret that signs snapshots; made on first start, mode 0600."""
        return self.home / "snapshot.key"
