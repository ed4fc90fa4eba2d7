"""From a prediction to its version, what that learnt, under which contract, how much of it was rejected, and whence."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from headrace.contracts.times import to_text
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import command

pytestmark = pytest.mark.broker

STREAM = "pumps"
LIAR = "/sensors/broken"
START = 1_700_000_000_000
CONTRACT: dict[str, Any] = {
    "name": STREAM,
    "task": "binary",
    "entity": "pump",
    "event_time": "at",
    "fields": [
        {"name": "pump", "type": "string", "required": True, "feature": False},
        {"name": "at", "type": "time", "required": True},
        {"name": "heat", "type": "number", "minimum": -10, "maximum": 10},
        {"name": "kind", "type": "string"},
    ],
    "label": {"name": "broken", "type": "boolean", "wait_seconds": 3_000_000},
}
MODEL = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"], "inputs": ["heat"]}


def event(kind: str, number: int, source: str, data: dict[str, Any]) -> bytes:
    envelope = {"specversion": "1.0", "id": f"{kind}{number}", "source": source, "type": f"headrace.{kind}"}
    return json.dumps({**envelope, "data": data}).encode()


def events(first: int, count: int) -> list[bytes]:
    """Observations and their labels; every fifth from a broken sensor, every tenth observation out of range."""
    chance = random.Random(first)
    lines = []
    for number in range(first, first + count):
        at, pump = START + 1000 * number, f"p{number % 7}"
        source = LIAR if number % 5 == 0 else "/sensors/good"
        heat = 99.0 if number % 10 == 1 else round(chance.uniform(-3, 3), 3)
        data = {"id": f"o{number}", "pump": pump, "at": at, "heat": heat, "kind": "ab"[number % 2]}
        lines.append(event("observation", number, source, data))
        told = {"id": f"o{number}", "entity": pump, "at": at + 500, "label": heat > 0}
        lines.append(event("label", number, source, told))
    return lines


def publish(system: System, first: int, count: int) -> None:
    answer = system.client.publish(STREAM, events(first, count), "events")
    assert len(answer.rejected) == count // 10
    assert {one.rule for one in answer.rejected} == {"range"}
    system.wait(lambda: system.total(STREAM)["labels"] == first + count)


def shares(measurement: dict[str, Any]) -> dict[str, int]:
    return {one["value"]: one["count"] for one in measurement["profile"]["sources"]}


def test_a_prediction_leads_to_its_data_and_the_data_to_its_models(system: System, tmp_path: Path) -> None:
    system.client.create_stream(CONTRACT)
    system.client.create_model(STREAM, MODEL)
    system.client.deploy(STREAM, STREAM)
    system.wait(lambda: bool(system.total(STREAM)))
    publish(system, 0, 400)
    publish(system, 400, 10)

    # A prediction, its version, what that had learnt by then, under which contract, from where, how much was refused.
    story = command(system, "why", "o400", "--data")
    learnt = story["learnt"]
    assert (learnt["model"], learnt["version"], learnt["contracts"]) == (STREAM, 1, [1])
    assert learnt["learnt"] == {"0": {"from": 1, "before": story["offset"]}}
    quality = learnt["data"]["quality"]
    assert (quality["observations"], quality["labels"], quality["unmatched"]) == (360, 400, 40)
    assert quality["rejected"]["by_rule"] == {"range": 40}
    assert quality["rejected"]["share"] == pytest.approx(40 / (40 + 360 + 400))
    assert shares(learnt["data"]) == {"/sensors/good": 600, LIAR: 160}

    # Named, it is the same for everybody, and leads back to who learnt from it.
    made = command(system, "dataset", "create", "first", "--stream", STREAM, "--description", "the first 410",
                   "--reason", "asked for")  # fmt: skip
    assert (made["version"], made["created"], made["state"], made["reason"]) == (
        1,
        True,
        "measured",
        "asked for",
    )
    assert made["measurement"]["quality"]["rejected"]["records"] == 41
    again = command(system, "dataset", "create", "first", "--stream", STREAM)
    assert (again["version"], again["created"], again["digest"]) == (1, False, made["digest"])
    [saw] = made["seen_by"]
    assert (saw["model"], saw["version"], saw["ended_at"]) == (STREAM, 1, None)
    assert saw["share"] == pytest.approx(1 - 1 / made["ranges"]["0"]["before"])
    verified = command(system, "dataset", "verify", "first@1")
    assert (verified["well"], verified["digest"], verified["records"]) == (
        True,
        made["digest"],
        made["records"],
    )
    lineage = command(system, "model", "lineage", f"{STREAM}@1", "--data")
    [life] = lineage["lives"]
    assert [(one["name"], one["version"]) for one in life["datasets"]] == [("first", 1)]
    assert life["data"]["quality"]["observations"] == 369

    # A time is a place in the log: the first record that is not before it.
    since, until = (to_text(START + 1000 * number) for number in (100, 200))
    part = command(system, "dataset", "create", "first", "--stream", STREAM, "--from", since, "--to", until)
    assert part["version"] == 2
    profile = part["measurement"]["profile"]
    assert (profile["first_at"], profile["last_at"]) == (START + 100_000, START + 199_500)
    assert part["measurement"]["quality"]["observations"] == 90
    assert part["measurement"]["quality"]["rejected"]["records"] is not None
    listed = command(system, "dataset", "list")["datasets"]
    assert [(one["name"], one["version"]) for one in listed if one["stream"] == STREAM] == [("first", 2)]
    assert [one["version"] for one in command(system, "dataset", "list", "first")["datasets"]] == [2, 1]
    assert command(system, "dataset", "show", "first")["version"] == 2

    # After an undo the lineage tells the data without what was left out; a dataset without it is another.
    command(system, "undo", STREAM, STREAM, "--without", f"source:{LIAR}")
    publish(system, 410, 100)
    [life] = command(system, "model", "lineage", f"{STREAM}@2", "--data")["lives"]
    assert shares(life["data"]) == {"/sensors/good": 615 + 150, LIAR: 40}  # those after the undo were learnt
    clean = command(system, "dataset", "create", "clean", "--stream", STREAM, "--without", f"source:{LIAR}")
    assert shares(clean["measurement"]) == {"/sensors/good": 765}
    assert clean["measurement"]["quality"]["left_out"] == 164 + 40
    assert {one["version"]: one["without"] for one in clean["seen_by"]} == {1: False, 2: True}
    assert command(system, "dataset", "verify", "clean")["well"]

    # Contracts by version.
    wider = {**CONTRACT, "fields": [*CONTRACT["fields"], {"name": "age", "type": "number"}]}
    system.client.create_stream(wider)
    versions = command(system, "stream", "contract", STREAM)["versions"]
    assert [(one["version"], [change["where"] for change in one["changes"]]) for one in versions] == [
        (1, []), (2, ["fields.age"]),
    ]  # fmt: skip
    shown = command(system, "stream", "contract", STREAM, "--version", "1")
    assert (shown["digest"], shown["created_by"]) == (versions[0]["digest"], "cli")
    document = command(system, "stream", "contract", STREAM, "--version", "1", "--document")["document"]
    assert "age" not in document
    assert "heat" in document
    assert command(system, "dataset", "show", "nothing", code=1)["error"]
