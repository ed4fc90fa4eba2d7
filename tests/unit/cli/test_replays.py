"""`headrace replay` as a user types it: a made-up stream in memory, stand-in services, a real report."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.history import Bounds
from headrace.memory import MemoryHistory
from headrace.replay import running
from headrace.signing import Keys
from tests.unit.replay.streams import PLAIN, SCALED, contract_of, lived


class Interrupted(MemoryHistory):
    """Ctrl-C comes after so many batches of the log."""

    left = 10**9

    def bounds(self, name, partition):
        first, end = super().bounds(name, partition)
        return Bounds(first, end)

    def read(self, name, partition, start, end):
        for at in range(start, end, 256):
            if name.endswith(".log"):
                Interrupted.left -= 1
                if Interrupted.left < 0:
                    raise KeyboardInterrupt
            yield from super().read(name, partition, at, min(end, at + 256))


@pytest.fixture
def stream(service, monkeypatch):
    """Answers as the registry and Kafka would."""
    broker = lived("binary", 900)
    Interrupted.left = 10**9
    monkeypatch.setattr("headrace.replay.sources.KafkaHistory", lambda bootstrap: Interrupted(broker))
    monkeypatch.setattr(running, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(running, "SAVE_SHARE", 0)
    deployments = [
        {"model": "beside", "version": 4, "role": "challenger"},
        {"model": "live", "version": 1, "role": "champion"},
    ]
    service.on("GET /v1/streams/s", {"contract": contract_of("binary").to_dict(), "deployments": deployments})
    service.on("GET /v1/models/live/versions/1", {"specification": {"model": SCALED["binary"]}})
    return broker


@pytest.fixture
def run(home, stream, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, ["replay", "s", *map(str, arguments)])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


@pytest.fixture
def bayes(tmp_path) -> Path:
    path = tmp_path / "bayes.yaml"
    path.write_text(json.dumps({"model": PLAIN["binary"]}))
    return path


def test_a_table_and_a_page_for_people(run, bayes, tmp_path, home):
    page = tmp_path / "report.html"
    said = run("--model", "live", "--model", bayes, "--threshold", "0.3,0.6", "--html", page).stdout
    lines = [line.split() for line in said.splitlines()]
    assert ["live", "replayed"] in [words[:2] for words in lines]
    assert ["bayes", "replayed"] in [words[:2] for words in lines]
    assert any(line.startswith("what was served") for line in said.splitlines())
    assert "live is the same as what was served: log loss +0" in said
    assert "bayes is" in said
    assert "900 observations" in said
    assert sum(words[2:3] == ["0.6000"] for words in lines if words[:1] in (["live"], ["bayes"])) == 2
    assert "<title>What if: s</title>" in page.read_text()
    assert list((home.path / "replays").iterdir()) == []


def test_json_is_the_document_and_the_command_asks_the_same_again(run, bayes):
    words = ["--model", bayes, "--from", "2013-01-01", "--label-policy", "wait=2h", "--without", "entity:a b"]
    found = json.loads(run(*words, "--json").stdout)
    assert found["parameters"]["from"] == "2013-01-01T00:00:00Z"
    assert found["label"]["wait_seconds"] == 7200
    assert [one["name"] for one in found["models"]] == ["bayes", "served", "live@1", "beside@4"]
    assert found["command"] == (
        f"headrace replay s --model {bayes} --without 'entity:a b' --from 2013-01-01 --label-policy wait=2h"
    )


def test_interrupted_it_goes_on_and_prints_the_same(run, bayes, home):
    whole = run("--model", bayes, "--json").stdout
    Interrupted.left = 3
    run("--model", bayes, "--json", code=130)
    assert len(list((home.path / "replays").iterdir())) == 1
    Interrupted.left = 10**9
    again = run("--model", bayes, "--json")
    assert again.stdout == whole
    assert "going on where it stopped: 512 records" in again.stderr
    Interrupted.left = 3
    run("--model", bayes, "--json", code=130)
    Interrupted.left = 10**9
    fresh = run("--model", bayes, "--json", "--fresh")
    assert fresh.stdout == whole
    assert "going on" not in fresh.stderr


def test_fresh_takes_nothing_away_from_one_that_is_running(run, bayes, home, monkeypatch):
    monkeypatch.setattr(running, "LOCK_SECONDS", 0.1)
    Interrupted.left = 3
    run("--model", bayes, code=130)
    [folder] = (home.path / "replays").iterdir()
    before = sorted(path.name for path in folder.iterdir())
    with running.Workbench(folder, Keys(b"k" * 32)).alone():
        said = run("--model", bayes, "--fresh", code=1).stderr
    assert "the same replay is running in another process" in said
    assert sorted(path.name for path in folder.iterdir()) == before


def test_unfinished_runs_are_bounded(run, bayes, home):
    for number in range(12):
        Interrupted.left = 3
        run("--model", bayes, "--threshold", f"0.{number + 10}", code=130)
    assert len(list((home.path / "replays").iterdir())) == running.MOST_UNFINISHED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nowhere.yaml"], "there is no specification nowhere.yaml"),
        (["--model", "live", "--model", "live"], "two models are called 'live'"),
        (["--model", "live", "--threshold", "3"], "between 0 and 1"),
        (["--model", "live", "--without", "everything"], "does not say what to leave out"),
        (["--model", "live", "--from", "soon"], "neither an offset nor a time"),
    ],
)
def test_what_cannot_be_asked_is_said(run, words, said):
    assert said in run(*words, code=1).stderr


def test_no_champion_no_live(run, service):
    service.on("GET /v1/streams/s", {"contract": contract_of("binary").to_dict(), "deployments": []})
    assert "no champion" in run("--model", "live", code=1).stderr


def test_an_unknown_stream(run, service):
    del service.answers["GET /v1/streams/s"]
    assert "there is no stream 's'" in run("--model", "live", code=1).stderr
