"""`headrace undo` as a user types it, with stand-in services: what is said when it does not come to its end."""

import json

import pytest
from typer.testing import CliRunner

from headrace.cli import undo as module
from headrace.cli.main import app


@pytest.fixture
def run(home, service, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    entry = {"model": "m", "version": 1, "since": 1, "left_out": [], "deployed": None}
    service.on("GET /v1/streams/s/metrics", {"partitions": {"0": {"models": [entry]}}})
    service.on("POST /v1/streams/s/deployments/m/freeze", {"changed": True})

    def call(*words, code):
        result = CliRunner().invoke(app, ["undo", "s", "m", "--without", "source:x", *words])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


def test_a_model_that_stays_frozen_is_told(run, service):
    service.on("POST /v1/streams/s/deployments/m/rebuild", {"title": "Conflict", "status": 409}, status=409)
    assert "m stays frozen until the same command is given again" in run(code=1).stdout
    assert "frozen" not in run("--no-freeze", code=1).stdout
    told = run("--json", code=1)
    assert "m stays frozen" in told.stderr
    assert "error" in json.loads(told.stdout)


def test_also_after_ctrl_c(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", interrupted)
    assert "m stays frozen" in run(code=130).stdout
