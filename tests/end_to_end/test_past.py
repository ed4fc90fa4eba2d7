"""Rebuild, why and undo against a running system: everything that was said is found again, and poison is unlearnt."""

import json
import random
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from river import linear_model, preprocessing

from headrace.client import ServiceProblem
from headrace.contracts.times import to_text
from headrace.contracts.topics import ALERTS, LOG, PREDICTIONS, topic
from headrace.kafka.producer import LogProducer
from headrace.kafka.tail import Tail
from services.scoring.past import Past, Rechecker
from services.scoring.settings import ScoringSettings
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import command

pytestmark = pytest.mark.broker

STREAM = "machines"
PARTITIONS = 2
LIAR = "m3"
CONTRACT: dict[str, Any] = {
    "name": STREAM,
    "task": "binary",
    "entity": "machine",
    "event_time": "at",
    "partitions": PARTITIONS,
    "fields": [
        {"name": "machine", "type": "string", "required": True, "feature": False},
        {"name": "at", "type": "time", "required": True},
        {"name": "heat", "type": "number"},
        {"name": "speed", "type": "number"},
    ],
    "label": {"name": "broken", "type": "boolean", "wait_seconds": 3_000_000},
    "outliers": {"methods": ["bounds", "trees"], "window": 80, "share": 0.02},
}
ODD = 777
"""The observation that is far too hot."""
LOGISTIC = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]}
TREE = {"model": [{"class": "tree.HoeffdingTreeClassifier", "parameters": {"grace_period": 20}}]}


def events(first: int, count: int) -> list[bytes]:
    """Observations, each with its label some events later; one machine's labels are lies."""
    chance = random.Random(first)
    lines: list[tuple[int, dict[str, Any]]] = []
    for number in range(first, first + count):
        machine, at = f"m{number % 7}", 1_700_000_000_000 + 1000 * number
        heat, speed = round(chance.uniform(-3, 3), 3), round(chance.uniform(-3, 3), 3)
        heat = 60.0 if number == ODD else heat
        broken = (heat + speed > 0) != (machine == LIAR)
        identity = f"o{number}"
        lines.append(
            (2 * number, {"id": identity, "machine": machine, "at": at, "heat": heat, "speed": speed})
        )
        due = number + chance.randrange(1, 30)
        lines.append((2 * due + 1, {"id": identity, "entity": machine, "label": broken, "at": at + 60_000}))
    return [json.dumps(line).encode() for _, line in sorted(lines, key=lambda one: one[0])]


def publish(system: System, lines: list[bytes]) -> None:
    system.wait(lambda: bool(system.total(STREAM)))
    before = system.total(STREAM)["labels"]
    for start in range(0, len(lines), 500):
        assert system.client.publish(STREAM, lines[start : start + 500], "events").rejected == []
    labels = sum(b'"label"' in line for line in lines)
    system.wait(lambda: system.total(STREAM)["labels"] == before + labels)


def read(system: System, name: str) -> list[tuple[int, int, dict[str, Any]]]:
    """(partition, offset, document) of every record."""
    tail = Tail(system.bootstrap, name, start="earliest")
    found = []
    while not tail.caught_up():
        found += [(one.partition, one.offset, json.loads(one.value or b"")) for one in tail.read(5000, 1.0)]
    tail.close()
    return sorted(found, key=lambda one: one[:2])


def expected(log: list[tuple[int, int, dict[str, Any]]], partition: int, undone_at: int) -> dict[int, float]:
    """Scores by log offset from the hand-over on: a plain loop that never saw the liar before it."""
    model: Any = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    waiting: dict[str, dict[str, Any]] = {}
    scores = {}
    for number, offset, record in log:
        if number != partition or (record.get("entity") == LIAR and offset < undone_at):
            continue
        if record["type"] == "observation":
            if offset > undone_at:
                scores[offset] = model.predict_proba_one(record["x"])[True]
            waiting[record["id"]] = record["x"]
        elif record["type"] == "label" and record["id"] in waiting:
            model.learn_one(waiting.pop(record["id"]), record["y"])
    return scores


def test_a_model_that_learns_the_log_is_the_one_that_stood_there_from_the_start(system: System) -> None:
    contract = CONTRACT | {"name": "taught"}
    system.client.create_stream(contract)
    system.client.deploy("taught", create(system, "stood", LOGISTIC))
    lines = events(0, 600)
    assert system.client.publish("taught", lines, "events").rejected == []
    system.wait(lambda: system.total("taught")["labels"] == 600)
    folder = system.home.path
    (folder / "taught.json").write_text(json.dumps(LOGISTIC), encoding="utf-8")
    command(system, "model", "deploy", "taught", "taught.json", "--challenger", "--learn-log")

    def models() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = system.total("taught")["models"]
        return found

    system.wait(lambda: len(models()) == 2)
    stood, taught = (one["metrics"] for one in sorted(models(), key=lambda one: str(one["model"])))
    assert taught["overall"]["count"] == 600
    assert taught == stood
    verified = command(system, "rebuild", "taught@1", "--stream", "taught", "--verify")
    assert verified["well"] is True


def create(system: System, name: str, specification: dict[str, Any]) -> str:
    system.client.create_model(name, specification)
    return name


def test_the_past_is_found_again_and_poison_is_unlearnt(system: System) -> None:
    system.client.create_stream(CONTRACT)
    system.client.create_model("logistic", LOGISTIC)
    system.client.create_model("tree", TREE)
    system.client.deploy(STREAM, "logistic")
    system.client.deploy(STREAM, "tree", role="challenger")
    publish(system, events(0, 1200))

    verified = command(system, "rebuild", "logistic@1", "--verify")
    assert verified["well"] is True
    assert sum(part["predictions"]["equal"] for part in verified["partitions"]) == 1200
    assert sum(part["outcomes"]["equal"] for part in verified["partitions"]) == 1200
    assert all(list(part["models"]) == ["logistic@1"] for part in verified["partitions"])

    system.kill("scoring")  # what was said lives in the log, not in the process
    story = command(system, "why", f"o{ODD}")
    assert story["equal"] is True
    assert story["prediction"]["id"] == f"o{ODD}"
    assert story["prediction"]["outliers"] == ["heat"]
    assert 0.0 < story["prediction"]["anomaly"] <= 1.0
    assert [one["model"] for one in story["models"]] == ["logistic", "tree"]
    assert story["models"][0]["score"] == story["prediction"]["score"]
    assert story["label"]["y"] == story["outcome"]["y"]
    place = f"{STREAM}/{story['partition']}/{story['offset']}"
    assert command(system, "why", place)["models"] == story["models"]
    assert command(system, "why", "o99999", code=1)["error"].startswith("no observation with the id")

    learnt = story.pop("learnt")  # the registry's to know
    assert (learnt["model"], learnt["version"], learnt["contracts"]) == ("logistic", 1, [1])
    assert learnt["learnt"] == {str(story["partition"]): {"from": 1, "before": story["offset"]}}
    assert system.client.get("scoring", "/v1/predictions/o777") == story
    assert system.client.get("scoring", f"/v1/predictions/o777?stream={STREAM}") == story
    for path in ("o99999", "o777?stream=nowhere"):
        with pytest.raises(ServiceProblem) as problem:
            system.client.get("scoring", f"/v1/predictions/{path}")
        assert problem.value.status == 404

    before_it = to_text(time.time_ns() // 1_000_000)
    undone = command(system, "undo", STREAM, "logistic", "--without", f"entity:{LIAR}")
    assert undone["version"] == 2
    assert sorted(map(int, undone["offsets"])) == [0, 1]
    publish(system, events(1200, 300))
    log, said = read(system, topic(LOG, STREAM)), read(system, topic(PREDICTIONS, STREAM))
    compared = 0
    for partition in range(PARTITIONS):
        scores = expected(log, partition, int(undone["offsets"][str(partition)]))
        emitted = {
            one["offset"]: one["score"]
            for number, _, one in said
            if number == partition and one["version"] == 2
        }
        assert emitted == scores
        compared += len(scores)
    assert compared == 300
    again = command(system, "rebuild", "logistic@2", "--stream", STREAM, "--verify")
    assert again["well"] is True
    assert sum(part["predictions"]["equal"] for part in again["partitions"]) == 1500
    versions = system.client.get("registry", "/v1/models/logistic")["versions"]
    assert [(one["version"], one["parent"]) for one in versions] == [(1, None), (2, 1)]
    assert versions[1]["without"] == {"entities": [LIAR]}
    placed = system.client.stream(STREAM)["deployments"]
    assert [(one["version"], one["frozen"]) for one in placed if one["model"] == "logistic"] == [(2, False)]
    assert command(system, "undo", STREAM, "logistic", "--without", "nonsense", code=1)["error"]
    for at, version in (([], 2), (["--at", before_it], 1)):
        then = command(system, "model", "live", STREAM, *at)["champion"]
        assert (then["model"], then["version"], then["decided_by"]) == ("logistic", version, "cli")
    a_forged_prediction_is_noticed(system, said)


def a_forged_prediction_is_noticed(system: System, said: list[tuple[int, int, dict[str, Any]]]) -> None:
    """The sampled check is silent about what is true, and tells of what somebody else wrote."""
    metrics = CollectorRegistry()
    settings = ScoringSettings(bootstrap=system.bootstrap, home=system.home.path)
    rechecker = Rechecker(Past(settings), system.bootstrap, 0, list, metrics)

    def counted(result: str) -> float:
        labels = {"stream": STREAM, "result": result}
        return metrics.get_sample_value("headrace_scoring_rechecks_total", labels) or 0

    place = (topic(LOG, STREAM), 1)
    for pick in (0.0, 0.999):
        rechecker.check(place, pick)
    assert (counted("equal"), counted("different"), counted("not_done")) == (2, 0, 0)
    _, _, true = next(one for one in said if one[0] == 1)
    producer = LogProducer(system.bootstrap, client_id="forger")
    forged = json.dumps({**true, "score": 0.5}).encode()
    producer.send(topic(PREDICTIONS, STREAM), [{"key": b"m1", "value": forged}], 1).result(30)
    producer.close(5)
    rechecker.check(place, 0.999)
    assert counted("different") == 1
    alerts = [one for _, _, one in read(system, ALERTS.name) if one["rule"] == "rebuild-differs"]
    assert [(one["stream"], one["value"], one["state"]) for one in alerts] == [(STREAM, 1.0, "firing")]
