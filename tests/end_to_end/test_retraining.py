"""A retraining through the real system: specifications race over the log of real flights, the winner is handed over."""

import json
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from headrace.cli.flights import document
from headrace.cli.flights.source import read_events
from headrace.client import ServiceProblem
from headrace.contracts import odcs
from headrace.contracts.codec import encode
from headrace.contracts.events import RetrainProposed
from headrace.contracts.topics import RETRAINS
from headrace.kafka.history import KafkaHistory
from headrace.kafka.producer import LogProducer
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import command

pytestmark = pytest.mark.broker

FLIGHTS = 20_000
FOREST = {"class": "forest.ARFClassifier", "parameters": {"n_models": 10, "seed": 1}}


def stream_of_flights(system: System, name: str) -> None:
    """A stream that has seen flights, and a champion that has learnt nothing but how many are late."""
    system.client.create_stream(
        odcs.dump(msgspec.structs.replace(odcs.load(document("contract.yaml")), name=name))
    )
    system.client.create_model("late-prior", {"model": "dummy.PriorClassifier"})
    system.client.deploy(name, "late-prior")
    events = [event.body for event in read_events(FLIGHTS)]
    assert system.client.publish(name, events, "events").rejected == []
    labels = sum(b'"label"' in event for event in events)
    system.wait(lambda: system.total(name)["labels"] == labels)


def search(folder: Path, **more: Any) -> str:
    """A file that declares what is tried: the challenger of the demo with other rates, and what `more` says."""
    space = yaml.safe_load(document("challenger.yaml"))
    optimizer = space["model"][-1]["parameters"]["optimizer"]
    optimizer["parameters"]["lr"] = {"between": [0.0005, 0.5], "scale": "log"}
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump({"space": space, "trials": 6, "seed": 5, **more}), encoding="utf-8")
    return str(file)


def racing(system: System, stream: str, *, steps: int) -> dict[str, Any]:
    """The newest retraining once so many steps are done."""
    deadline = time.monotonic() + 120
    found: dict[str, Any] = {"trials": []}
    while time.monotonic() < deadline:
        listed = command(system, "retrain", "list", stream)["retrainings"]
        found = listed[0] if listed else found
        if listed and sum(len(one["rungs"]) for one in found["trials"]) >= steps:
            return found
        time.sleep(0.2)
    raise AssertionError(found)


def test_the_winner_of_a_race_is_handed_over_though_the_registry_was_killed(
    system: System, tmp_path: Path
) -> None:
    stream = "raced"
    stream_of_flights(system, stream)
    system.client.set_payoff(stream, {"tp": 10.0, "fp": -2.0, "tn": 0.0, "fn": -10.0})
    begun = command(system, "retrain", "start", stream, search(tmp_path), "--reason", "to see")
    assert begun["forecast"]["most_cpu_seconds"] == 7 * begun["limits"]["cpu_seconds"]
    assert begun["worth"] is None  # nobody knows before the race
    assert (begun["status"], begun["model"], len(begun["trials"])) == ("racing", "late-prior-anew", 7)
    with pytest.raises(ServiceProblem) as refused:
        system.client.begin_retraining(stream, {"search": {"candidates": [{"model": FOREST}]}})
    assert refused.value.status == 409

    before = racing(system, stream, steps=3)
    system.kill("registry")
    done = command(system, "retrain", "status", stream, "--follow")
    assert done["status"] == "done", done
    for was, became in zip(before["trials"], done["trials"], strict=True):
        assert became["rungs"][: len(was["rungs"])] == was["rungs"]  # what was done stays done

    finalists = [one for one in done["trials"] if len(one["rungs"]) == len(done["rungs"])]
    winner = done["trials"][done["winner"]]
    assert winner["rungs"][-1]["loss"] == min(one["rungs"][-1]["loss"] for one in finalists)
    reference = done["trials"][0]
    assert len(reference["rungs"]) == len(done["rungs"])
    # The champion that stood there all the time is the reference that was taught the whole log anew.
    assert done["served"]["loss"] == pytest.approx(reference["rungs"][-1]["loss"], rel=1e-12)
    assert done["served"]["labels"] == reference["rungs"][-1]["labels"] - reference["rungs"][-2]["labels"]
    assert done["gain"] == pytest.approx(reference["rungs"][-1]["loss"] - winner["rungs"][-1]["loss"])
    assert done["gain"] > 0

    # The champion says late of nobody; who finds those that are late is worth more where a miss is dear.
    assert done["worth"]["winner"] > done["worth"]["champion"]
    assert done["worth"]["gain"] == pytest.approx(
        (done["worth"]["winner"] - done["worth"]["champion"]) * done["horizon_decisions"]
    )

    rollout = command(system, "rollout", "status", stream)
    assert (rollout["challenger"], rollout["stage"]) == (f"late-prior-anew@{done['version']}", "shadow")
    assert done["rollout"] == rollout["rollout"]
    [anew] = [one for one in system.total(stream)["models"] if one["model"] == "late-prior-anew"]
    assert anew["learned"] == system.total(stream)["labelled"]  # all of them, each once
    command(system, "rebuild", f"late-prior-anew@{done['version']}", "--verify")
    trail = command(system, "audit", "list", "--stream", stream)["records"]
    acts = [one["action"] for one in trail]
    assert "retrain" in acts
    assert "retrained" in acts
    following = command(system, "retrain", "start", stream, search(tmp_path), "--name", "another")
    assert following["forecast"]["basis"] == "the trials of retraining 1"
    assert 0.2 < following["forecast"]["cpu_seconds"] / done["cpu_seconds"] < 5  # six other draws
    command(system, "retrain", "cancel", stream)


def test_a_trial_over_its_limit_is_stopped_and_says_so(system: System, tmp_path: Path) -> None:
    stream = "limited"
    stream_of_flights(system, stream)
    file = tmp_path / "search.json"
    file.write_text(json.dumps({"candidates": [{"model": FOREST}]}), encoding="utf-8")
    words = ["--cpu-seconds", "3", "--only-register", "--follow"]
    done = command(system, "retrain", "start", stream, str(file), *words)
    assert [(one["state"], one["why"]) for one in done["trials"]] == [
        ("won", ""),
        ("stopped", "it took more than cpu_seconds"),
    ]
    assert done["says"] == "the champion, as it is, lost no more than the winner"
    small = command(system, "retrain", "start", stream, str(file), "--memory-mb", "20", "--follow")
    assert {one["why"] for one in small["trials"]} == {"it took more than memory_mb"}
    assert small["says"].startswith("every trial was stopped")


def test_a_retraining_can_be_cancelled_and_leaves_no_process(system: System, tmp_path: Path) -> None:
    stream = "given-up"
    stream_of_flights(system, stream)
    file = tmp_path / "search.json"
    file.write_text(json.dumps({"candidates": [{"model": FOREST}]}), encoding="utf-8")
    command(system, "retrain", "start", stream, str(file), "--last", "9000")
    racing(system, stream, steps=1)
    assert children(system.home.load().services["registry"].pid)

    def states() -> list[Path]:
        """What trials have left to go on from."""
        return [*system.home.path.glob(f"snapshots/rebuilds/{stream}.log/*/*/*")]

    assert states()
    found = command(system, "retrain", "cancel", stream, "--reason", "enough")
    assert (found["status"], found["says"]) == ("cancelled", "cancelled by cli")
    assert command(system, "retrain", "list", stream)["retrainings"][0]["status"] == "cancelled"
    registry = system.home.load().services["registry"].pid
    system.wait(lambda: not children(registry))
    system.wait(lambda: not states())


def test_an_event_begins_a_retraining_of_what_came_since(system: System, tmp_path: Path) -> None:
    stream = "moved"
    stream_of_flights(system, stream)
    with pytest.raises(ServiceProblem) as refused:
        system.client.get("registry", f"/v1/streams/{stream}/retraining-policy")
    assert refused.value.status == 404
    without_a_policy_nothing_begins(system, stream)
    words = [search(tmp_path, trials=2), "--on-events", "--cool-down-seconds", "3000", "--only-register"]
    policy = command(system, "retrain", "policy", stream, *words)
    assert command(system, "retrain", "policy", stream) == policy

    producer = LogProducer(system.bootstrap, client_id="alarm")
    events = [
        b"no event",
        encode(RetrainProposed("drift/elsewhere/1", "no-such-stream", 5, "x")),
        encode(RetrainProposed("drift/moved/1", stream, 5, "weather has moved", {0: 3000})),
        encode(RetrainProposed("drift/moved/1", stream, 5, "weather has moved", {0: 3000})),
        encode(RetrainProposed("drift/moved/2", stream, 6, "too soon")),
    ]
    for event in events:
        producer.send(RETRAINS.name, [{"key": stream.encode(), "value": event}]).result(20)
    producer.close(5.0)
    racing(system, stream, steps=0)
    done = command(system, "retrain", "status", stream, "--follow")
    assert (done["retraining"], done["cause"], done["asked_by"]) == (
        1,
        "weather has moved",
        "a retrain event",
    )
    assert done["spans"]["0"][0] == 3000
    assert done["winner"] is not None
    assert done["trials"][0]["rungs"][-1]["labels"] < system.total(stream)["labelled"]
    trail = command(system, "audit", "list", "--stream", stream)["records"]
    assert [one["why"] for one in trail if one["action"] == "retrain"] == ["weather has moved"]
    command(system, "retrain", "policy", stream, "--remove")
    assert len(command(system, "retrain", "list", stream)["retrainings"]) == 1


def without_a_policy_nothing_begins(system: System, stream: str) -> None:
    """The monitor has proposals of its own, as the champion is a poor one: they are read, and passed over."""
    labelled = system.total(stream)["labelled"]

    def is_watched() -> bool:
        summary = system.client.get("monitor", f"/v1/streams/{stream}/summary")
        return bool(summary["total"]["statuses"].get("labelled", 0) == labelled)

    def is_read() -> bool:
        history = KafkaHistory(system.bootstrap)
        batches = history.read(RETRAINS.name, 0, *history.bounds(RETRAINS.name, 0))
        proposed = max((offset for batch in batches for offset in batch.offsets), default=-1)
        with closing(sqlite3.connect(system.home.path / "registry.db")) as database:
            found = database.execute("SELECT offset FROM read WHERE topic = ?", (RETRAINS.name,)).fetchone()
        return proposed < (0 if found is None else found[0])

    system.wait(is_watched)
    system.wait(is_read)
    assert command(system, "retrain", "list", stream)["retrainings"] == []


def children(pid: int) -> list[str]:
    """The processes that a process has started and that are there."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"PPid:\t{pid}\n" in status.read_text(encoding="utf-8"):
                found.append(status.parent.name)
    return found
