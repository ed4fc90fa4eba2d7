"""The registry's database is lost under a running system, and made again by one command."""

import json
import os
import signal
from pathlib import Path

import pytest

from headrace.cli import system as control
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import MODELS, command, made_up

pytestmark = pytest.mark.broker


def test_a_lost_database_comes_back_from_the_topics(system: System, tmp_path: Path) -> None:
    file, specification = tmp_path / "forgotten.csv", tmp_path / "forgotten.json"
    made_up(file, "binary")
    specification.write_text(json.dumps(MODELS["binary"]), encoding="utf-8")
    command(system, "stream", "create", "--from", str(file), "--label", "result")
    command(system, "model", "deploy", "forgotten", str(specification), "--reason", "the first one")
    paths = ("/v1/streams", "/v1/streams/forgotten", "/v1/models", "/v1/streams/forgotten/lives", "/v1/audit")
    before = {path: system.client.get("registry", path) for path in paths}
    refused = command(system, "registry", "restore", code=1)
    assert "the database is not empty" in refused["error"]

    lost = system.home.load().services["registry"]
    os.kill(lost.pid, signal.SIGKILL)
    for end in ("", "-wal", "-shm"):
        (system.home.path / f"registry.db{end}").unlink(missing_ok=True)
    system.wait(lambda: system.home.load().services["registry"] != lost)
    restored = command(system, "registry", "restore")
    assert (restored["strange"], restored["unfinished"], restored["audit"]) == (0, 0, "ok")
    assert restored["changes"] == before["/v1/audit"]["records"][0]["sequence"]
    # The supervisor has not given up on it: it has started it again and again.
    system.wait(lambda: control.ready_now(system.home, system.home.load())["registry"][0])
    assert {path: system.client.get("registry", path) for path in paths} == before
    assert command(system, "audit", "verify")["ok"]
    command(system, "model", "freeze", "forgotten", "forgotten")
