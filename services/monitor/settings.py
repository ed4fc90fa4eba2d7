"""Settings of the monitor: the only place where it reads the environment."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.errors import Unusable
from services.monitor.domain.tolerance import Tolerance
from services.monitor.domain.value import Prices
from services.monitor.processor import WindowShape


class MonitorSettings(BaseSettings):
    """HEADRACE_* variables; see docs/monitor.md."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="HEADRACE_", populate_by_name=True)

    bootstrap: str = "127.0.0.1:9092"
    home: Path = Path.home() / ".headrace"
    keys: Path | None = None
    host: str = Field("127.0.0.1", validation_alias="HEADRACE_MONITOR_HOST")
    port: int = Field(8103, validation_alias="HEADRACE_MONITOR_PORT")
    instance: str = Field("monitor-0", validation_alias="HEADRACE_MONITOR_INSTANCE")
    """Stable name of this process among the monitor processes; two may not share one."""
    traces_url: str = ""
    """Where an OpenTelemetry collector takes traces (OTLP over HTTP), path included; empty: none are made."""
    window_seconds: int = Field(
        3600, ge=1, le=31 * 24 * 3600, validation_alias="HEADRACE_MONITOR_WINDOW_SECONDS"
    )
    """Length of a window in event time. Another length counts everything again from the logs' start."""
    lateness_seconds: int = Field(
        600, ge=0, le=31 * 24 * 3600, validation_alias="HEADRACE_MONITOR_LATENESS_SECONDS"
    )
    """Event time after a window's end during which it still counts what comes for it."""
    open_windows: int = Field(48, ge=1, le=10_000, validation_alias="HEADRACE_MONITOR_OPEN_WINDOWS")
    """Most windows open at a time, a partition; beyond it the oldest closes early."""
    revisable_windows: int = Field(48, ge=0, le=10_000, validation_alias="HEADRACE_MONITOR_REVISABLE_WINDOWS")
    """Closed windows a partition, the newest, that late records still revise."""
    windows_kept: int = Field(10_000, ge=1, validation_alias="HEADRACE_MONITOR_WINDOWS_KEPT")
    """Windows a stream that the tables hold; the oldest goes first."""
    batch_records: int = Field(10_000, ge=1, le=100_000, validation_alias="HEADRACE_MONITOR_BATCH_RECORDS")
    """Most records in one transaction."""
    batch_wait_seconds: float = Field(
        0.5, ge=0.0, le=30.0, validation_alias="HEADRACE_MONITOR_BATCH_WAIT_SECONDS"
    )
    """How long records are gathered when few come: the statistics' delay, and what an idle stream costs."""
    snapshot_records: int = Field(200_000, ge=0, validation_alias="HEADRACE_MONITOR_SNAPSHOT_RECORDS")
    """Records between two snapshots of a partition; 0 takes none."""
    silent_seconds: float = Field(60.0, gt=0, validation_alias="HEADRACE_MONITOR_SILENT_SECONDS")
    """After so long without a word from a partition, windows are judged without waiting for it."""
    price_cpu_hour: float = Field(0.0, ge=0, allow_inf_nan=False, validation_alias="HEADRACE_PRICE_CPU_HOUR")
    """What an hour of processor time costs; 0: it is shown, not charged."""
    price_memory_gb_hour: float = Field(
        0.0, ge=0, allow_inf_nan=False, validation_alias="HEADRACE_PRICE_MEMORY_GB_HOUR"
    )
    """What holding a GB of model state for an hour costs."""
    price_gb_written: float = Field(
        0.0, ge=0, allow_inf_nan=False, validation_alias="HEADRACE_PRICE_GB_WRITTEN"
    )
    """What writing a GB of predictions, outcomes and snapshots, and keeping it, costs."""
    currency: str = Field("", max_length=16, validation_alias="HEADRACE_PRICE_CURRENCY")
    """The currency of prices and payoffs: a name that is shown."""
    rules: Path | None = Field(None, validation_alias="HEADRACE_MONITOR_RULES")
    """The rules file (YAML); by default `monitor-rules.yaml` in the home folder."""

    channels: Path | None = Field(None, validation_alias="HEADRACE_MONITOR_CHANNELS")
    """The channels file (YAML): whom to tell; by default `monitor-channels.yaml` in the home folder."""
    internal_targets: str = Field("", validation_alias="HEADRACE_MONITOR_INTERNAL_TARGETS")
    """Names and networks, with commas, that webhooks may reach although they are internal, and by plain http."""
    give_up_hours: float = Field(24.0, gt=0, le=24 * 30, validation_alias="HEADRACE_MONITOR_GIVE_UP_HOURS")
    """For how long a channel that does not take an alert is tried again."""

    drift: Path | None = Field(None, validation_alias="HEADRACE_MONITOR_DRIFT")
    """The drift file (YAML), what is said by stream; by default `monitor-drift.yaml` in the home folder."""
    false_alarm_events: int = Field(100_000, ge=1, validation_alias="HEADRACE_MONITOR_FALSE_ALARM_EVENTS")
    """At most one false alarm of drift in so many events of a stream, over everything that is watched in it."""
    retrain_labels: int = Field(500, ge=1, validation_alias="HEADRACE_MONITOR_RETRAIN_LABELS")
    """Labels since a change of the concept, with which a retraining is proposed."""

    @property
    def key_file(self) -> Path:
        """Where API keys are kept."""
        return self.keys or self.home / "keys.json"

    @property
    def rules_file(self) -> Path:
        """Where the rules are kept."""
        return self.rules or self.home / "monitor-rules.yaml"

    @property
    def channels_file(self) -> Path:
        """Where the channels are kept."""
        return self.channels or self.home / "monitor-channels.yaml"

    @property
    def drift_file(self) -> Path:
        """Where it is said, by stream, what is watched for drift."""
        return self.drift or self.home / "monitor-drift.yaml"

    @property
    def delivery_file(self) -> Path:
        """Where it is kept what was told to whom."""
        return self.home / "monitor-deliveries.db"

    @property
    def internal(self) -> list[str]:
        """Targets that are allowed although they are internal."""
        return [entry.strip() for entry in self.internal_targets.split(",") if entry.strip()]

    @property
    def snapshot_folder(self) -> Path:
        """Where snapshots are kept."""
        return self.home / "monitor-snapshots"

    @property
    def snapshot_key_file(self) -> Path:
        """The secret that signs snapshots; made on first start, mode 0600."""
        return self.home / "monitor-snapshots.key"

    @property
    def prices(self) -> Prices:
        """What resources cost."""
        return Prices(self.price_cpu_hour, self.price_memory_gb_hour, self.price_gb_written, self.currency)

    @property
    def tolerance(self) -> Tolerance:
        """What people put up with, and wait for, where the drift file says nothing."""
        return Tolerance(self.false_alarm_events, self.retrain_labels)

    @property
    def shape(self) -> WindowShape:
        """How time is cut."""
        return WindowShape(
            self.window_seconds, self.lateness_seconds, self.open_windows, self.revisable_windows
        )


def secret_of(reference: str) -> str:
    """The secret that `env:NAME` or `file:/path` names. Raises `Unusable` if there is none."""
    kind, _, place = reference.partition(":")
    if kind == "env":
        secret = os.environ.get(place, "")
    else:
        try:
            secret = Path(place).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise Unusable(f"the file {place} cannot be read") from None
    if not secret:
        raise Unusable(f"{reference} is empty")
    return secret
