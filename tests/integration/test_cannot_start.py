"""Services that cannot start say why in one line, the last on stderr, and never with a traceback."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.kafka.admin import ensure_platform_topics

SERVICES = ("ingest", "scoring", "monitor", "registry")


def ends(service: str, home: Path, **variables: str) -> str:
    """Run it until it gives up; the line that says why."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        check=False, capture_output=True, text=True, timeout=120,
        env={**kept, "HEADRACE_HOME": str(home), **variables},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    plain = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(plain) == 1, done.stderr[-2000:]
    assert done.stderr.endswith(plain[0] + "\n")
    name, _, reason = plain[0].partition(": ")
    assert name == service
    return reason


@pytest.mark.parametrize("service", SERVICES)
def test_a_wrong_setting_is_named(service: str, tmp_path: Path) -> None:
    variable = f"HEADRACE_{service.upper()}_PORT"
    reason = ends(service, tmp_path, **{variable: "eighty"})
    assert reason.startswith(f"{variable}: Input should be a valid integer")


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    reason = ends("scoring", tmp_path, HEADRACE_SCORING_PORT="x", HEADRACE_SCORING_BATCH_RECORDS="0")
    assert "HEADRACE_SCORING_PORT: " in reason
    assert "HEADRACE_SCORING_BATCH_RECORDS: Input should be greater than or equal to 1" in reason


@pytest.mark.broker
@pytest.mark.parametrize("service", SERVICES)
def test_a_taken_port(service: str, tmp_path: Path, kafka: str) -> None:
    ensure_platform_topics(kafka)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        variables = {
            f"HEADRACE_{service.upper()}_PORT": port,
            # Not the name of another process of this broker's: it would be fenced.
            f"HEADRACE_{service.upper()}_INSTANCE": "cannot-start",
        }
        reason = ends(service, tmp_path, HEADRACE_BOOTSTRAP=kafka, **variables)
    assert reason.startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize("service", ["ingest", "scoring", "monitor"])
@pytest.mark.slow
def test_a_broker_that_does_not_answer(service: str, tmp_path: Path) -> None:
    began = time.monotonic()
    reason = ends(service, tmp_path, HEADRACE_BOOTSTRAP="127.0.0.1:1")
    assert reason.endswith("no Kafka answers at HEADRACE_BOOTSTRAP")
    assert time.monotonic() - began < 60


def test_a_damaged_database(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_text("no database, but long enough to be looked at as one. " * 20)
    reason = ends("registry", tmp_path, HEADRACE_REGISTRY_PORT="0")
    assert reason == f"the database sqlite:///{tmp_path}/registry.db cannot be used: file is not a database"


def test_a_database_server_that_is_away_and_no_password_in_the_log(tmp_path: Path) -> None:
    url = "postgresql://me:very-secret@127.0.0.1:1/registry"
    reason = ends("registry", tmp_path, HEADRACE_REGISTRY_PORT="0", HEADRACE_DATABASE_URL=url)
    assert "does not answer" in reason
    assert "Connection refused" in reason
    assert "very-secret" not in reason


@pytest.mark.broker
def test_a_snapshot_key_that_cannot_be_read(tmp_path: Path, kafka: str) -> None:
    ensure_platform_topics(kafka)
    (tmp_path / "snapshot.key").mkdir()  # a file without the right to read would not stop root
    reason = ends("scoring", tmp_path, HEADRACE_BOOTSTRAP=kafka, HEADRACE_SCORING_PORT="0")
    assert str(tmp_path / "snapshot.key") in reason
    assert "Is a directory" in reason
