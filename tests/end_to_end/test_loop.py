"""The loop that closes, on the real system and unattended: drift, a race from there on, a shadow, another champion.

The monitor is killed in the middle of it, and finds what one finds that reads the outcomes in peace.
"""

import json
import math
import random
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from headrace.contracts import odcs
from headrace.contracts.events import DriftDetected, RetrainProposed
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.contracts.topics import DRIFT, OUTCOMES, RETRAINS, topic
from headrace.kafka.history import KafkaHistory
from services.monitor.domain.finding import Source
from services.monitor.domain.outcomes import OutcomeDetector
from services.monitor.domain.reading import read_outcomes
from services.monitor.domain.tolerance import Tolerance
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import command

pytestmark = pytest.mark.broker

STREAM = "turned"
MOVES = 2_500
CHUNK = 250
MOST_ROWS = 20_000
POLICY: dict[str, Any] = {
    "ask": {
        "search": {"candidates": [{"model": "tree.HoeffdingTreeClassifier"}]},
        "plan": {"warm_up_labels": 0, "guard_labels": 0},
    },
    "on_events": True,
    "cool_down_seconds": 1,
}


def lines() -> Iterator[list[bytes]]:
    """Points above or below a sine, a tenth of them mislabelled; from `MOVES` on, the other way round."""
    chance = random.Random(7)
    for begin in range(0, MOST_ROWS, CHUNK):
        chunk = []
        for row in range(begin, begin + CHUNK):
            a, b = chance.random(), chance.random()
            y = (b < math.sin(a)) != (row >= MOVES) != (chance.random() < 0.1)
            at = 1_700_000_000_000 + 1000 * row
            chunk.append(json.dumps({"row": str(row), "at": at, "a": a, "b": b}).encode())
            chunk.append(json.dumps({"type": "label", "id": str(row), "y": y, "at": at + 500}).encode())
        yield chunk


def test_what_has_moved_is_found_once_and_mended_by_itself(system: System) -> None:
    fields = [Field("row", "string"), Field("at", "time"), Field("a", "number"), Field("b", "number")]
    contract = StreamContract(STREAM, "binary", fields, label=LabelSpec("y"), id="row", event_time="at")
    system.client.create_stream(odcs.dump(contract))
    system.client.create_model("plain", {"model": "naive_bayes.GaussianNB"})
    system.client.deploy(STREAM, "plain")
    system.client.set_retraining_policy(STREAM, POLICY)

    published = 0
    for chunk in lines():
        assert system.client.publish(STREAM, chunk, "events").rejected == []
        published += CHUNK
        if published == MOVES + CHUNK:
            system.kill("monitor")
        if published > MOVES + 2 * CHUNK:
            time.sleep(0.5)
            if champion(system) != "plain":
                break
    assert champion(system) == "plain-anew", command(system, "retrain", "list", STREAM)

    found = [one for one in read(system, DRIFT.name, DriftDetected) if one.stream == STREAM]
    assert len({one.id for one in found}) == len(found)
    first = min((one for one in found if one.kind == "concept"), key=lambda one: one.offset)
    assert (first.model, first.version, first.subject) == ("plain", 1, "error")
    moved = 2 + 2 * MOVES  # the contract and the deployment come before all rows
    assert moved < first.offset < moved + 2 * 80
    assert abs(first.since_offset - moved) < 2 * 40
    told_in_peace(system, found)

    [proposed, *_] = [one for one in read(system, RETRAINS.name, RetrainProposed) if one.stream == STREAM]
    assert (proposed.drift, proposed.since) == (first.id, {0: first.since_offset})
    done = command(system, "retrain", "list", STREAM)["retrainings"][-1]
    assert done["cause"] == proposed.cause
    assert done["asked_by"] == "a retrain event"
    assert done["rollout"] is not None
    assert done["forecast"]["lost_of"] == "error"
    assert done["forecast"]["lost"] == pytest.approx(first.after - first.before)
    the_alert_has_ended(system)
    the_story_tells_it_all(system, proposed)


def champion(system: System) -> str:
    """Whose answers are served."""
    model: str = command(system, "model", "live", STREAM)["champion"]["model"]
    return model


def told_in_peace(system: System, found: list[DriftDetected]) -> None:
    """A detector that reads the outcomes in one go, and never dies, says the very same."""
    place = topic(OUTCOMES, STREAM)
    history = KafkaHistory(system.bootstrap)
    detector = OutcomeDetector(Source(STREAM, "outcomes", 0), Tolerance())
    said, outcomes = [], 0
    for batch in history.read(place, 0, *history.bounds(place, 0)):
        outcomes += len(batch.values)
        said += detector.detect(read_outcomes(batch.offsets, batch.values))

    def counted() -> int:
        count: int = system.client.get("monitor", f"/v1/streams/{STREAM}/summary")["total"]["counts"][
            "outcomes"
        ]
        return count

    system.wait(lambda: counted() == outcomes)
    alarms = [one for one in said if isinstance(one, DriftDetected)]
    kinds = ("concept", "bias", "delay")
    again = [
        one for one in read(system, DRIFT.name, DriftDetected) if one.stream == STREAM and one.kind in kinds
    ]
    assert sorted(again, key=lambda one: one.id) == sorted(alarms, key=lambda one: one.id)
    assert {one.id for one in found if one.kind in kinds} <= {one.id for one in alarms}


def the_alert_has_ended(system: System) -> None:
    """People were told when it began, and that it is over since another model answers."""

    def ended() -> bool:
        steps = system.client.get("monitor", f"/v1/alerts?stream={STREAM}")["alerts"]
        concept = [one for one in steps if one["kind"] == "concept" and one["model"] == "plain"]
        fired = {one["id"] for one in concept if one["state"] == "firing"}
        over = {one["alert"]: one["reason"] for one in concept if one["state"] == "resolved"}
        return bool(fired) and {over.get(one) for one in fired} == {"plain-anew@1 is the champion now"}

    system.wait(ended)


def the_story_tells_it_all(system: System, proposed: RetrainProposed) -> None:
    """Proposal, race, shadow, promotion, and the alert that began before and has ended since: with times and who."""
    listed = command(system, "retrain", "proposals", STREAM)["proposals"]
    [number] = [one["proposal"] for one in listed if one["event"] == proposed.id]
    told = command(system, "retrain", "story", STREAM, "--proposal", str(number))
    assert (told["outcome"], told["drift"], told["cause"]) == ("promoted", proposed.drift, proposed.cause)
    assert told["expected"]["lost"] == pytest.approx(proposed.after - proposed.before)
    assert (told["race"]["version"], told["rollout"]["stage"]) == (1, "kept")
    steps = [(step["what"], step["by"]) for step in told["steps"]]
    ours = [step for step in steps if not step[0].startswith("alert")]
    assert ours == [
        ("proposed", "a retrain event"),
        ("begun", "a retrain event"),
        ("raced", "the trainer"),
        ("shadow", "the trainer"),
        ("kept", "the judge"),
    ]
    assert ("alert firing", "the monitor") in steps
    assert steps[-1] == ("alert resolved", "the monitor")
    times = [step["at"] for step in told["steps"]]
    assert times == sorted(times)
    made = system.client.get("registry", "/v1/models/plain-anew/versions/1/lineage")
    assert f"for proposal {number} (drift {proposed.drift})" in json.dumps(made)


def read(system: System, name: str, type: Any) -> list[Any]:
    """All that was committed to partition 0 of a topic."""
    history = KafkaHistory(system.bootstrap)
    batches = history.read(name, 0, *history.bounds(name, 0))
    return [msgspec.json.decode(value or b"", type=type) for batch in batches for value in batch.values]
