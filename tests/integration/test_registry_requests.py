"""Requests that come again (Idempotency-Key) and requests on a condition (ETag), over HTTP, on both databases."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import select

from headrace.contracts.events import RetrainProposed
from headrace.errors import Transient
from services.registry.answers import CLAIM_SECONDS, Answer, Answers, UnderWay
from services.registry.domain.audit import By
from services.registry.registry import now_ms
from services.registry.request import Asked, Unmatched, asking
from services.registry.route import RegistryRoute
from services.registry.tables import AnswerRow
from tests.integration.registry_memory import SPECIFICATION, Crash, FakeLog, contract, opened
from tests.integration.registry_served import POLICY, REBUILD, RETRAINING, Clock, Served, problem


@pytest.fixture
def log():
    return FakeLog()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def served(database, log, tmp_path, clock):
    served = Served(database, log, tmp_path, clock)
    yield served.begin()
    served.memory.database.close()


def same(first, again):
    """Whether an answer is the first one again, and says so."""
    told = {"x-request-id", "idempotency-replayed"}
    headers = [{n: v for n, v in one.headers.items() if n not in told} for one in (first, again)]
    assert headers[0] == headers[1]
    assert (again.status_code, again.content) == (first.status_code, first.content)
    return again.headers.get("idempotency-replayed") == "true" and "idempotency-replayed" not in first.headers


# -- once -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/streams", {"contract": contract("t")}),
        ("/v1/models", {"name": "o", "specification": SPECIFICATION}),
        ("/v1/streams/s/deployments", {"model": "n", "role": "challenger"}),
        ("/v1/streams/s/deployments/m/freeze", None),
        ("/v1/streams/s/deployments/m/rebuild", REBUILD),
        ("/v1/streams/s/rollouts", {"model": "n"}),
        ("/v1/streams/s/retrainings", RETRAINING),
        ("/v1/datasets", {"name": "d", "stream": "s"}),
    ],
)
def test_the_same_request_with_the_same_key_is_answered_as_the_first_time(served, path, body):
    first = served.post(path, "k", json=body)
    assert first.status_code in (200, 201)
    before = served.get("/v1/audit").json()
    for again in range(2):
        assert same(first, served.post(path, "k" if again else '"k"', json=body))
    assert served.get("/v1/audit").json() == before  # nothing was decided again
    assert served.post(path, "another", json=body).content != first.content


def test_what_other_peoples_clients_change_is_changed_once_too(served):
    path = "/api/2.0/mlflow/registered-models/set-tag"
    body = {"name": "m", "key": "a", "value": "1"}
    first = served.post(path, "k", json=body)
    assert first.status_code == 200
    assert served.post(path, json=body | {"value": "2"}).status_code == 200
    assert same(first, served.post(path, "k", json=body))
    tagged = served.get("/api/2.0/mlflow/registered-models/get", params={"name": "m"}).json()
    assert {"key": "a", "value": "2"} in tagged["registered_model"]["tags"]
    refused = served.post(path, "l", json=body | {"key": "headrace.x"})
    assert problem(refused, 400)["error_code"] == "INVALID_PARAMETER_VALUE"
    assert same(refused, served.post(path, "l", json=body | {"key": "headrace.x"}))


def test_a_turn_of_a_rollout_comes_with_its_tag_again(served):
    served.post("/v1/streams/s/rollouts", json={"model": "n"})
    first = served.post("/v1/streams/s/rollouts/1/promote", "k")
    assert same(first, served.post("/v1/streams/s/rollouts/1/promote", "k"))
    assert first.headers["etag"] == served.get("/v1/streams/s/rollouts/1").headers["etag"]
    problem(served.post("/v1/streams/s/rollouts/1/promote", "l"), 409)


def test_another_request_with_the_same_key_is_refused(served):
    path = "/v1/streams/s/deployments/m/rebuild"
    assert served.post(path, "k", json=REBUILD).status_code == 200
    others = [
        served.post(path, "k", json={"without": ["source:other"]}),
        served.post(f"{path}?reason=x", "k", json=REBUILD),
        served.post(path, "k", json=REBUILD, headers={"If-Match": "*"}),
        served.post("/v1/streams/s/deployments/n/rebuild", "k", json=REBUILD),
    ]
    for other in others:
        assert "another request" in problem(other, 422)["detail"]
    assert served.versions() == [1, 2]


def test_keys_are_each_callers_own(served):
    path = "/v1/streams/s/deployments/m/rebuild"
    first = served.post(path, "k", json=REBUILD)
    other = served.post(path, "k", json=REBUILD, who="bob")
    assert (first.json()["version"], other.json()["version"]) == (2, 3)
    # who may not do it does not get the answer of who may, and leaves nothing behind
    problem(served.post(path, "k", json=REBUILD, who="eve"), 403)
    anonymous = served.client.post(path, json=REBUILD, headers={"Idempotency-Key": "k"})
    problem(anonymous, 401)
    rows = served.memory.database.read(lambda session: list(session.scalars(select(AnswerRow.caller))))
    assert sorted(rows) == ["ada", "bob"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb", "ü".encode().decode("latin-1")])
def test_keys_that_are_none(served, key):
    problem(served.post("/v1/streams/s/deployments/m/freeze", key.encode("latin-1")), 422)
    assert served.decisions() == 2


def test_a_refusal_is_remembered_and_an_unusable_request_is_too(served):
    refused = served.post("/v1/streams/s/deployments/n/promote", "k")
    problem(refused, 409)
    served.post("/v1/streams/s/deployments", json={"model": "n", "role": "challenger"})
    assert same(refused, served.post("/v1/streams/s/deployments/n/promote", "k"))
    unusable = served.post("/v1/streams/s/deployments", "l", json={"model": 5})
    problem(unusable, 422)
    assert same(unusable, served.post("/v1/streams/s/deployments", "l", json={"model": 5}))


def test_what_failed_is_not_remembered_but_what_it_decided_is(served, log):
    """The broker is away: decided, answered with 503. Asked again: no second rebuild, and the answer of the first."""
    path = "/v1/streams/s/deployments/m/rebuild"
    log.away = True
    for _ in range(2):
        problem(served.post(path, "k", json=REBUILD), 503)
    log.away = False
    answer = served.post(path, "k", json=REBUILD)
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert "idempotency-replayed" not in answer.headers
    assert same(answer, served.post(path, "k", json=REBUILD))
    assert served.versions() == [1, 2]
    assert len({control.id for control in log.applied("s", 0)}) == served.decisions() == 3


def test_while_the_first_is_under_way_others_are_told_so(served, log, clock):
    began, go_on = threading.Event(), threading.Event()
    write = log.write

    def slowly(*given):
        began.set()
        assert go_on.wait(20)
        return write(*given)

    log.write = slowly
    path = "/v1/streams/s/deployments/m/rebuild"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.post, path, "k", json=REBUILD)
        assert began.wait(20)
        try:
            waits = served.post(path, "k", json=REBUILD)
            problem(waits, 409)
            assert waits.headers["retry-after"] == "1"
            problem(served.post(path, "k", json={"without": ["source:other"]}), 422)
            clock.ahead_ms = int(CLAIM_SECONDS * 1000) - 5000
            problem(served.post(path, "k", json=REBUILD), 409)
        finally:
            go_on.set()
        answer = first.result(20)
    assert same(answer, served.post(path, "k", json=REBUILD))
    assert served.versions() == [1, 2]


@pytest.mark.parametrize("claims", ["hold", "lapse"])
def test_the_same_key_sent_twenty_times_at_once_decides_once(served, claims):
    """And so if claims lapse at once, so that all twenty are let in: the decision itself is made once."""
    if claims == "lapse":
        served.answers.claim = lambda *given: _lapsing(served, *given)
    path = "/v1/streams/s/deployments/m/rebuild"
    together = threading.Barrier(20)

    def send(_):
        together.wait(20)
        return served.post(path, "k", json=REBUILD, params={"reason": "once"})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(20)))
    good = [answer for answer in answers if answer.status_code == 200]
    rest = [answer for answer in answers if answer.status_code != 200]
    assert good
    assert {answer.content for answer in good} == {good[0].content}
    assert {answer.status_code for answer in rest} <= {409, 503}  # under way; or SQLite's line was too long
    last = served.post(path, "k", json=REBUILD, params={"reason": "once"})
    assert last.content == good[0].content
    assert (served.versions(), served.decisions()) == ([1, 2], 3)
    rebuilds = [one for one in served.get("/v1/audit").json()["records"] if one["action"] == "rebuild"]
    assert len(rebuilds) == 1


def _lapsing(served, caller, key, fingerprint):
    try:
        return Answers.claim(served.answers, caller, key, fingerprint)
    except UnderWay:
        return None


def test_killed_at_any_step_a_request_that_comes_again_decides_once(tmp_path):
    """Crashes before and after each write to the log; the next process answers as the first would have."""
    path = "/v1/streams/s/deployments/m/rebuild"
    undisturbed, crashes = None, 0
    for crash_after in (False, True):
        for crash_at in range(100):
            log, clock = FakeLog(), Clock()
            url = f"sqlite:///{tmp_path}/{crash_after}-{crash_at}/registry.db"
            folder = tmp_path / f"{crash_after}-{crash_at}"
            served = Served(url, log, folder, clock).begin()
            log.crash_at, log.crash_after = log.steps + crash_at, crash_after
            try:
                answer = served.post(path, "k", json=REBUILD)
            except Crash:
                crashes += 1
                clock.ahead_ms += int(CLAIM_SECONDS * 1000) + 1
                secrets = served.secrets
                served.memory.database.close()
                served = Served(url, log, folder, clock)
                served.secrets = secrets
                served.registry.restore()
                answer = served.post(path, "k", json=REBUILD)
            assert answer.status_code == 200
            changed = {name: value for name, value in answer.json().items() if name != "offsets"}
            undisturbed = undisturbed or changed
            assert changed == undisturbed  # the offsets may be of a record that was written twice
            assert served.versions() == [1, 2]
            assert [control.id for control in log.applied("s", 0)][2:] == ["rebuild/s/m/2/3"]
            assert same(answer, served.post(path, "k", json=REBUILD))
            served.memory.database.close()
            if crash_at and log.steps < log.crash_at:
                break
    assert crashes >= 10


def test_a_random_life_with_and_without_repeats_is_the_same(database, tmp_path):
    """Requests some of which come again later, in any order, against a registry that got each of them once."""
    chance = random.Random(7)
    once = Served(database, FakeLog(), tmp_path).begin()
    twice = Served(f"sqlite:///{tmp_path}/other/registry.db", FakeLog(), tmp_path / "other").begin()
    sent = []
    for number in range(60):
        if sent and chance.random() < 0.5:
            key, path, body, answer = chance.choice(sent)
            assert same(answer, twice.post(path, key, json=body))
            continue
        verb = chance.choice(
            ["freeze", "unfreeze", "promote", "retire", "rebuild", "deployments", "rollouts"]
        )
        model = chance.choice("mn")
        body = REBUILD if verb == "rebuild" else {"model": model} if verb.endswith("s") else None
        path = f"/v1/streams/s/{verb}" if verb.endswith("s") else f"/v1/streams/s/deployments/{model}/{verb}"
        answer = twice.post(path, f"k{number}", json=body)
        assert once.post(path, json=body).status_code == answer.status_code
        sent.append((f"k{number}", path, body, answer))
    assert {answer.status_code for *_, answer in sent} >= {200, 201, 409}
    for memory in (once.memory, twice.memory):
        found = memory.journal.decided("s", now_ms())
        assert len(found) == once.decisions()
        memory.database.close()


# -- the memory of answers ------------------------------------------------------------------------------------------


def test_answers_are_kept_for_a_time_and_so_many_of_them(database):
    clock = Clock()
    memory = opened(database)
    answers = Answers(memory.database, clock, keep_seconds=60.0, most=10)

    def known():
        return memory.database.read(
            lambda session: list(session.scalars(select(AnswerRow.key).order_by(AnswerRow.created_ms)))
        )

    assert answers.claim("a", "under way", "f") is None
    for number in range(30):
        clock.ahead_ms += 10
        assert answers.claim("a", str(number), "f") is None
        answers.keep("a", str(number), Answer(200, [("x", "y")], b"body"))
    assert len(known()) <= 11
    assert known()[0] == "under way"  # it is nobody's to forget
    assert known()[-1] == "29"
    assert answers.claim("a", "29", "f") == Answer(200, [("x", "y")], b"body")
    clock.ahead_ms += 60_001
    assert answers.claim("a", "29", "f") is None
    assert known() == ["29"]
    memory.database.close()


def test_a_database_that_is_away_after_the_decision_costs_no_answer(served, monkeypatch):
    def away(*_):
        raise Transient("away")

    path = "/v1/streams/s/deployments/m/rebuild"
    with monkeypatch.context() as patch:
        patch.setattr(served.answers, "keep", away)
        first = served.post(path, "k", json=REBUILD)
    assert first.status_code == 200
    problem(served.post(path, "k", json=REBUILD), 409)  # until the claim lapses


# -- conditions -----------------------------------------------------------------------------------------------------


def tag_of(served, path):
    tag = served.get(path).headers["etag"]
    assert tag.startswith('"')
    return tag


def test_every_answer_that_is_read_has_a_tag_that_changes_with_it(served):
    served.post("/v1/streams/s/rollouts", json={"model": "n"})
    served.post("/v1/streams/s/retrainings", json=RETRAINING)
    served.send("PUT", "/v1/streams/s/retraining-policy", json=POLICY)
    assert served.proposals.keep(RetrainProposed("e", "s", 5, "it moved")) == 1
    assert served.post("/v1/datasets", json={"name": "d", "stream": "s"}).status_code == 201
    paths = [
        path.format(stream="s", model="m", version="1", number="1", name="d")
        for path, operations in served.app.openapi()["paths"].items()
        if path.startswith("/v1/") and "get" in operations
    ]
    assert len(paths) > 12
    seen = {}
    for path in paths:
        params = {"at": "2026-01-01T00:00:00Z"} if path.endswith("/live") else {}
        answer = served.get(path, params=params)
        assert answer.status_code == 200, (path, answer.text)
        seen[path] = answer.headers["etag"]
        again = served.get(path, params=params, headers={"If-None-Match": f'"other", W/{seen[path]}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", seen[path])
        assert served.get(path, params=params, headers={"If-None-Match": '"other"'}).content == answer.content
    served.post("/v1/streams/s/deployments/m/freeze")
    for path, tag in seen.items():
        changed = path in ("/v1/streams/s", "/v1/streams/s/deployments", "/v1/streams/s/lives", "/v1/audit")
        if changed or path.endswith("lineage"):
            assert served.get(path).headers["etag"] != tag, path
    assert served.get("/v1/streams/t", headers={"If-None-Match": "*"}).status_code == 404


@pytest.mark.parametrize("path", ["/v1/streams/s", "/v1/streams/s/deployments"])
def test_a_change_of_a_stream_can_depend_on_what_was_read(served, path):
    first = tag_of(served, path)
    freeze, unfreeze = (f"/v1/streams/s/deployments/m/{verb}" for verb in ("freeze", "unfreeze"))
    assert served.post(freeze, headers={"If-Match": first}).status_code == 200
    assert "has changed" in problem(served.post(unfreeze, headers={"If-Match": first}), 412)["detail"]
    second = tag_of(served, path)
    assert served.post(unfreeze, headers={"If-Match": f'"x", {second}'}).status_code == 200
    third = tag_of(served, path)
    stale = {"If-Match": second}
    for change, body in (
        ("deployments", {"model": "n", "role": "challenger"}),
        ("deployments/m/rebuild", REBUILD),
        ("rollouts", {"model": "n"}),
    ):
        problem(served.post(f"/v1/streams/s/{change}", json=body, headers=stale), 412)
    problem(served.post("/v1/streams", json={"contract": contract("s", partitions=3)}, headers=stale), 412)
    for no in (f"W/{third}", '""', "", '"*"', third.strip('"'), third[:-1], f'"x-{third[1:]}'):
        problem(served.post(freeze, headers={"If-Match": no}), 412)
    assert tag_of(served, path) == third  # nothing of all this changed anything
    assert served.post(freeze, headers={"If-Match": "*"}).status_code == 200
    assert served.post(unfreeze, headers={"If-Match": tag_of(served, path)}).status_code == 200


def test_an_offset_that_came_meanwhile_is_nothing_to_overlook(served, log):
    log.away = True
    problem(served.post("/v1/streams/s/deployments/m/freeze"), 503)
    pending = tag_of(served, "/v1/streams/s")
    log.away = False
    served.registry.settle("s")
    assert (
        served.post("/v1/streams/s/deployments/m/unfreeze", headers={"If-Match": pending}).status_code == 200
    )


def test_contracts_and_models_can_depend_on_what_was_read(served):
    wider = [*contract("s")["fields"], {"name": "c", "type": "number"}]
    stale = tag_of(served, "/v1/streams/s/contract")
    served.post("/v1/streams/s/deployments/m/freeze")  # is about the line-up, not about the contract
    body = {"contract": contract("s", fields=wider)}
    assert served.post("/v1/streams", json=body, headers={"If-Match": stale}).status_code == 201
    body = {"contract": contract("s", fields=[*wider, {"name": "d", "type": "number"}])}
    problem(served.post("/v1/streams", json=body, headers={"If-Match": stale}), 412)
    problem(served.post("/v1/streams", json=body, headers={"If-None-Match": "*"}), 412)
    problem(served.post("/v1/streams", json={"contract": contract("t")}, headers={"If-Match": "*"}), 412)
    fresh = {"json": {"contract": contract("t")}, "headers": {"If-None-Match": "*"}}
    assert served.post("/v1/streams", **fresh).status_code == 201

    stale = tag_of(served, "/v1/models/m")
    other = {"name": "m", "specification": SPECIFICATION | {"seed": 1}}
    assert served.post("/v1/models", json=other, headers={"If-Match": stale}).status_code == 201
    other = {"name": "m", "specification": SPECIFICATION | {"seed": 2}}
    problem(served.post("/v1/models", json=other, headers={"If-Match": stale}), 412)
    problem(served.post("/v1/models", json=other, headers={"If-None-Match": "*"}), 412)
    problem(served.post("/v1/models", json=other | {"name": "o"}, headers={"If-Match": "*"}), 412)
    assert served.versions() == [1, 2]


def test_a_rollout_can_depend_on_what_was_decided_of_it_or_of_its_stream(served):
    served.post("/v1/streams/s/rollouts", json={"model": "n"})
    path = "/v1/streams/s/rollouts/1"
    first, stream = tag_of(served, path), tag_of(served, "/v1/streams/s")

    def labels_came(rollout, _):  # another representation, but nothing that was decided
        return msgspec.structs.replace(rollout, warmed=7), []

    served.registry.turn("s", 1, labels_came, By("the judge"), action="rollout-judge")
    assert tag_of(served, path) != first
    held = served.post(f"{path}/hold", headers={"If-Match": first})
    assert held.status_code == 200
    problem(served.post(f"{path}/abort", headers={"If-Match": first}), 412)
    assert served.post(f"{path}/resume", headers={"If-Match": stream}).status_code == 200
    assert served.post(f"{path}/abort", headers={"If-Match": tag_of(served, path)}).status_code == 200


def test_a_retraining_and_a_policy_can_depend_on_what_was_read(served):
    path, policy = "/v1/streams/s/retrainings/1", "/v1/streams/s/retraining-policy"
    stream = tag_of(served, "/v1/streams/s")
    stale = {"If-Match": '"x-y"'}
    problem(served.post("/v1/streams/s/retrainings", json=RETRAINING, headers=stale), 412)
    began = served.post("/v1/streams/s/retrainings", json=RETRAINING, headers={"If-Match": stream})
    assert (began.status_code, began.headers["etag"]) == (201, tag_of(served, path))
    problem(served.post(f"{path}/cancel", headers=stale), 412)
    ended = served.post(f"{path}/cancel", "k", headers={"If-Match": tag_of(served, path)})
    assert ended.status_code == 200
    assert same(ended, served.post(f"{path}/cancel", "k", headers={"If-Match": began.headers["etag"]}))
    problem(served.post(f"{path}/cancel", headers={"If-Match": began.headers["etag"]}), 412)

    problem(served.send("PUT", policy, json=POLICY, headers={"If-Match": "*"}), 412)
    assert served.send("PUT", policy, "p", json=POLICY, headers={"If-None-Match": "*"}).status_code == 200
    problem(served.send("PUT", policy, json=POLICY, headers={"If-None-Match": "*"}), 412)
    seen = {"If-Match": tag_of(served, policy)}
    assert served.send("PUT", policy, json=POLICY | {"on_events": True}, headers=seen).status_code == 200
    problem(served.send("DELETE", policy, headers=seen), 412)
    gone = served.send("DELETE", policy, "d", headers={"If-Match": tag_of(served, policy)})
    assert (gone.status_code, gone.content) == (204, b"")
    problem(served.get(policy), 404)
    actions = [one["action"] for one in served.get("/v1/audit").json()["records"]]
    assert actions[:3] == ["retraining-policy"] * 3


def test_of_many_who_saw_the_same_one_may_change_it(served):
    seen = tag_of(served, "/v1/streams/s")
    together = threading.Barrier(10)

    def send(number):
        together.wait(20)
        verb = "freeze" if number % 2 else "rebuild"
        return served.post(
            f"/v1/streams/s/deployments/m/{verb}", json=REBUILD, headers={"If-Match": seen}
        ).status_code

    with ThreadPoolExecutor(10) as pool:
        answers = sorted(pool.map(send, range(10)))
    assert answers == [200] + [412] * 9
    assert served.decisions() == 3


def test_a_change_that_looks_at_no_condition_is_not_made_under_one(served):
    """So that a store that forgets to ask what is expected cannot be changed by somebody who saw something else."""
    with asking(Asked(matching=("x",))), pytest.raises(Unmatched, match="depend"):
        served.memory.database.decide(lambda _: True)


def test_every_route_is_of_the_registrys_kind_and_says_what_it_takes(served):
    for path, operations in served.app.openapi()["paths"].items():
        if path.startswith("/v1/"):
            for method, operation in operations.items():
                headers = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
                assert "If-None-Match" in headers, path
                assert ({"Idempotency-Key", "If-Match"} <= headers) == (method != "get"), path
    with pytest.raises(AssertionError, match="open to anybody"):
        RegistryRoute("/v1/open", lambda: None, methods=["POST"])
