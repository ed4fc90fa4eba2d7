"""A registry whose database was lost, made again from the topic of its changes: every answer is as it was before."""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress

import msgspec
import pytest
import sqlalchemy
from fastapi.testclient import TestClient

from headrace import keys
from headrace.contracts.codec import decode_rows_written, encode
from headrace.contracts.events import RetrainProposed
from headrace.contracts.stream import from_dict
from headrace.datasets.measurement import Category, LabelProfile, Measurement, Profile, Quality
from headrace.errors import Fatal, Transient, Unusable
from services.registry import changes
from services.registry.__main__ import compose
from services.registry.database import Database
from services.registry.decisions import Absent
from services.registry.domain import changes as messages
from services.registry.domain import rollouts
from services.registry.domain.audit import By, Change, Seal
from services.registry.domain.lifecycle import Conflict
from services.registry.restoring import Restored, restore
from services.registry.settings import RegistrySettings
from services.registry.tables import AnswerRow, Base, OutgoingRow
from tests.integration.registry_memory import ADA, OTHER, SPECIFICATION, Crash, FakeLog, contract, opened
from tests.integration.registry_served import POLICY, REBUILD, RETRAINING, Served
from tests.support import fresh

SEAL = Seal(b"k" * 32)
MEASURED = Measurement(
    "digest", [], Quality(*range(15)), Profile([], 0, LabelProfile(), 0, [Category("ü", 1)], None, 0)
)
SPECIFICATIONS = [SPECIFICATION, OTHER, SPECIFICATION | {"seed": 1}, OTHER | {"seed": 2}]


def everything(served):
    """Every answer that the registry gives, by path."""
    found, again = {}, [f"/v1/{name}?limit=500" for name in ("streams", "models", "audit", "datasets")]
    again.append("/v1/audit/verify")
    for stream in served.get("/v1/streams?limit=500").json()["streams"]:
        path = f"/v1/streams/{stream['stream']}"
        again += [
            path,
            *(f"{path}/{name}" for name in ("versions", "deployments", "lives", "retraining-policy")),
        ]
        again += [f"{path}/contract?version={number + 1}&format=plain" for number in range(stream["version"])]
        again += [f"{path}/live?at=2100-01-01T00:00:00Z", f"{path}/live?at=2000-01-01T00:00:00Z"]
        for kind, name in (
            ("rollouts", "rollout"),
            ("retrainings", "retraining"),
            ("proposals", "proposal"),
        ):
            again.append(f"{path}/{kind}?limit=500")
            again += [f"{path}/{kind}/{one[name]}" for one in served.get(again[-1]).json()[kind]]
    for model in served.get("/v1/models?limit=500").json()["models"]:
        path = f"/v1/models/{model['model']}"
        again += [path, f"/api/2.0/mlflow/registered-models/get?name={model['model']}"]
        for number in range(model["version"]):
            again += [f"{path}/versions/{number + 1}", f"{path}/versions/{number + 1}/lineage"]
    for dataset in served.get("/v1/datasets?limit=500").json()["datasets"]:
        path = f"/v1/datasets/{dataset['name']}"
        again += [path, *(f"{path}/versions/{number + 1}" for number in range(dataset["version"]))]
    for path in again:
        answer = served.get(path)
        found[path] = answer.status_code, answer.json(), answer.headers.get("etag")
    verdict = found["/v1/audit/verify"][1]
    assert verdict["fault"] is None
    found["/v1/audit/verify"] = (
        verdict["records"],
        verdict["announced"],
    )  # every start announces the end once more
    return found


class Life:
    """Random commands over HTTP, and what labels decide, as they come."""

    def __init__(self, served, seed):
        self.served = served
        self.chance = random.Random(seed)
        self.done = []

        self.acts = [self._contract, *[self._model] * 2, *[self._deploy] * 2, self._rebuild, self._begin]
        self.acts += [
            *[self._turn] * 2,
            self._judge,
            self._retrain,
            self._propose,
            self._dataset,
            self._tag,
            *[self._change] * 3,
        ]

    def step(self):
        self.chance.choice(self.acts)(self.chance.choice("st"), self.chance.choice("mno"))

    def _contract(self, stream, _):
        names = "abcd"[: self.chance.randrange(1, 5)]
        fields = [{"name": name, "type": "number"} for name in names]
        self._post("/v1/streams", {"contract": contract(stream, fields=fields)})

    def _model(self, _, model):
        specification = self.chance.choice(SPECIFICATIONS)
        document = {"name": model, "specification": specification, "description": "ü\u2028\n"}
        self._post("/v1/models", document)

    def _deploy(self, stream, model):
        role = self.chance.choice(["champion", "challenger"])
        self._post(f"/v1/streams/{stream}/deployments", {"model": model, "role": role})

    def _change(self, stream, model):
        verb = self.chance.choice(["promote", "retire", "freeze", "unfreeze"])
        self._post(f"/v1/streams/{stream}/deployments/{model}/{verb}", None)

    def _rebuild(self, stream, model):
        self._post(f"/v1/streams/{stream}/deployments/{model}/rebuild", REBUILD)

    def _begin(self, stream, model):
        self._post(f"/v1/streams/{stream}/rollouts", {"model": model, "plan": {"canary": [0.5]}})

    def _turn(self, stream, _):
        verb = self.chance.choice(["promote", "roll-back", "abort", "hold", "resume"])
        self._post(f"/v1/streams/{stream}/rollouts/{self.chance.randrange(1, 4)}/{verb}", None)

    def _judge(self, stream, _):
        def better(rollout, now):
            return rollouts.settle(rollout, "better", now, "the judge")

        with suppress(Absent, Conflict):
            registry = self.served.registry
            number = registry.rollouts.get(stream).number
            registry.turn(stream, number, better, By("the judge"), action="rollout-judge")

    def _retrain(self, stream, _):
        path = f"/v1/streams/{stream}"
        self._post(f"{path}/retrainings", RETRAINING)
        self._post(f"{path}/retrainings/{self.chance.randrange(1, 4)}/cancel", None)
        policy = POLICY | {"every_seconds": self.chance.randrange(60, 70)}
        self.served.send(self.chance.choice(["PUT", "DELETE"]), f"{path}/retraining-policy", json=policy)

    def _propose(self, stream, model):
        event = RetrainProposed(f"e{self.chance.randrange(20)}", stream, 5, "ü\u2028 has moved", model=model)
        with suppress(Absent):
            number = self.served.proposals.keep(event)
            if number is not None:
                verb = self.chance.choice(["approve", "dismiss"])
                self._post(f"/v1/streams/{stream}/proposals/{number}/{verb}", None)

    def _dataset(self, stream, _):
        self._post("/v1/datasets", {"name": self.chance.choice("xy") + stream, "stream": stream})
        for row in self.served.datasets.to_measure(self.chance.randrange(1, 3)):
            self.served.datasets.measured(row, MEASURED)

    def _tag(self, _, model):
        path, tag = "/api/2.0/mlflow/registered-models", {"name": model, "key": self.chance.choice("ab")}
        self._post(f"{path}/set-tag", tag | {"value": str(self.chance.randrange(9))})
        if self.chance.random() < 0.4:
            self.served.send("DELETE", f"{path}/delete-tag", json=tag)

    def _post(self, path, body):
        answer = self.served.post(path, json=body, params={"reason": "because"})
        self.done.append(answer.status_code)
        assert answer.status_code < 500, answer.text


def lost(log, url, folder, secrets):
    """A registry on an empty database, made again from what the log has been told."""
    memory = opened(url)
    restored = restore(memory.database, SEAL, log.told_changes)
    memory.database.close()
    served = Served(url, log, folder)
    served.secrets = secrets
    return served, restored


@pytest.mark.parametrize("seed", range(3))
def test_after_any_life_every_answer_is_as_it_was(database, tmp_path, seed):
    log = FakeLog()
    served = Served(database, log, tmp_path)
    life = Life(served, seed)
    for _ in range(150):
        life.step()
    assert {200, 201, 409} <= set(life.done)
    served.registry.restore()
    before = everything(served)
    assert len(before) > 40
    records = [
        {number: list(part) for number, part in enumerate(log.records[name])} for name in sorted(log.records)
    ]
    again, restored = lost(log, f"sqlite:///{tmp_path}/again/registry.db", tmp_path, served.secrets)
    after = everything(again)
    assert after == before
    assert restored == Restored(served.memory.trail.head().sequence, 0, 0)
    again.registry.restore()  # which has nothing to add to any log
    assert everything(again) == before
    assert records == [
        {number: list(part) for number, part in enumerate(log.records[name])} for name in sorted(log.records)
    ]
    assert rows_of(again.memory.database) == rows_of(served.memory.database)
    for _ in range(30):  # and goes on from there
        Life(again, seed + 100).step()
    for name in log.records:
        decided = again.memory.journal.decided(name, 2**60)
        assert [control.id for control in log.applied(name, 0)] == [one.control.id for one in decided]
    served.memory.database.close()
    again.memory.database.close()


def rows_of(database):
    """Everything in the database, but for what only a process or a topic needs to know."""
    left_out = {"announced", "writes"}

    def work(session):
        found = {}
        for model in changes.KEPT:
            rows = session.execute(
                model.__table__.select().order_by(*model.__table__.primary_key.columns)
            ).mappings()
            found[model.__tablename__] = [{n: v for n, v in row.items() if n not in left_out} for row in rows]
        return found

    return database.read(work)


def test_every_table_is_told_of_or_said_to_be_not(database):
    assert {model.__tablename__ for model in changes.KEPT} == set(Base.metadata.tables) - {
        "registry_schema", "answers", "outgoing",
    }  # fmt: skip
    assert not AnswerRow.mirrored
    assert not OutgoingRow.mirrored


def scenario(registry):
    """A life of two streams; asked again from the start, what is past is refused or without effect."""
    for step in (
        lambda: registry.adopt(from_dict(contract("s")), ADA),
        lambda: registry.submit("m", SPECIFICATION, "", ADA),
        lambda: registry.submit("n", OTHER, "", ADA),
        lambda: registry.deploy("s", "m", None, "champion", ADA),
        lambda: registry.deploy("s", "n", 1, "challenger", ADA),
        lambda: registry.change("s", "n", "promote", ADA),
        lambda: registry.adopt(from_dict(contract("t")), ADA),
        lambda: registry.change("s", "m", "freeze", ADA),
    ):
        with suppress(Conflict):
            step()


def test_the_database_may_be_lost_at_any_step(tmp_path):
    """Killed at any step, and the database gone with it: what is in a log is known, what was answered too; it goes on.

    Else a decision could get the id of one that is in the log already, and the fold would pass it over.
    """
    crashes = 0
    for crash_after in (False, True):
        for crash_at in range(1, 200):
            log = FakeLog()
            log.crash_at, log.crash_after = crash_at, crash_after
            memory = opened(f"sqlite:///{tmp_path}/{crash_after}-{crash_at}.db")
            try:
                scenario(memory.registry(log))
                memory.database.close()
                break
            except Crash:
                crashes += 1
            memory.database.close()
            again = opened(f"sqlite:///{tmp_path}/{crash_after}-{crash_at}-again.db")
            registry = again.registry(log)
            try:
                restore(again.database, SEAL, log.told_changes)
            except Unusable:  # nothing was told yet
                assert not log.changes
                assert not any(part for parts in log.records.values() for part in parts)
            else:
                known = {control.control.id for control in again.journal.decided("s", 2**60)}
                assert {control.id for control in log.applied("s", 0)} <= known
                registry.restore()
            scenario(registry)
            for name in "st":
                decided = [one.control.id for one in again.journal.decided(name, 2**60)]
                for partition in range(3):
                    assert [control.id for control in log.applied(name, partition)] == decided
            registry.restore()
            assert again.journal.unsettled() == []
            assert (registry.examine().fault, registry.examine().strange_heads) == (None, 0)
            whole = opened(f"sqlite:///{tmp_path}/{crash_after}-{crash_at}-whole.db")
            restore(whole.database, SEAL, log.told_changes)
            assert rows_of(whole.database) == rows_of(again.database)
            whole.database.close()
            again.database.close()
    assert crashes > 60


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.fixture
def told(tmp_path):
    """A log that has been told of a life, and the registry's memory."""
    log, memory = FakeLog(), opened(f"sqlite:///{tmp_path}/told.db")
    registry = memory.registry(log)
    registry.restore()
    scenario(registry)
    registry.restore()  # tells where the last decision lies
    yield log, memory
    memory.database.close()


@pytest.fixture
def empty(database):
    memory = opened(database)
    yield memory
    memory.database.close()


def test_a_database_that_is_not_empty_is_not_restored_over(told, empty):
    log, memory = told
    before = rows_of(memory.database)
    with pytest.raises(Fatal, match="not empty"):
        restore(memory.database, SEAL, log.told_changes)
    assert rows_of(memory.database) == before
    empty.store.submit("m", "d", {"model": "x"}, "", ADA)
    with pytest.raises(Fatal, match="not empty"):
        restore(empty.database, SEAL, log.told_changes)


def test_an_empty_database_whose_changes_are_in_the_topic_is_not_begun_anew(told, empty):
    log, _ = told
    registry = empty.registry(log)
    length = len(log.changes)
    with pytest.raises(Fatal, match="headrace registry restore"):
        registry.restore()
    assert not registry.settled.is_set()
    assert len(log.changes) == length
    restore(empty.database, SEAL, log.told_changes)
    empty.registry(log).restore()


def test_what_is_missing_is_named_and_nothing_is_left_behind(told, empty):
    log, _ = told
    whole = list(log.changes)
    numbered = [decode_rows_written(value).sequence for value in whole]
    for number in sorted(set(numbered) - {0}):
        kept = [value for value, sequence in zip(whole, numbered, strict=True) if sequence != number]
        if number == max(numbered):
            continue
        with pytest.raises(Unusable, match=f"change {number} is missing"):
            restore(empty.database, SEAL, lambda kept=kept: kept)
        assert not any(rows_of(empty.database).values())
    # What came of a change later may be missing: it is written once more, and has the id that it had.
    restore(empty.database, SEAL, lambda: [v for v, n in zip(whole, numbered, strict=True) if n])
    before = len(log.records["s"][0])
    assert len(empty.journal.pending("s")) == before
    empty.registry(log).restore()
    assert len(log.records["s"][0]) == 2 * before
    decided = [one.control.id for one in empty.journal.decided("s", 2**60)]
    assert decided == [control.id for control in log.applied("s", 0)]


def test_only_what_was_signed_is_believed(told, empty):
    log, _ = told
    whole = list(log.changes)
    place = next(number for number, value in enumerate(whole) if b"model_versions" in value)
    forged = decode_rows_written(whole[place])
    forged = msgspec.structs.replace(forged, rows=forged.rows.replace('"m"', '"evil"'))
    others = [encode(messages.sealed(Seal(b"o" * 32), decode_rows_written(value))) for value in whole]
    mixed = [b"", b"no JSON", *others, *whole[:place], encode(forged), *whole[place:]]
    restored = restore(empty.database, SEAL, lambda: mixed)
    assert restored.strange == 3 + len(others)
    assert empty.store.models(10)[0].model == "m"
    with pytest.raises(Fatal, match="not empty"):
        restore(empty.database, None, lambda: others)


def test_without_the_key_only_on_request(told, empty):
    log, memory = told
    with pytest.raises(Unusable, match="nothing that was told with this audit key"):
        restore(empty.database, Seal(b"o" * 32), log.told_changes)
    assert restore(empty.database, None, log.told_changes).strange == 0
    assert rows_of(empty.database) == rows_of(memory.database)


def test_another_schema_has_to_be_restored_by_its_own_registry(told, empty):
    log, _ = told
    older = [msgspec.structs.replace(decode_rows_written(value), schema="0001") for value in log.changes]
    signed = [encode(messages.sealed(SEAL, value)) for value in older]
    with pytest.raises(Unusable, match="tables are of schema 0001"):
        restore(empty.database, SEAL, lambda: signed)
    assert not any(rows_of(empty.database).values())


# -- everything anew ------------------------------------------------------------------------------------------------


def whole_again(log, memory, empty):
    """Whether an empty database becomes what the memory is."""
    restored = restore(empty.database, SEAL, log.told_changes)
    assert rows_of(empty.database) == rows_of(memory.database)
    return restored


def runs(log):
    return [
        told.everything
        for value in log.changes
        if (told := decode_rows_written(value)).everything and told.last
    ]


@pytest.mark.parametrize("happens", ["never told", "wiped", "put back", "other tables"])
def test_all_is_told_anew_when_the_topic_does_not_lead_to_what_there_is(told, empty, happens, monkeypatch):
    log, memory = told
    monkeypatch.setattr(messages, "PART_CHARACTERS", 1000)  # many parts
    match happens:
        case "never told":  # a database from before there was the topic
            log.changes.clear()
            memory.database.write(lambda session: session.execute(sqlalchemy.delete(OutgoingRow)))
        case "wiped":
            log.changes.clear()
        case "put back":  # to a backup, which lacks the last changes
            back = "DELETE FROM audit WHERE sequence > 7"
            memory.database.write(lambda session: session.execute(sqlalchemy.text(back)))
        case "other tables":
            older = [
                msgspec.structs.replace(decode_rows_written(value), schema="0001") for value in log.changes
            ]
            log.changes[:] = [encode(messages.sealed(SEAL, value)) for value in older]
    assert not runs(log)
    registry = memory.registry(log)
    registry.restore()
    assert len(runs(log)) == 1
    memory.registry(log).restore()
    assert len(runs(log)) == 1  # once
    registry.submit("o", SPECIFICATION, "", ADA)
    registry.restore()
    assert whole_again(log, memory, empty).changes == memory.trail.head().sequence


def test_a_telling_of_everything_that_was_cut_short_counts_for_nothing_and_goes_on_later(
    told, empty, monkeypatch
):
    log, memory = told
    monkeypatch.setattr(messages, "PART_CHARACTERS", 1000)
    monkeypatch.setattr(changes, "AT_A_TIME", 3)
    memory.trail.tell_everything()
    parts = len(memory.journal.outgoing())
    assert parts == 3
    log.crash_at = log.steps + 5 + 3  # some of it has arrived
    with pytest.raises(Crash):
        memory.registry(log).restore()
    assert not runs(log)
    restore(empty.database, SEAL, log.told_changes)
    assert rows_of(empty.database) == rows_of(memory.database)
    memory.registry(log).restore()
    assert len(runs(log)) == 1


def test_a_change_that_was_cut_short_is_left_out_whole(empty, tmp_path, monkeypatch):
    """Its registry died while it told of it: nobody was answered, and no log has it."""
    monkeypatch.setattr(messages, "PART_CHARACTERS", 100)
    log, memory = FakeLog(), opened(f"sqlite:///{tmp_path}/cut.db")
    registry = memory.registry(log)
    registry.submit("m", SPECIFICATION, "", ADA)
    registry.restore()
    before, length = rows_of(memory.database), len(log.changes)
    registry.submit("n", OTHER, "", ADA)
    registry.restore()
    assert len(log.changes) > length + 5
    for parts in range(1, len(log.changes) - length):
        told = log.changes[: length + parts]
        assert restore(empty.database, SEAL, lambda told=told: told) == Restored(1, 0, 2)
        assert rows_of(empty.database) == before
        empty.database.write(emptied)
    assert restore(empty.database, SEAL, log.told_changes) == Restored(2, 0, 0)
    memory.database.close()


def emptied(session):
    for model in reversed(changes.KEPT):
        session.execute(sqlalchemy.delete(model))


def test_while_the_broker_is_away_changes_wait_in_their_order(database, tmp_path):
    log, memory = FakeLog(), opened(database)
    registry = memory.registry(log)
    log.away = True
    for number in range(5):
        registry.submit(f"m{number}", SPECIFICATION, "", ADA)
    with pytest.raises(Transient):
        registry.restore()
    log.away = False
    registry.restore()
    assert [decode_rows_written(value).sequence for value in log.changes] == [1, 2, 3, 4, 5]
    assert memory.journal.outgoing() == []
    memory.database.close()


def test_a_row_that_is_written_after_the_record_is_a_mistake_that_is_found(empty):
    """It would be missing from the topic."""

    def work(session):
        empty.trail.append(session, 1, ADA, Change("register", {}, {}))
        session.add(changes.MODELS["models"](name="late", created_ms=1))

    with pytest.raises(AssertionError, match="written after"):
        empty.database.decide(work)
    assert empty.store.models(10) == []


# -- a real broker, a real process ----------------------------------------------------------------------------------


@pytest.mark.broker
def test_a_lost_database_is_made_again_from_a_real_kafka(kafka, tmp_path, database):
    name = fresh("restored")
    secret = keys.create(tmp_path / "keys.json", "ada", "admin")
    settings = RegistrySettings(bootstrap=kafka, home=tmp_path, database_url=database)
    with TestClient(compose(settings), headers={"Authorization": f"Bearer {secret}"}) as client:
        served = Reached(client)
        wait(lambda: client.get("/readyz").status_code == 200)
        posts = [
            ("/v1/streams", {"contract": contract(name)}),
            ("/v1/models", {"name": f"{name}-m", "specification": SPECIFICATION, "description": "x" * 1900}),
            ("/v1/models", {"name": f"{name}-n", "specification": OTHER}),
            (f"/v1/streams/{name}/deployments", {"model": f"{name}-m"}),
            (f"/v1/streams/{name}/deployments/{name}-m/rebuild", REBUILD),
            (f"/v1/streams/{name}/deployments/{name}-m/freeze", None),
            (f"/v1/streams/{name}/rollouts", {"model": f"{name}-n"}),
            (f"/v1/streams/{name}/rollouts/1/promote", None),
        ]
        for path, body in posts:
            answer = client.post(path, json=body, params={"reason": "because"})
            assert answer.status_code in (200, 201), answer.text
        before = everything(served)
        memory = Database(settings.database)
        wait(lambda: not memory.read(changes.waiting))  # for where the last decision lies nobody waited
        memory.close()
    empty = f"sqlite:///{tmp_path}/again/registry.db"
    command = [sys.executable, "-m", "services.registry", "restore"]
    environment = {
        **os.environ,
        "HEADRACE_BOOTSTRAP": kafka,
        "HEADRACE_HOME": str(tmp_path),
        "HEADRACE_DATABASE_URL": empty,
    }
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    restored = json.loads(ended.stdout)
    assert (restored["changes"], restored["unfinished"], restored["audit"]) == (len(posts), 0, "ok")
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].startswith("registry: the database is not empty")
    settings = RegistrySettings(bootstrap=kafka, home=tmp_path, database_url=empty)
    with TestClient(compose(settings), headers={"Authorization": f"Bearer {secret}"}) as client:
        after = everything(Reached(client))
        assert after.keys() == before.keys()
        assert {path: after[path] for path in after if after[path] != before[path]} == {
            path: before[path] for path in after if after[path] != before[path]
        }
        frozen = client.post(f"/v1/streams/{name}/deployments/{name}-m/unfreeze")
        assert frozen.status_code == 200


def wait(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Reached:
    """What `everything` asks."""

    def __init__(self, client):
        self.get = client.get
