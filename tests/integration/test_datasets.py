"""Datasets in the registry: the same on SQLite and PostgreSQL; and, on a real Kafka with an archive, the whole way."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from headrace import keys
from headrace.archive.archiver import Archiver, Closing
from headrace.archive.reading import Archive
from headrace.contracts.left_out import LeftOut, OffsetRange, parse
from headrace.contracts.stream import from_dict
from headrace.contracts.topics import LOG, REGISTRY, topic
from headrace.datasets.measure import measure
from headrace.datasets.measurement import Stretch
from headrace.datasets.source import Source
from headrace.datasets.verify import verify
from headrace.errors import Unusable
from headrace.history import Bounds
from headrace.kafka import admin
from headrace.kafka.history import KafkaHistory
from headrace.kafka.producer import LogProducer
from headrace.testing import builders
from headrace.web import PROBLEM
from services.registry.__main__ import compose
from services.registry.archiving import Archiving
from services.registry.catalog import Catalog
from services.registry.datasets import DatasetStore
from services.registry.decisions import Absent
from services.registry.domain.audit import By
from services.registry.domain.datasets import Reference
from services.registry.domain.lifecycle import Conflict
from services.registry.measurer import Result, Task
from services.registry.measuring import Measuring
from services.registry.registry import now_ms
from services.registry.settings import RegistrySettings
from tests.integration.registry_memory import ADA, OTHER, SPECIFICATION, FakeLog, Opened, contract, opened
from tests.unit.datasets.logs import Log, at_offsets, events, values

BOB = By("bob", "for the audit")


class Shown:
    """`History` of what a `FakeLog` was written; `more` offsets follow in each partition."""

    def __init__(self, log: FakeLog) -> None:
        self.log = log
        self.more = 100
        self.first = 0

    def partitions(self, topic: str) -> int:
        return len(self.log.records[topic.removesuffix(".log")])

    def bounds(self, topic: str, partition: int) -> Bounds:
        return Bounds(self.first, len(self.log.records[topic.removesuffix(".log")][partition]) + self.more)

    def read(self, topic: str, partition: int, start: int, end: int) -> Any:
        raise NotImplementedError


class World:
    """A registry's memory with stream `s` of three partitions, and a catalog over it."""

    def __init__(self, url: str) -> None:
        self.memory: Opened = opened(url)
        self.log = FakeLog()
        self.registry = self.memory.registry(self.log)
        self.registry.adopt(from_dict(contract("s")), ADA)
        self.store = DatasetStore(self.memory.database, now_ms, self.memory.trail)
        self.history = Shown(self.log)
        self.catalog = Catalog(self.registry, self.store, self.history)

    def create(self, name: str = "d", asked: Any = None, without: LeftOut | None = None, **more: Any) -> Any:
        return self.catalog.create(name, more.pop("stream", "s"), asked, without or LeftOut(), "", BOB)


@pytest.fixture
def world(database: str) -> Iterator[World]:
    made = World(database)
    yield made
    made.memory.database.close()


def test_the_same_content_is_the_same_version_and_other_content_the_next(world: World) -> None:
    assert world.create(asked={0: (0, 50), 1: (3, 7)}) == (1, True)
    assert world.create(asked={1: (3, 7), 0: (0, 50)}) == (1, False)
    assert world.create(asked={0: (0, 51), 1: (3, 7)}) == (2, True)
    one, other = (
        LeftOut(["x", "y"], [], [OffsetRange(0, 1, 2)]),
        LeftOut(["y", "x"], [], [OffsetRange(0, 1, 2)]),
    )
    assert world.create(asked={0: (0, 50), 1: (3, 7)}, without=one) == (3, True)
    assert world.create(asked={0: (0, 50), 1: (3, 7)}, without=other) == (3, False)
    assert world.create(asked={0: (0, 50), 1: (3, 7)}) == (1, False)
    assert world.create("e", {0: (0, 50)}) == (1, True)
    row = world.store.get("d", 3)
    assert (row.ranges, row.contracts, row.created_by, row.reason) == (
        {"0": [0, 50], "1": [3, 7]}, [1], "bob", "for the audit",
    )  # fmt: skip
    world.registry.adopt(from_dict(contract("t")), ADA)
    with pytest.raises(Conflict, match="dataset d is of stream s"):
        world.create(stream="t")
    with pytest.raises(Absent, match="no version 4 of dataset d"):
        world.store.get("d", 4)


def test_all_that_there_is_is_what_the_log_holds_now(world: World) -> None:
    world.history.first = 1
    world.create()
    assert world.store.get("d", 1).ranges == {part: [1, 101] for part in "012"}
    world.history.more += 1
    assert world.create() == (2, True)
    assert world.create(asked={2: (None, 60)}) == (3, True)
    assert world.store.get("d", 3).ranges == {"2": [1, 60]}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({3: (0, 1)}, "the log has no partition 3"),
        ({0: (0, 10)}, "partition 0: nobody has the offsets below 5"),
        ({0: (5, 102)}, "partition 0: the log ends at offset 101"),
        ({0: (9, 9)}, "partition 0: a range begins before it ends"),
        ({}, "there is no record"),
        ({0: (101, None)}, "there is no record"),
    ],
)
def test_what_is_not_there_is_refused(world: World, asked: Any, says: str) -> None:
    world.history.first = 5
    with pytest.raises(Unusable, match=says):
        world.create(asked=asked)
    with pytest.raises(Absent):
        world.store.versions("d", 10)


def test_names_and_streams_are_checked(world: World) -> None:
    with pytest.raises(Unusable, match="no dataset name"):
        world.create("D")
    with pytest.raises(Absent, match="no stream t"):
        world.create(stream="t")


def test_contracts_are_those_in_force_over_the_range(world: World) -> None:
    world.history.more = 0
    for _ in range(2):  # what else is in the log is not looked at
        world.log.records["s"][0].append(b"x")
    wider = contract("s")
    wider["fields"].append({"name": "c", "type": "string"})
    world.registry.adopt(from_dict(wider), ADA)
    world.log.records["s"][0].append(b"x")
    assert [one.offsets for one in world.registry.adoptions("s")] == [
        {"0": 0, "1": 0, "2": 0}, {"0": 3, "1": 1, "2": 1},
    ]  # fmt: skip
    for asked, versions in (
        ({0: (1, 3)}, [1]),
        ({0: (1, 4)}, [1, 2]),
        ({0: (4, 5)}, [2]),
        ({0: (0, 1)}, [1]),
    ):
        version, _ = world.create(asked=asked)
        assert world.store.get("d", version).contracts == versions


def test_creating_at_once_leaves_no_gap_and_no_double(database: str) -> None:
    """Two registries on one database, eight threads, ten references."""
    worlds = [World(database), World(database)]
    worlds[1].catalog._history = worlds[0].history

    def create(number: int) -> tuple[int, int]:
        version, _ = worlds[number % 2].create(asked={0: (0, 10 + number % 10)})
        return number % 10, version

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(40)))
    assert len(set(made)) == 10  # one reference, one version
    rows = worlds[0].store.versions("d", 100)
    assert [row.version for row in rows] == list(range(10, 0, -1))
    found = worlds[0].registry.examine()
    assert found.fault is None
    assert [one.action for one in worlds[0].memory.trail.page(100)].count("dataset") == 10
    for one in worlds:
        one.memory.database.close()


def measured() -> Any:
    log = Log(at_offsets(values(events(1, 50))))
    return measure(Source(log), "s", [Stretch(0, 0, log.bounds("", 0).end)], 0)


def test_what_was_measured_is_written_once_and_recorded(world: World) -> None:
    world.create(asked={0: (0, 50)}, without=LeftOut(["somebody"]))
    [row] = world.store.to_measure(5)
    assert world.store.measurement("d", 1) is None
    first = measured()
    assert world.store.measured(row, first)
    assert not world.store.measured(row, first)
    world.store.failed(row, "too late")
    after = world.store.get("d", 1)
    assert (after.state, after.failure, after.digest, after.records) == (
        "measured", "", first.digest, first.quality.records,
    )  # fmt: skip
    assert world.store.measurement("d", 1) == first
    assert world.store.to_measure(5) == []
    made, recorded = world.memory.trail.page(2)[::-1]
    assert (made.action, made.stream, made.who, made.why) == ("dataset", "s", "bob", "for the audit")
    assert '"dataset":"d@1"' in made.after
    assert "somebody" not in made.after
    assert (recorded.action, recorded.who) == ("dataset-measure", "the registry")
    assert first.digest in recorded.after


def test_what_could_not_be_measured_is_tried_again_when_it_is_asked_for_again(world: World) -> None:
    world.create(asked={0: (0, 50)})
    world.create(asked={0: (0, 51)})
    [first, second] = world.store.to_measure(5)
    world.store.failed(first, "x" * 5000)
    assert [row.version for row in world.store.to_measure(5)] == [2]
    failed = world.store.get("d", 1)
    assert (failed.state, len(failed.failure)) == ("failed", 1000)
    assert world.create(asked={0: (0, 50)}) == (1, False)
    assert [row.version for row in world.store.to_measure(5)] == [1, 2]
    assert second.version == 2


def test_pages_go_through_everything_once(world: World) -> None:
    world.registry.adopt(from_dict(contract("t")), ADA)
    for name in ("b", "a", "c"):
        for end in (10, 11, 12):
            world.create(name, {0: (0, end)}, stream="t" if name == "c" else "s")
    first = world.store.latest(2)
    assert [(row.name, row.version) for row in first] == [("a", 3), ("b", 3)]
    assert [row.name for row in world.store.latest(2, "b")] == ["c"]
    assert [row.name for row in world.store.latest(9, stream="t")] == ["c"]
    assert [row.version for row in world.store.versions("a", 2)] == [3, 2]
    assert [row.version for row in world.store.versions("a", 2, 2)] == [1]
    assert world.store.versions("a", 2, 1) == []
    assert {row.name for row in world.store.of_stream("s", 99)} == {"a", "b"}


def test_who_learnt_from_it_and_which_of_them_a_version_saw(world: World) -> None:
    """Offsets of decisions: the log has the contract at 0; m comes at 1, n at 2 with the log learnt, m goes at 3."""
    registry = world.registry
    registry.submit("m", SPECIFICATION, "", ADA)
    registry.submit("n", OTHER, "", ADA)
    registry.deploy("s", "m", None, "challenger", ADA)
    registry.deploy("s", "n", None, "challenger", ADA, learnt=True)
    registry.change("s", "m", "retire", ADA)
    world.create(asked={0: (0, 10), 1: (0, 6)})
    world.create(asked={0: (0, 1)})
    first, second = world.store.get("d", 1), world.store.get("d", 2)
    found = {(link.life.model, link.life.version): link for link in world.catalog.seen_by(first)}
    assert found["m", 1].ranges == {"0": (1, 3), "1": (1, 3)}
    assert found["m", 1].share == 4 / 16
    assert found["n", 1].share == 1.0
    assert [link.life.model for link in world.catalog.seen_by(second)] == ["n"]
    [(_, life)] = registry.lives_of("m")
    assert [(link.dataset.name, link.dataset.version) for link in world.catalog.seen("s", life)] == [("d", 1)]
    [(_, life)] = registry.lives_of("n")
    assert {link.dataset.version: link.share for link in world.catalog.seen("s", life)} == {1: 1.0, 2: 1.0}


def test_a_reference_is_told_by_its_content() -> None:
    different = {
        Reference("s", {"0": (0, 9)}).digest,
        Reference("t", {"0": (0, 9)}).digest,
        Reference("s", {"1": (0, 9)}).digest,
        Reference("s", {"0": (0, 10)}).digest,
        Reference("s", {"0": (0, 9)}, parse(["entity:x"])).digest,
        Reference("s", {"0": (0, 9)}, parse(["source:x"])).digest,
    }
    assert len(different) == 6


def test_what_cannot_be_reached_keeps_nobody_waiting_and_a_process_that_dies_is_a_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for end in (50, 51, 52):
        world.create(asked={0: (0, end)})
    results = [Result(failure="the broker is away", again=True), Result(measured())]
    metrics = CollectorRegistry()
    measuring = Measuring(world.registry, world.catalog, "nowhere:1", "", metrics)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    died = measuring._run

    def run(task: Task) -> Result:
        assert (task.stream, task.stretches[0].start) == ("s", 0)
        return results.pop(0) if results else died(task)

    monkeypatch.setattr(measuring, "_run", run)
    measuring.start()
    deadline = time.monotonic() + 20
    while world.store.get("d", 3).state == "measuring":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    measuring.stop()
    assert [world.store.get("d", version).state for version in (1, 2, 3)] == [
        "measuring",
        "measured",
        "failed",
    ]
    assert world.store.get("d", 3).failure == "the process that measured it ended with exit code 1"
    for state in ("measured", "failed"):
        assert metrics.get_sample_value("headrace_registry_datasets_measured_total", {"state": state}) == 1


# -- over HTTP, on a real Kafka, with an archive ----------------------------------------------------------------------


class System:
    """A registry on a real Kafka with an archive; `s` is a stream of one partition whose log is `made`."""

    def __init__(
        self, kafka: str, stream: str, folder: Path, client: TestClient, secrets: dict[str, str]
    ) -> None:
        self.kafka, self.stream, self.folder, self.client, self.secrets = (
            kafka,
            stream,
            folder,
            client,
            secrets,
        )
        self.archive = Archive.at((folder / "archive").as_uri())
        declared = {**contract(stream), "partitions": 1, "label": {"name": "late", "wait_seconds": 50}}
        declared["fields"] = [{"name": "n", "type": "number"}, {"name": "t", "type": "string"}]
        assert client.post("/v1/streams", json={"contract": declared}).status_code == 201
        self.made = events(1, 1500)[1:]  # behind the contract that the registry has written
        self.publish(values(self.made))
        self.name = topic(LOG, stream)

    def publish(self, some: list[Any], kind: str = LOG.name) -> None:
        producer = LogProducer(self.kafka, client_id="test")
        for start in range(0, len(some), 500):
            messages: Any = [{"key": b"k", "value": value} for value in some[start : start + 500]]
            producer.send(f"{self.stream}.{kind}", messages, 0).result(30)
        producer.close(10)

    def create(self, **body: Any) -> Any:
        reason = body.pop("reason", "")
        path = f"/v1/datasets?reason={reason}" if reason else "/v1/datasets"
        return self.client.post(path, json={"name": self.stream, "stream": self.stream, **body})

    def measured(self, version: int) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            found: dict[str, Any] = self.client.get(f"/v1/datasets/{self.stream}/versions/{version}").json()
            if found["state"] != "measuring":
                return found
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def archived(self, keep: int) -> None:
        metrics = CollectorRegistry()
        made = Archiving(self.kafka, self.archive, list, lag_seconds=3600, keep_records=keep, metrics=metrics)
        made.archive(self.stream, 1, flush=True)
        assert (
            metrics.get_sample_value("headrace_registry_archive_failures_total", {"stream": self.stream})
            is None
        )


@pytest.fixture
def system(kafka: str, fresh_name: str, tmp_path: Path) -> Iterator[System]:
    secrets = {role: keys.create(tmp_path / "keys.json", f"the-{role}", role) for role in keys.ROLES}
    settings = RegistrySettings(bootstrap=kafka, home=tmp_path, archive=(tmp_path / "archive").as_uri())
    with TestClient(compose(settings), headers={"Authorization": f"Bearer {secrets['admin']}"}) as client:
        deadline = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, client.get("/readyz").text
            time.sleep(0.05)
        yield System(kafka, fresh_name, tmp_path, client, secrets)
    # Other tests' services follow this broker's announcements, and this stream's log is trimmed: take it back.
    producer = LogProducer(kafka, client_id="test")
    producer.send(REGISTRY.name, [{"key": f"stream/{fresh_name}".encode(), "value": None}]).result(20)
    producer.close(5.0)


@pytest.mark.broker
def test_a_dataset_is_the_same_from_kafka_and_from_the_archive_and_tampering_is_named(system: System) -> None:
    created = system.create(reason="for the audit")
    assert created.status_code == 201, created.text
    assert created.json() == {"name": system.stream, "version": 1, "created": True}
    assert created.headers["location"] == f"/v1/datasets/{system.stream}/versions/1"
    from_kafka = system.measured(1)
    assert from_kafka["state"] == "measured", from_kafka["failure"]
    count = len(system.made) + 1
    assert from_kafka["ranges"] == {"0": {"from": 0, "before": count}}
    assert (from_kafka["contracts"], from_kafka["reason"], from_kafka["created_by"]) == (
        [1],
        "for the audit",
        "the-admin",
    )
    measured = from_kafka["measurement"]
    assert measured["quality"]["records"] == from_kafka["records"] == count
    assert {one["name"] for one in measured["profile"]["fields"]} == {"n", "t"}
    assert measured["archived"] == []

    # All is archived, and Kafka has the last hundred only: other versions of the same records.
    system.archived(keep=100)
    live = KafkaHistory(system.kafka)
    assert live.bounds(system.name, 0).first == count - 100
    assert system.create().status_code == 200  # the same reference is the same version, whoever has the bytes
    again = {"0": {"from": 0, "before": count}}
    assert system.create(name=f"{system.stream}-again", ranges=again).status_code == 201
    path = f"/v1/datasets/{system.stream}-again/versions/1"
    deadline = time.monotonic() + 60
    while (from_archive := system.client.get(path).json())["state"] == "measuring":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert from_archive["digest"] == from_kafka["digest"]
    assert from_archive["measurement"]["profile"] == measured["profile"]
    assert from_archive["measurement"]["partitions"] == measured["partitions"]
    [known] = from_archive["measurement"]["archived"]
    assert (known["start"], known["end"]) == (0, count)
    # Who was refused meanwhile can be told of a log that Kafka has, and no longer of one that it has not.
    assert measured["quality"]["rejected"]["records"] == 0
    assert "Kafka no longer has all" in from_archive["measurement"]["quality"]["rejected"]["untold"]

    # Read again by somebody else; then a segment is tampered with.
    source = Source(live, system.archive, live)
    stretch = Stretch(0, 0, count)
    found = measure(source, system.stream, [stretch], now_ms())
    assert found.digest == from_kafka["digest"]
    assert verify(source, system.stream, [stretch], found) == []
    [segment] = (system.folder / "archive" / system.name / "0" / "segments").iterdir()
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    wrong = verify(source, system.stream, [stretch], found)
    assert wrong
    assert all(
        f"archive segment {system.name}/0/segments/{segment.name} is damaged" in one.says for one in wrong
    )
    # And what cannot be read cannot be measured.
    system.create(name=f"{system.stream}-late", ranges={"0": {"from": 0, "before": 500}})
    path = f"/v1/datasets/{system.stream}-late/versions/1"
    while (failed := system.client.get(path).json())["state"] == "measuring":
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)
    assert failed["state"] == "failed"
    assert "is damaged" in failed["failure"]
    assert failed["digest"] is None


@pytest.mark.broker
def test_a_log_that_was_made_anew_with_other_records_is_found(kafka: str, fresh_name: str) -> None:
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    log, source = topic(LOG, fresh_name), Source(KafkaHistory(kafka))

    def publish(some: list[Any]) -> None:
        producer = LogProducer(kafka, client_id="test")
        producer.send(log, [{"key": b"k", "value": value} for value in some], 0).result(30)
        producer.close(10)

    made = values(events(1, 300))
    publish(made)
    stretch = Stretch(0, 0, len(made))
    found = measure(source, fresh_name, [stretch], now_ms())
    assert verify(source, fresh_name, [stretch], found) == []
    client = admin._admin(kafka)
    for future in client.delete_topics([log]).values():
        future.result(30)
    deadline = time.monotonic() + 30
    while log in client.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    other = list(made)
    other[123] = made[124]
    publish(other)
    [wrong] = verify(source, fresh_name, [stretch], found)
    assert f"what lies in offsets 0 to {len(made) - 1} is not what was measured" in wrong.says


@pytest.mark.broker
def test_what_was_refused_while_the_log_was_written_is_counted(system: System) -> None:
    refused = b'{"at":1,"rule":"%s","reason":"","original":"","origin":"http"}'
    system.publish([refused % b"json", refused % b"range", refused % b"range"], "rejected")
    time.sleep(0.01)
    system.create()
    rejected = system.measured(1)["measurement"]["quality"]["rejected"]
    assert (rejected["records"], rejected["by_rule"]) == (3, {"json": 1, "range": 2})
    sent = system.measured(1)["measurement"]["quality"]
    assert rejected["share"] == 3 / (3 + sent["observations"] + sent["duplicates"] + sent["labels"])
    time.sleep(0.01)
    end = KafkaHistory(system.kafka).bounds(system.name, 0).end
    system.publish(values([builders.observation("more", {"n": 1.0}, at=1)]))
    time.sleep(0.01)
    system.publish([refused % b"later"], "rejected")
    system.create(ranges={"0": {"from": 1, "before": end}})
    assert system.measured(2)["measurement"]["quality"]["rejected"]["by_rule"] == {"json": 1, "range": 2}
    system.create(ranges={"0": {"from": end}})
    assert system.measured(3)["measurement"]["quality"]["rejected"]["by_rule"] == {"later": 1}


@pytest.mark.broker
def test_the_routes_keep_roles_pages_and_problems(system: System) -> None:
    client, stream = system.client, system.stream

    def roles(role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {system.secrets[role]}"}

    body = {"name": stream, "stream": stream, "without": ["entity:e1"], "description": "without one"}
    for role, status in (("reader", 403), ("producer", 403), ("operator", 201), ("admin", 200)):
        assert client.post("/v1/datasets", json=body, headers=roles(role)).status_code == status
    for path in ("/v1/datasets", f"/v1/datasets/{stream}", f"/v1/datasets/{stream}/versions/1"):
        assert client.get(path, headers=roles("reader")).status_code == 200
        assert client.get(path, headers={"Authorization": ""}).status_code == 401
    for more in ({"ranges": {"x": {}}}, {"ranges": {"0": {"from": -1}}}, {"ranges": {"9": {}}}, {"name": "Bad Name"},
                 {"without": ["nobody"]}, {"without": ["offsets:9:0..5"]}, {"extra": 1}):  # fmt: skip
        answer = client.post("/v1/datasets", json={**body, **more})
        assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM), more
    assert client.post("/v1/datasets", json={**body, "stream": "nobody"}).status_code == 404
    assert client.get("/v1/datasets/nobody").status_code == 404
    assert client.get(f"/v1/datasets/{stream}/versions/2").status_code == 404
    assert system.create(ranges={"0": {"before": 10}}).json()["version"] == 2
    page = client.get(f"/v1/datasets/{stream}?limit=1").json()
    assert ([one["version"] for one in page["versions"]], page["next"]) == ([2], 2)
    page = client.get(f"/v1/datasets/{stream}?limit=1&below=2").json()
    assert ([one["version"] for one in page["versions"]], page["next"]) == ([1], None)
    assert page["versions"][0]["without"] == ["entity:e1"]
    found = client.get(f"/v1/datasets?stream={stream}").json()
    assert [(one["name"], one["version"]) for one in found["datasets"]] == [(stream, 2)]
    assert [one["action"] for one in client.get(f"/v1/audit?stream={stream}").json()["records"]].count(
        "dataset"
    ) == 2
    assert client.get("/v1/audit/verify").json()["fault"] is None


@pytest.mark.broker
def test_lineage_and_datasets_name_each_other(system: System) -> None:
    client, stream = system.client, system.stream
    specification = {
        "model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
        "inputs": ["n"],
    }
    assert client.post("/v1/models", json={"name": stream, "specification": specification}).status_code == 201
    deployed = client.post(f"/v1/streams/{stream}/deployments", json={"model": stream}).json()
    place = deployed["offsets"]["0"]
    system.publish(values([builders.observation(f"x{n}", {"n": 1.0}, at=n) for n in range(place)]))
    assert system.create(ranges={"0": {"from": 0}}).status_code == 201
    [saw] = client.get(f"/v1/datasets/{stream}/versions/1").json()["seen_by"]
    end = KafkaHistory(system.kafka).bounds(system.name, 0).end
    assert (saw["model"], saw["version"], saw["ranges"]) == (stream, 1, {"0": {"from": place, "before": end}})
    assert saw["share"] == (end - place) / end
    [life] = client.get(f"/v1/models/{stream}/versions/1/lineage").json()["lives"]
    assert [(one["name"], one["version"], one["share"]) for one in life["datasets"]] == [
        (stream, 1, saw["share"])
    ]


@pytest.mark.broker
def test_contract_versions_say_who_when_where_and_what_changed(system: System) -> None:
    client, stream = system.client, system.stream
    first = client.get(f"/v1/streams/{stream}/versions/1").json()
    assert (first["changes"], first["offsets"], first["created_by"]) == ([], {"0": 0}, "the-admin")
    wider = dict(first["contract"])
    wider["fields"] = [*wider["fields"], {"name": "u", "type": "string"}]
    wider["label"] = {**wider["label"], "wait_seconds": 60}
    assert client.post("/v1/streams", json={"contract": wider}).status_code == 201
    second = client.get(f"/v1/streams/{stream}/versions/2").json()
    assert {one["where"]: (one["before"], one["after"]) for one in second["changes"]} == {
        "fields.u": (None, {"name": "u", "type": "string", "feature": True}),
        "label.wait_seconds": (50, 60),
    }
    assert second["offsets"] == {"0": len(system.made) + 1}
    listed = client.get(f"/v1/streams/{stream}/versions").json()
    assert (listed["versions"], listed["next"]) == ([first, second], None)
    page = client.get(f"/v1/streams/{stream}/versions?limit=1").json()
    assert (page["versions"], page["next"]) == ([first], 1)
    assert client.get(f"/v1/streams/{stream}/versions?limit=1&after=1").json()["versions"] == [second]
    assert client.get(f"/v1/streams/{stream}/versions/3").status_code == 404
    assert client.get("/v1/streams/nobody/versions").status_code == 404


def test_archived_segments_of_any_size_give_one_digest(tmp_path: Path) -> None:
    records = at_offsets(values(events(4, 800)))
    log = Log(records)
    end = log.bounds("", 0).end
    found = set()
    for size in (100, 333, 10_000):
        archive = Archive.at((tmp_path / str(size)).as_uri())
        Archiver(log, archive, Closing(records=size)).run("s.log", 0, flush=True)

        class Gone(Log):
            def bounds(self, topic: str, partition: int) -> Bounds:
                return Bounds(end, end)

        found.add(measure(Source(Gone(records), archive), "s", [Stretch(0, 0, end)], 0).digest)
    assert found == {measure(Source(log), "s", [Stretch(0, 0, end)], 0).digest}
