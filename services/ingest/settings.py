"""Settings of ingest: the only place where it reads the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024


class IngestSettings(BaseSettings):
    """HEADRACE_* variables; see docs/settings.md and docs/ingest.md."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="HEADRACE_", populate_by_name=True)

    bootstrap: str = "127.0.0.1:9092"
    home: Path = Path.home() / ".headrace"
    keys: Path | None = None
    host: str = Field("127.0.0.1", validation_alias="HEADRACE_INGEST_HOST")
    port: int = Field(8101, validation_alias="HEADRACE_INGEST_PORT")
    instance: str = Field("ingest-0", validation_alias="HEADRACE_INGEST_INSTANCE")
    """Stable name of this process among the ingest processes; two may not share one."""
    traces_url: str = ""
    """Where an OpenTelemetry collector takes traces (OTLP over HTTP), path included; empty: none are made."""
    traces_ratio: float = Field(0.01, ge=0.0, le=1.0, validation_alias="HEADRACE_TRACES_RATIO")
    """Share of the requests to trace; one that brings a `traceparent` has decided already."""
    body_bytes: int = Field(8 * MEBIBYTE, ge=1024, validation_alias="HEADRACE_INGEST_BODY_BYTES")
    """Largest body, as sent and as unfolded; above it 413."""
    body_lines: int = Field(50_000, ge=1, validation_alias="HEADRACE_INGEST_BODY_LINES")
    """Most events in one body; above it 413."""
    body_seconds: float = Field(30.0, gt=0, validation_alias="HEADRACE_INGEST_BODY_SECONDS")
    """Longest time a body may take to arrive; above it 408."""
    flight_bytes: int = Field(64 * MEBIBYTE, ge=1024, validation_alias="HEADRACE_INGEST_FLIGHT_BYTES")
    """Body bytes held at one time over all requests; above it 429."""
    ack_seconds: float = Field(15.0, gt=0, validation_alias="HEADRACE_INGEST_ACK_SECONDS")
    """Longest wait for the broker's acknowledgement; above it 503."""
    queue_records: int = Field(100_000, ge=1000, validation_alias="HEADRACE_INGEST_QUEUE_RECORDS")
    """Records that may await the broker at one time; above 0.8 of it 429."""
    waiters: int = Field(1_000, ge=1, validation_alias="HEADRACE_INGEST_WAITERS")
    """Requests that may wait for a prediction at one time; above it 429."""
    waiters_idle_seconds: float = Field(60.0, gt=0, validation_alias="HEADRACE_INGEST_WAITERS_IDLE_SECONDS")
    """How long a stream's predictions are still read after nobody waits for one."""
    idempotency_keys: int = Field(10_000, ge=1, validation_alias="HEADRACE_INGEST_IDEMPOTENCY_KEYS")
    """Answers remembered by Idempotency-Key."""
    idempotency_bytes: int = Field(
        64 * MEBIBYTE, ge=1024, validation_alias="HEADRACE_INGEST_IDEMPOTENCY_BYTES"
    )
    """Memory those answers may take."""
    idempotency_seconds: float = Field(3600.0, gt=0, validation_alias="HEADRACE_INGEST_IDEMPOTENCY_SECONDS")
    """How long they are remembered."""
    inbox_batch_records: int = Field(
        5_000, ge=1, le=100_000, validation_alias="HEADRACE_INGEST_INBOX_BATCH_RECORDS"
    )
    """Most inbox records in one transaction."""

    @property
    def key_file(self) -> Path:
        """Where API keys are kept."""
        return self.keys or self.home / "keys.json"
