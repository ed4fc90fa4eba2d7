"""The demo as a newcomer runs it: one command, a real broker, four processes, real flights.

What is checked is what the summary promises, against numbers that come from the flights themselves: nothing lost,
nothing twice, also after Ctrl-C, a killed command and a stopped system.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from headrace.cli.flights.source import read_flights

pytestmark = [pytest.mark.broker, pytest.mark.slow]

FLIGHTS = 4_000
WAIT_MS = 2 * 24 * 3600 * 1000


class System:
    """One installation of its own, driven through the command line only."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")
        }
        self.environment["HEADRACE_HOME"] = str(home)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "headrace.cli.main", *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=280)
        assert process.returncode == code, err[-3000:]
        return out

    def json(self, *arguments: str) -> dict:
        out = self.run(*arguments, "--json")
        assert out.count("\n") == 1, out
        return json.loads(out)

    def lines(self, what: str) -> list[dict]:
        return [
            json.loads(line)
            for line in self.run("tail", what, "flights", "--no-follow", "--json").splitlines()
        ]


@pytest.fixture
def system(tmp_path):
    one = System(tmp_path / "home")
    yield one
    one.run("down", "--delete", "--yes")


def expected(flights: int) -> dict[str, int]:
    """What must come out, by the rules of the label policy and the data alone."""
    known = list(read_flights(flights))
    landed = [flight for flight in known if flight.landed >= 0]
    end = max(max(flight.at, flight.landed) for flight in known)
    expired = sum(flight.landed < 0 and flight.at + WAIT_MS < end for flight in known)
    return {
        "observations": len(known),
        "predictions": len(known),
        "labels": len(landed),
        "outcomes": len(landed) + expired,
        "expired": expired,
        "pending": len(known) - len(landed) - expired,
        "duplicates": 0,
        "rejected": 0,
    }


def test_from_nothing_to_a_summary_and_again_in_seconds(system):
    summary = system.json("demo", "--flights", str(FLIGHTS))
    wanted = expected(FLIGHTS)
    assert {name: summary[name] for name in wanted} == wanted
    assert summary["lag"] == 0
    assert 0.5 < summary["roc_auc"] < 0.8
    assert 0.3 < summary["log_loss"] < 0.8
    assert summary["events"] == wanted["observations"] + wanted["labels"]
    assert summary["events_per_second"] > 0
    assert summary["seconds_to_first_prediction"] > 0
    assert [model["role"] for model in summary["models"]].count("champion") == 1

    # The topics themselves, read by nobody's counters.
    ids = [flight.id for flight in read_flights(FLIGHTS)]
    assert [line["id"] for line in system.lines("predictions")] == ids
    outcomes = system.lines("outcomes")
    assert Counter(line["status"] for line in outcomes) == {
        "labelled": wanted["labels"],
        "expired": wanted["expired"],
    }
    late = {flight.id: flight.late for flight in read_flights(FLIGHTS) if flight.landed >= 0}
    assert {line["id"]: line["y"] for line in outcomes if line["status"] == "labelled"} == late
    assert system.lines("rejected") == []

    status = system.json("status")
    assert status["well"] is True
    assert [one["stream"] for one in status["streams"]] == ["flights"]

    began = time.monotonic()
    again = system.json("demo")
    assert time.monotonic() - began < 60
    for name in (*wanted, "roc_auc", "log_loss", "events", "seconds", "models"):
        assert again[name] == summary[name], name

    system.run("down")
    assert system.run("status", "--json", code=1)
    restarted = system.json("demo")
    for name in (*wanted, "roc_auc", "log_loss", "models"):
        assert restarted[name] == summary[name], name


def test_interrupted_and_killed_it_goes_on_without_a_gap_or_a_duplicate(system):
    limit = 12_000
    ended = [stopped_half_way(system, limit, signal.SIGINT), stopped_half_way(system, limit, signal.SIGKILL)]
    assert ended == [130, -signal.SIGKILL]
    system.run("down")
    summary = system.json("demo")
    wanted = expected(limit)
    assert {name: summary[name] for name in wanted} == wanted
    assert [line["id"] for line in system.lines("predictions")] == [
        flight.id for flight in read_flights(limit)
    ]


def stopped_half_way(system: System, limit: int, number: signal.Signals) -> int:
    """Run the demo at a pace that leaves time, stop it some seconds after its first events; returns its exit code."""
    process = system.start("demo", "--flights", str(limit), "--speed", "30000", "--json")
    try:
        deadline = time.monotonic() + 200
        before = observed(system)
        while observed(system) < before + 200:
            assert process.poll() is None, process.communicate()[1][-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out == ""
    assert 0 < observed(system) < limit
    return process.returncode


def observed(system: System) -> int:
    """Observations that scoring has folded so far; 0 while nothing runs."""
    process = system.start("status", "--json")
    out, _ = process.communicate(timeout=60)
    streams = json.loads(out).get("streams", []) if out else []
    return int(streams[0].get("observations", 0)) if streams else 0
