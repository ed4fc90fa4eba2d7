"""The registry: on SQLite and PostgreSQL, against a real Kafka, and against a log that crashes at every step."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import httpx2
import pytest
import yaml
from fastapi.testclient import TestClient

from headrace import keys
from headrace.contracts.codec import decode_log_record, encode
from headrace.contracts.events import ContractAdopted, DeploymentAnnounced, ModelDeployed, StreamAnnounced
from headrace.contracts.stream import from_dict
from headrace.contracts.topics import AUDIT, LOG, topic
from headrace.errors import Fatal, Transient
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.tail import Tail
from headrace.web import PROBLEM
from services.registry.__main__ import compose
from services.registry.domain.audit import By, Seal
from services.registry.domain.lifecycle import Conflict
from services.registry.settings import RegistrySettings
from tests.integration.registry_memory import ADA, OTHER, SPECIFICATION, Crash, FakeLog, contract, opened
from tests.support import fresh


def scenario(registry):
    """A life of a stream; asked again from the start, what is past is refused or without effect."""
    steps = [
        lambda: registry.adopt(from_dict(contract("s")), ADA),
        lambda: registry.submit("m", SPECIFICATION, "", ADA),
        lambda: registry.submit("n", OTHER, "", ADA),
        lambda: registry.deploy("s", "m", None, "champion", ADA),
        lambda: registry.deploy("s", "n", 1, "challenger", ADA),
        lambda: registry.change("s", "n", "promote", ADA),
        lambda: registry.change("s", "m", "freeze", ADA),
    ]
    for step in steps:
        with suppress(Conflict):
            step()


ACTIONS = ["adopt", "register", "register", "deploy", "deploy", "promote", "freeze"]
EXPECTED = ["contract/s/1", "deploy/s/m/1/2", "deploy/s/n/1/3", "promote/s/n/4", "freeze/s/m/5"]


def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(tmp_path):
    """Killed before or after each effect on Kafka, restarted, and asked again: the same log, the same announcements."""
    crashes = 0
    for crash_after in (False, True):
        for crash_at in range(1, 200):
            url = f"sqlite:///{tmp_path}/{crash_after}-{crash_at}.db"
            log = FakeLog()
            log.crash_at, log.crash_after = crash_at, crash_after
            try:
                scenario(opened(url).registry(log))
                if log.steps < crash_at:
                    break
            except Crash:
                crashes += 1
            memory = opened(url)
            again = memory.registry(log)
            again.restore()
            assert memory.journal.unsettled() == []
            scenario(again)
            for partition in range(3):
                assert [control.id for control in log.applied("s", partition)] == EXPECTED
            assert log.told[b"deployment/s/n"].role == "champion"
            assert log.told[b"deployment/s/m"].role == "challenger"
            assert log.told[b"stream/s"].version == 1
            assert [record.action for record in reversed(memory.trail.page(50))] == ACTIONS
            found = again.examine()
            assert (found.fault, found.strange_heads) == (None, 0)
            assert found.announced == found.records == len(ACTIONS)
            memory.database.close()
    assert crashes > 30


def test_while_the_broker_is_away_decisions_wait_and_are_finished_later(database):
    memory, log = opened(database), FakeLog()
    registry = memory.registry(log)
    registry.adopt(from_dict(contract("s")), ADA)
    registry.submit("m", SPECIFICATION, "", ADA)
    log.away = True
    with pytest.raises(Transient, match="decided"):
        registry.deploy("s", "m", None, "champion", ADA)
    assert memory.store.deployments("s")[0][1] is None
    log.away = False
    settling = threading.Thread(target=registry.keep_settled)
    settling.start()
    deadline = time.monotonic() + 15
    while memory.store.deployments("s")[0][1] is None or memory.journal.unsettled():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    registry.stop()
    settling.join(10)
    assert memory.store.deployments("s")[0][1] == {"0": 1, "1": 1, "2": 1}
    assert not registry.deploy("s", "m", None, "champion", ADA)  # asking again does nothing more
    assert [control.id for control in log.applied("s", 0)] == ["contract/s/1", "deploy/s/m/1/2"]
    assert b"deployment/s/m" in log.told
    memory.database.close()


def test_a_producer_that_is_finished_ends_the_registry(tmp_path):
    class Finished(FakeLog):
        def write(self, stream, partitions, record):
            raise Fatal("the producer cannot go on")

    memory, log = opened(f"sqlite:///{tmp_path}/registry.db"), Finished()
    registry = memory.registry(log)
    with pytest.raises(Fatal):
        registry.adopt(from_dict(contract("s")), ADA)
    registry.keep_settled()  # returns, so that the process ends and is started again
    assert registry.failed.is_set()
    assert not registry.settled.is_set()
    memory.registry(later := FakeLog()).restore()
    assert [control.id for control in later.applied("s", 0)] == ["contract/s/1"]
    memory.database.close()


def test_a_wiped_broker_gets_everything_again(database):
    memory, log = opened(database), FakeLog()
    scenario(memory.registry(log))
    wiped = FakeLog()
    memory.registry(wiped).restore()
    for partition in range(3):
        assert [control.id for control in wiped.applied("s", partition)] == EXPECTED
    assert wiped.told.keys() == log.told.keys()
    memory.registry(wiped).restore()
    assert len(wiped.records["s"][0]) == len(EXPECTED)
    memory.database.close()


def test_deciding_at_once_from_many_threads_and_two_registries_keeps_the_rules(database):
    memories = [opened(database), opened(database)]
    log = FakeLog()
    registries = [memory.registry(log) for memory in memories]
    registries[0].adopt(from_dict(contract("s")), ADA)

    def submit(number):
        return registries[number % 2].submit("m", {**SPECIFICATION, "seed": number % 6}, "", ADA)[0]

    def decide(number):
        registry = registries[number % 2]
        try:
            if number % 3:
                registry.deploy("s", f"m{number % 4}", None, "champion" if number % 2 else "challenger", ADA)
            else:
                registry.change("s", f"m{number % 4}", "promote", ADA)
        except (Conflict, Transient):
            pass

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(submit, range(24)))
        assert sorted(set(versions)) == [1, 2, 3, 4, 5, 6]
        for number in range(4):
            registries[0].submit(f"m{number}", SPECIFICATION, "", ADA)
        list(pool.map(decide, range(40)))
    registries[0].restore()
    rows = [row for row, _ in memories[0].store.deployments("s")]
    assert [row.role for row in rows].count("champion") == 1
    sequence = memories[0].store.stream("s").sequence
    assert [memories[1].journal.offsets("s", number) is not None for number in range(1, sequence + 1)] == [
        True
    ] * sequence
    applied = log.applied("s", 0)
    assert len(applied) == sequence
    assert sorted(int(control.id.rpartition("/")[2]) for control in applied) == list(range(1, sequence + 1))
    for memory in memories:
        memory.database.close()


def test_changes_at_once_make_one_audit_trail(database):
    """Two registries and many threads, on streams and models of their own and on shared ones: one gapless chain."""
    memories = [opened(database), opened(database)]
    log = FakeLog()
    registries = [memory.registry(log) for memory in memories]
    for stream in ("s", "t"):
        registries[0].adopt(from_dict(contract(stream)), ADA)

    def change(number):
        registry, by = registries[number % 2], By(f"key{number}", f"reason {number}")
        try:
            if number % 4 == 0:
                registry.submit(f"n{number}", {**SPECIFICATION, "seed": number}, "", by)
            elif number % 4 == 1:
                registry.adopt(from_dict(contract(f"u{number}", partitions=1)), by)
            elif not registry.deploy("st"[number % 2], "m", number % 3 + 1, "champion", by):
                return 0
        except Transient:
            return 0
        return 1

    for seed in range(3):
        registries[0].submit("m", {**SPECIFICATION, "seed": seed}, "", ADA)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(change, range(60)))
    records = memories[0].trail.page(500)
    assert sum(made) > 40
    assert len(records) == 5 + sum(made)
    assert [record.sequence for record in records] == list(range(len(records), 0, -1))
    assert all(
        record.why == record.who.replace("key", "reason ") for record in records if record.who != "ada"
    )
    found = registries[1].examine()
    assert (found.fault, found.records) == (None, len(records))
    for memory in memories:
        memory.database.close()


def test_the_audit_trail_is_announced_once_the_broker_is_back_and_again_to_another_one(database):
    memory, log = opened(database), FakeLog()
    registry = memory.registry(log)
    registry.adopt(from_dict(contract("s")), ADA)
    assert registry.examine().announced == 1
    log.away = True
    registry.submit("m", SPECIFICATION, "", ADA)  # needs no broker
    with pytest.raises(Transient, match="decided"):
        registry.deploy("s", "m", None, "champion", ADA)
    assert registry.trail.head().sequence == 3
    assert len(log.announced_heads) == 1
    log.away = False
    settling = threading.Thread(target=registry.keep_settled)
    settling.start()
    deadline = time.monotonic() + 15
    while registry.examine().announced < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    registry.submit("m", OTHER, "", ADA)
    began = time.monotonic()
    while registry.examine().announced < 4:  # nobody waits for it, but it comes at once
        assert time.monotonic() < began + 1.0
        time.sleep(0.01)
    registry.stop()
    settling.join(10)
    found = registry.examine()
    assert (found.fault, found.records, found.announced) == (None, 4, 4)
    other = memory.registry(FakeLog())
    other.restore()
    assert other.examine().announced == 4
    memory.database.close()


def test_a_trail_that_is_cut_while_the_registry_is_down_is_found_though_it_is_announced_again(tmp_path):
    memory, log = opened(f"sqlite:///{tmp_path}/registry.db"), FakeLog()
    scenario(memory.registry(log))
    assert memory.registry(log).examine().fault is None
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute("DELETE FROM audit WHERE sequence > 4")
    again = memory.registry(log)
    again.restore()
    fault = again.examine().fault
    assert (fault.sequence, fault.wrong) == (5, "cut")
    again.submit("o", OTHER, "", ADA)
    fault = again.examine().fault
    assert (fault.sequence, fault.wrong) == (5, "replaced")
    memory.database.close()


# -- over HTTP, on a real Kafka -------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path):
    return {role: keys.create(tmp_path / "keys.json", f"the-{role}", role) for role in keys.ROLES}


@pytest.fixture
def app(kafka, database, tmp_path, secrets):
    return compose(RegistrySettings(bootstrap=kafka, home=tmp_path, database_url=database))


@pytest.fixture
def client(app, secrets):
    with TestClient(app, headers={"Authorization": f"Bearer {secrets['admin']}"}) as client:
        deadline = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, client.get("/readyz").text
            time.sleep(0.05)
        yield client


@pytest.fixture
def lonely(tmp_path, secrets):
    """A registry without a broker: enough for what never reaches it."""
    app = compose(RegistrySettings(bootstrap="127.0.0.1:9", home=tmp_path))
    yield TestClient(app, headers={"Authorization": f"Bearer {secrets['admin']}"})
    app.state.log.close()


def every_record(kafka, name, partition=0):
    tail = Tail(kafka, name, start={partition: 0})
    records = []
    deadline = time.monotonic() + 15
    while (not tail.caught_up() or not records) and time.monotonic() < deadline:
        records += tail.read(100, 0.2)
    tail.close()
    return records


def log_of(kafka, stream, partition):
    records = every_record(kafka, topic(LOG, stream), partition)
    return {record.offset: decode_log_record(record.value) for record in records}


def assert_problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    return response.json()


@pytest.mark.broker
def test_a_stream_and_its_models_from_beginning_to_end(client, kafka):
    name = fresh("reg")
    made = client.post("/v1/streams", json={"contract": contract(name)})
    assert made.status_code == 201, made.text
    assert made.json() == {"stream": name, "version": 1, "partitions": 3, "created": True}
    again = client.post("/v1/streams", json={"contract": contract(name)})
    assert (again.status_code, again.json()["created"]) == (200, False)
    for partition in range(3):
        (adopted,) = log_of(kafka, name, partition).values()
        assert isinstance(adopted, ContractAdopted)
        assert (adopted.id, adopted.at, adopted.version) == (f"contract/{name}/1", 0, 1)
        assert from_dict(adopted.contract).name == name

    model = client.post("/v1/models", json={"name": "m", "specification": SPECIFICATION, "description": "d"})
    assert model.status_code == 201, model.text
    assert (model.json()["model"], model.json()["version"]) == ("m", 1)
    shuffled = dict(reversed(SPECIFICATION.items()))
    assert client.post("/v1/models", json={"name": "m", "specification": shuffled}).status_code == 200
    text = yaml.safe_dump({"name": "m", "specification": {**SPECIFICATION, "seed": 7}})
    second = client.post("/v1/models", content=text.encode(), headers={"Content-Type": "application/yaml"})
    assert (second.status_code, second.json()["version"]) == (201, 2)
    as_text = {"name": "n", "specification": "model: naive_bayes.GaussianNB\ninputs: [a]\nseed: 1\n"}
    assert client.post("/v1/models", json=as_text).status_code == 201

    deployed = client.post(f"/v1/streams/{name}/deployments", json={"model": "m"})
    assert deployed.status_code == 201, deployed.text
    body = deployed.json()
    assert (body["version"], body["role"]) == (2, "champion")
    for partition in range(3):
        record = log_of(kafka, name, partition)[body["offsets"][str(partition)]]
        assert isinstance(record, ModelDeployed)
        assert (record.model, record.version, record.role) == ("m", 2, "champion")
        assert record.specification["seed"] == 7
    same = client.post(f"/v1/streams/{name}/deployments", json={"model": "m", "version": 2})
    assert (same.status_code, same.json()["offsets"]) == (200, body["offsets"])

    shadow = client.post(f"/v1/streams/{name}/deployments", json={"model": "n", "role": "challenger"})
    assert shadow.status_code == 201
    promoted = client.post(f"/v1/streams/{name}/deployments/n/promote", json={})
    assert promoted.status_code == 200, promoted.text
    assert promoted.json()["offsets"] == {"0": 3, "1": 3, "2": 3}
    assert client.post(f"/v1/streams/{name}/deployments/n/promote").json()["changed"] is False
    assert client.post(f"/v1/streams/{name}/deployments/m/freeze").json()["frozen"] is True
    assert client.post(f"/v1/streams/{name}/deployments/m/unfreeze").json()["frozen"] is False
    assert_problem(client.post(f"/v1/streams/{name}/deployments/n/retire"), 409)
    assert client.post(f"/v1/streams/{name}/deployments/m/retire").json()["role"] == "retired"
    roles = {
        d["model"]: d["role"] for d in client.get(f"/v1/streams/{name}/deployments").json()["deployments"]
    }
    assert roles == {"m": "retired", "n": "champion"}
    ids = [control.id for control in log_of(kafka, name, 0).values()]
    assert ids == [
        f"contract/{name}/1",
        f"deploy/{name}/m/2/2",
        f"deploy/{name}/n/1/3",
        f"promote/{name}/n/4",
        f"freeze/{name}/m/5",
        f"unfreeze/{name}/m/6",
        f"retire/{name}/m/7",
    ]

    follower = RegistryFollower(kafka, lambda _: None)
    follower.start()
    follower.stop()
    assert isinstance(follower.streams[name], StreamAnnounced)
    told = follower.deployments[(name, "n")]
    assert isinstance(told, DeploymentAnnounced)
    assert (told.role, told.version, told.digest) == (
        "champion",
        1,
        client.get("/v1/models/n").json()["versions"][0]["digest"],
    )
    assert follower.deployments[(name, "m")].role == "retired"

    detail = client.get(f"/v1/streams/{name}").json()
    assert (detail["version"], detail["contract"]["task"], len(detail["deployments"])) == (1, "binary", 2)
    listed = client.get("/v1/streams", params={"after": name[:-1], "limit": 1}).json()
    assert (listed["streams"][0]["stream"], listed["streams"][0]["champion"]) == (name, "n")
    assert client.get("/v1/models/m/versions/1").json()["specification"]["seed"] == 42
    assert [m["version"] for m in client.get("/v1/models").json()["models"]] == [2, 1]


@pytest.mark.broker
def test_the_audit_trail_over_http(client, app, kafka, secrets, tmp_path):
    name = fresh("reg")
    post = partial(client.post, headers={"Authorization": f"Bearer {secrets['operator']}"})
    client.post("/v1/streams", json={"contract": contract(name)}, params={"reason": "to begin"})
    post("/v1/models", json={"name": "m", "specification": SPECIFICATION}, params={"reason": "first, 50 % ü"})
    post("/v1/models", json={"name": "n", "specification": OTHER})
    post(f"/v1/streams/{name}/deployments", json={"model": "m"}, params={"reason": "the first one"})
    begun = post(f"/v1/streams/{name}/rollouts", json={"model": "n"}, params={"reason": "smaller"})
    assert begun.status_code == 201, begun.text
    assert post(f"/v1/streams/{name}/rollouts/1/hold", params={"reason": "holidays"}).status_code == 200
    assert post(f"/v1/streams/{name}/deployments/m/freeze", params={"reason": "holidays"}).status_code == 200
    again = post(f"/v1/streams/{name}/deployments/m/freeze", params={"reason": "so already"})
    assert again.json()["changed"] is False
    for reason in ("x" * 501, "two\nlines", "\x00"):
        assert_problem(post(f"/v1/streams/{name}/deployments/m/unfreeze", params={"reason": reason}), 422)

    listed = client.get("/v1/audit", params={"stream": name}).json()
    assert listed["next"] is None
    assert [(one["action"], one["who"], one["why"]) for one in listed["records"]] == [
        ("freeze", "the-operator", "holidays"),
        ("rollout-hold", "the-operator", "holidays"),
        ("rollout-begin", "the-operator", "smaller"),
        ("deploy", "the-operator", "the first one"),
        ("adopt", "the-admin", "to begin"),
    ]
    assert listed["records"][0]["before"]["places"]["m"]["frozen"] is False
    assert listed["records"][0]["after"]["places"]["m"]["frozen"] is True
    page = client.get("/v1/audit", params={"limit": 3}).json()
    assert page["next"] == page["records"][-1]["sequence"] == 5
    rest = client.get("/v1/audit", params={"below": page["next"]}).json()["records"]
    assert [one["sequence"] for one in rest] == [4, 3, 2, 1]
    assert rest[2]["why"] == "first, 50 % ü"
    assert [
        one["sequence"] for one in client.get("/v1/audit", params={"who": "the-admin"}).json()["records"]
    ] == [1]

    # The topic is shared with this run's other registries, whose keys are others: their heads are not this one's.
    verdict = client.get("/v1/audit/verify").json()
    assert (verdict["records"], verdict["fault"]) == (7, None)
    assert verdict["announced"] == 7
    assert verdict["heads"] >= 4  # of what concerns no log, the end may be announced together with the next
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
    heads = [record.value for record in every_record(kafka, AUDIT.name)]
    assert encode(Seal((tmp_path / "audit.key").read_bytes()).head(app.state.registry.trail.head())) in heads


@pytest.mark.broker
def test_contracts_grow_but_do_not_break(client, kafka):
    name = fresh("reg")
    first = contract(name)
    assert client.post("/v1/streams", json={"contract": first}).status_code == 201
    wider = contract(name, fields=[*first["fields"], {"name": "c", "type": "number"}])
    second = client.post("/v1/streams", json={"contract": wider})
    assert (second.status_code, second.json()["version"]) == (201, 2)
    for broken in (
        contract(name, fields=wider["fields"][1:]),
        {**wider, "partitions": 4},
        {**wider, "task": "regression", "label": {"name": "late", "type": "number"}},
    ):
        body = assert_problem(client.post("/v1/streams", json={"contract": broken}), 409)
        assert body["changes"]
    assert client.get(f"/v1/streams/{name}").json()["version"] == 2
    versions = client.get(f"/v1/streams/{name}/versions").json()["versions"]
    assert [v["version"] for v in versions] == [1, 2]
    assert [control.version for control in log_of(kafka, name, 2).values()] == [1, 2]

    document = client.get(f"/v1/streams/{name}/contract", params={"format": "odcs"})
    assert document.headers["content-type"].startswith("application/yaml")
    back = client.post("/v1/streams", content=document.content, headers={"Content-Type": "application/yaml"})
    assert (back.status_code, back.json()["version"]) == (200, 2)  # its own document is the contract it has
    assert (
        client.get(f"/v1/streams/{name}/contract", params={"format": "plain", "version": 1}).json()["name"]
        == name
    )


@pytest.mark.broker
def test_a_model_that_does_not_fit_the_stream_is_refused_and_nothing_is_decided(client, kafka):
    name = fresh("reg")
    client.post("/v1/streams", json={"contract": contract(name)})
    client.post("/v1/models", json={"name": "r", "specification": {"model": "linear_model.LinearRegression"}})
    client.post("/v1/models", json={"name": "i", "specification": {**SPECIFICATION, "inputs": ["nope"]}})
    for model in ("r", "i"):
        body = assert_problem(client.post(f"/v1/streams/{name}/deployments", json={"model": model}), 422)
        assert name in body["detail"]
    assert client.get(f"/v1/streams/{name}/deployments").json() == {"deployments": []}
    assert len(log_of(kafka, name, 0)) == 1


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_serves_and_stops_cleanly(kafka, tmp_path, secrets, number):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "HEADRACE_BOOTSTRAP": kafka,
        "HEADRACE_HOME": str(tmp_path),
        "HEADRACE_REGISTRY_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.registry"], env=environment, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 40
        while True:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=15)
        assert process.returncode == 0, err
        assert time.monotonic() - began < 5
        assert all(json.loads(line)["service"] == "registry" for line in err.splitlines())
    finally:
        process.kill()


# -- refusals -------------------------------------------------------------------------------------------------------


def routes(app):
    """Every method and path, read from the routes themselves and not from the document they publish."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path


READING_POSTS = (
    "/api/2.0/mlflow/experiments/search",
    "/api/2.0/mlflow/runs/search",
    "/api/2.0/mlflow/registered-models/get-latest-versions",
    "/subjects/{subject}",
    "/compatibility/subjects/{subject}/versions",
    "/compatibility/subjects/{subject}/versions/{version}",
)
"""Of other people's APIs, which ask by POST what is only read."""


def test_every_route_is_closed_without_a_key_and_to_the_wrong_role(lonely, secrets, monkeypatch):
    monkeypatch.setattr(lonely.app.state.log, "heads", list)  # asking the broker that is not there takes long
    found = list(routes(lonely.app))
    assert len(found) > 14
    for method, path in found:
        filled = path.replace("{stream}", "s").replace("{model}", "m").replace("{version}", "1")
        filled = filled.replace("{subject}", "s.inbox-value")
        response = lonely.request(method, filled, headers={"Authorization": ""}, content=b"{")
        if path in ("/livez", "/readyz", "/metrics"):
            assert response.status_code in (200, 503)
            continue
        assert_problem(response, 401)
        forbidden = [] if method == "GET" or path in READING_POSTS else ["producer", "reader"]
        if path.startswith("/v1/audit"):
            forbidden = ["producer", "reader"]
        if path == "/v1/streams" and method == "POST":
            forbidden = [*forbidden, "operator"]
        for role in forbidden:
            headers = {"Authorization": f"Bearer {secrets[role]}"}
            assert_problem(lonely.request(method, filled, headers=headers, json={}), 403)
        assert lonely.request(method, filled, json={}).status_code not in (401, 403)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "says"),
    [
        (b"", "application/json", 422, "JSON object"),
        (b"[]", "application/json", 422, "JSON object"),
        (b"{", "application/json", 422, "JSON"),
        (b'{"contract": 5}', "application/json", 422, "plain form"),
        (b'{"contract": {"name": "X"}}', "application/json", 422, ""),
        (b'{"contract": NaN}', "application/json", 422, ""),
        (b'{"a":' * 100_000, "application/json", 422, "cannot be read"),
        (b'{"a":' * 80 + b"1" + b"}" * 80, "application/json", 422, "nested"),
        (b"\xff\xfe", "application/yaml", 422, "UTF-8"),
        (b"a: [", "application/yaml", 422, "YAML"),
        (b"a: &x [1]\nb: *x\n", "application/yaml", 422, "aliases"),
        (b"a: 1\na: 2\n", "application/yaml", 422, "twice"),
        (b"a: .nan\n", "application/yaml", 422, "finite"),
        (b"a: !!python/object/apply:os.system [id]\n", "application/yaml", 422, "python/object"),
        (b"{}", "text/html", 415, "application/yaml"),
        (b"x" * 1_100_000, "application/yaml", 413, "bytes"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/streams", "/v1/models"])
def test_bodies_that_cannot_be_read(lonely, path, body, content_type, status, says):
    if path == "/v1/models" and says == "plain form":
        says = ""
    problem = assert_problem(lonely.post(path, content=body, headers={"Content-Type": content_type}), status)
    assert says in problem["detail"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"name": "Bad Name", "specification": SPECIFICATION}, "model name"),
        ({"name": "m", "specification": {"model": "os.system"}}, ""),
        ({"name": "m", "specification": {"model": "linear_model.LogisticRegression", "x": 1}}, ""),
        ({"name": "m", "specification": "- 1"}, "mapping"),
        ({"name": "m"}, "required"),
        ({"name": 5, "specification": SPECIFICATION}, "string"),
        ({"name": "m", "specification": SPECIFICATION, "more": 1}, "Extra"),
    ],
)
def test_models_that_are_not_usable(lonely, document, says):
    assert says in assert_problem(lonely.post("/v1/models", json=document), 422)["detail"]
    assert lonely.get("/v1/models").json() == {"models": [], "next": None}


def test_what_is_not_there_is_404_and_bad_requests_are_422(lonely):
    for path in (
        "/v1/streams/s",
        "/v1/streams/s/contract",
        "/v1/streams/s/versions",
        "/v1/streams/s/deployments",
    ):
        assert "no stream s" in assert_problem(lonely.get(path), 404)["detail"]
    assert_problem(lonely.get("/v1/models/m"), 404)
    assert_problem(lonely.get("/v1/models/m/versions/1"), 404)
    assert_problem(lonely.get("/v1/models/m/versions/x"), 422)
    assert_problem(lonely.post("/v1/streams/s/deployments", json={"model": "m"}), 404)
    assert_problem(lonely.post("/v1/streams/s/deployments", json={"model": "m", "role": "king"}), 422)
    assert_problem(lonely.post("/v1/streams/s/deployments/m/promote"), 404)
    assert_problem(lonely.post("/v1/streams/s/deployments/m/crown"), 404)
    assert_problem(lonely.get("/v1/streams", params={"limit": 10_000}), 422)


def test_models_are_kept_although_the_broker_is_away_and_readiness_says_so(lonely):
    assert lonely.post("/v1/models", json={"name": "m", "specification": SPECIFICATION}).status_code == 201
    body = assert_problem(lonely.get("/readyz"), 503)
    assert body["ready"] == {"database": True, "producer": True, "settled": False}
