"""A rollout of real flights through the real system: the better model takes over, a sabotaged one is sent back."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from headrace.cli.flights import document
from headrace.cli.flights.source import read_events
from headrace.client import ServiceProblem
from headrace.contracts import odcs
from headrace.contracts.times import parse_ms, to_text
from headrace.contracts.topics import PREDICTIONS, topic
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import command
from tests.end_to_end.test_flights import read

pytestmark = pytest.mark.broker

STREAM = "rolled"
CHUNK = 1000


def until(system: System, stage: str, chunks: Iterator[list[bytes]]) -> dict[str, Any]:
    """Flights come until the newest rollout has reached a stage."""
    for chunk in chunks:
        found: dict[str, Any] = command(system, "rollout", "status", STREAM)
        if found["stage"] == stage:
            return found
        assert system.client.publish(STREAM, chunk, "events").rejected == []
        time.sleep(2.5)  # for the labels to be folded, and weighed
    raise AssertionError(f"not {stage} after all flights, but {found}")


def test_a_better_model_takes_over_and_a_sabotaged_one_is_sent_back(system: System, tmp_path: Path) -> None:
    began = time.time_ns() // 1_000_000
    system.client.create_stream(
        odcs.dump(msgspec.structs.replace(odcs.load(document("contract.yaml")), name=STREAM))
    )
    system.client.create_model("prior", {"model": "dummy.PriorClassifier"})
    system.client.deploy(STREAM, "prior")
    events = [event.body for event in read_events(40_000)]
    chunks = (events[start : start + CHUNK] for start in range(0, len(events), CHUNK))

    better = tmp_path / "newcomer.yaml"
    better.write_text(document("champion.yaml"), encoding="utf-8")
    words = ["--canary", "0.3", "--canary-labels", "150", "--guard-labels", "1500"]
    started = command(system, "rollout", "start", STREAM, str(better), *words)
    assert (started["challenger"], started["champion"], started["stage"]) == (
        "newcomer@1",
        "prior@1",
        "shadow",
    )
    with pytest.raises(ServiceProblem) as refused:
        system.client.change_deployment(STREAM, "newcomer", "promote")
    assert refused.value.status == 409

    kept = until(system, "kept", chunks)
    passed = [(one["stage"], one["ruling"], one["decided_by"]) for one in kept["past"]]
    assert [stage for stage, _, _ in passed] == ["shadow", "canary", "guard"]
    assert passed[:2] == [("shadow", "better", "the judge"), ("canary", "no_worse", "the judge")]
    shadow, canary, guard = (one["evidence"] for one in kept["past"])
    assert shadow["better"] >= 20
    assert shadow["mean_difference"] > 0
    assert canary["labels"] == 150
    assert guard["labels"] <= 1500
    assert {
        one["model"] for one in command(system, "model", "live", STREAM)["models"] if one["role"] != "retired"
    } == {"newcomer"}

    bad = tmp_path / "sabotaged.yaml"
    bad.write_text(json.dumps({"model": "dummy.NoChangeClassifier"}), encoding="utf-8")
    command(system, "rollout", "start", STREAM, str(bad), "--warm-up", "0")
    crowned = command(system, "rollout", "promote", STREAM)
    assert (crowned["stage"], crowned["past"][0]["ruling"]) == ("guard", "")
    back = until(system, "rolled_back", chunks)
    assert back["past"][-1]["ruling"] == "worse"
    assert back["past"][-1]["decided_by"] == "the judge"
    assert back["past"][-1]["evidence"]["labels"] < 1000
    assert command(system, "model", "live", STREAM)["champion"]["model"] == "newcomer"

    the_log_says_the_same(system, kept)
    and_at_any_time(system, began, [kept, back])
    lineage_and_card(system, tmp_path)
    assert command(system, "model", "freeze", STREAM, "newcomer")["frozen"] is True
    assert command(system, "model", "freeze", STREAM, "newcomer")["changed"] is False
    a_person_takes_it_back(system)


def a_person_takes_it_back(system: System) -> None:
    """Without a rollout, `model rollback` has the last champion answer again, if it still stands there."""
    refused = command(system, "model", "rollback", STREAM, code=1)
    assert "rollout start rolled sabotaged@1" in refused["error"]
    system.client.deploy(STREAM, "prior", role="challenger")
    system.client.change_deployment(STREAM, "prior", "promote")
    back = command(system, "model", "rollback", STREAM, "--reason", "it was better")
    assert (back["model"], back["version"], back["changed"]) == ("newcomer", 1, True)
    live = command(system, "model", "live", STREAM)
    assert (live["champion"]["model"], live["previous"]) == ("newcomer", {"model": "prior", "version": 1})


def the_log_says_the_same(system: System, kept: dict[str, Any]) -> None:
    """Who answered: one, then both, each its share of the entities, then the other, and the bad one for a while."""
    said = [json.loads(value) for _, value in read(system, topic(PREDICTIONS, STREAM))]
    order = [one["model"] for one in said]
    first, last = order.index("newcomer"), len(order) - order[::-1].index("prior")
    by_canary = [one["model"] == "newcomer" for one in said[first:last]]
    assert 0.2 < sum(by_canary) / len(by_canary) < 0.4
    assert set(order[:first]) == {"prior"}
    later = order[last:]
    changes = [one for place, one in enumerate(later) if place == 0 or later[place - 1] != one]
    assert changes == ["newcomer", "sabotaged"]  # after that no flight came
    assert kept["past"][0]["evidence"]["labels"] < first


def lineage_and_card(system: System, folder: Path) -> None:
    """Who learnt what, and the card that says so."""
    [life] = command(system, "model", "lineage", "prior@1")["lives"]
    learnt = life["learnt"]["0"]
    assert learnt["from"] == 1
    assert life["ended_at"] is not None
    answers = system.client.get(
        "registry", f"/v1/streams/{STREAM}/lives?partition=0&offset={learnt['before']}"
    )
    assert {one["model"] for one in answers["lives"]} == {"newcomer"}
    before = system.client.get(
        "registry", f"/v1/streams/{STREAM}/lives?partition=0&offset={learnt['before'] - 1}"
    )
    assert {one["model"] for one in before["lives"]} == {"prior", "newcomer"}
    assert [one["version"] for one in command(system, "model", "versions", "newcomer")["versions"]] == [1]
    assert command(system, "model", "diff", "prior", "newcomer@1")["equal"] is False
    environment = {**os.environ, "HEADRACE_HOME": str(system.home.path)}
    words = [
        sys.executable,
        "-m",
        "headrace.cli.main",
        "model",
        "card",
        "newcomer@1",
        "--output",
        "README.md",
    ]
    subprocess.run(words, env=environment, cwd=folder, check=True, capture_output=True, timeout=60)
    _, front, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    metrics = {
        one["type"]: one["value"] for one in yaml.safe_load(front)["model-index"][0]["results"][0]["metrics"]
    }
    [live] = [one for one in system.total(STREAM)["models"] if one["model"] == "newcomer"]
    assert metrics["roc_auc"] == live["metrics"]["overall"]["roc_auc"]
    assert f"| `{STREAM}.log` | 0 | 2 to now | 1 | nothing |" in text
    assert "with prior@1: kept. shadow: better after" in text


def and_at_any_time(system: System, began: int, rollouts: list[dict[str, Any]]) -> None:
    """Which model was live, at 1,000 random times, is what the rollouts' own records say."""
    kept, back = rollouts
    ended = {one["stage"]: parse_ms(one["ended_at"]) for one in kept["past"]}
    turns = [
        (ended["canary"], "newcomer"),
        (parse_ms(back["past"][0]["ended_at"]), "sabotaged"),
        (parse_ms(back["past"][1]["ended_at"]), "newcomer"),
    ]
    chance, now = random.Random(5), time.time_ns() // 1_000_000
    asked = [chance.randrange(began - 1000, now) for _ in range(1000)] + [at for at, _ in turns]
    champions = [("prior", parse_ms(kept["created_at"])), *((model, at) for at, model in turns)]
    for moment in asked:
        found = system.client.get("registry", f"/v1/streams/{STREAM}/live?at={to_text(moment)}")["champion"]
        expected = [model for model, since in champions if since <= moment]
        if expected:
            assert found["model"] == expected[-1]
        elif found is not None:
            assert found["model"] == "prior"
