"""What answers are worth, on SQLite and PostgreSQL: set with a deployment or apart, changed, announced, audited."""

import pytest

from headrace.contracts.events import DeploymentAnnounced
from tests.integration.registry_memory import FakeLog
from tests.integration.registry_served import Served, problem

PAYOFF = {"tp": 5.0, "fp": -1.0, "tn": 0.0, "fn": -20.0}
OTHER = PAYOFF | {"fn": -2.5}
PATH, OWN = "/v1/streams/s/payoff", "/v1/streams/s/deployments/n/payoff"


@pytest.fixture
def log():
    return FakeLog()


@pytest.fixture
def served(database, log, tmp_path):
    served = Served(database, log, tmp_path)
    yield served.begin()
    served.memory.database.close()


def announced(log):
    told = [one for one in log.told.values() if isinstance(one, DeploymentAnnounced)]
    return {one.model: one.payoff for one in told}


def audited(served):
    records = served.get("/v1/audit", params={"stream": "s"}).json()["records"]
    return [
        (one["model"], one["who"], one["why"], one["before"], one["after"])
        for one in records
        if one["action"] == "payoff"
    ]


def test_nobody_has_said_and_then_somebody_does_and_every_change_is_in_the_trail(served, log):
    assert served.get(PATH).json() == {"stream": "s", "payoff": None, "models": {}}
    assert announced(log) == {"m": None}
    decisions = served.memory.store.stream("s").sequence
    assert served.send("PUT", f"{PATH}?reason=it+is+so", json=PAYOFF).json()["payoff"] == PAYOFF
    assert served.send("PUT", PATH, json=PAYOFF).status_code == 200  # it is so already
    assert served.send("PUT", PATH, json=OTHER, who="bob").json()["payoff"] == OTHER
    assert announced(log) == {"m": OTHER}
    assert served.send("DELETE", PATH).json()["payoff"] is None
    assert announced(log) == {"m": None}
    assert audited(served) == [
        ("", "ada", "", OTHER, {}),
        ("", "bob", "", PAYOFF, OTHER),
        ("", "ada", "it is so", {}, PAYOFF),
    ]
    assert served.memory.store.stream("s").sequence == decisions  # nothing was decided about who answers
    assert len(log.applied("s", 0)) == 2  # the contract and m


def test_a_model_may_have_its_own_with_its_deployment_and_loses_it_to_the_streams(served, log):
    served.send("PUT", PATH, json=PAYOFF)
    body = {"model": "n", "role": "challenger", "payoff": OTHER}
    assert served.post("/v1/streams/s/deployments", json=body).status_code == 201
    assert announced(log) == {"m": PAYOFF, "n": OTHER}
    shown = served.get("/v1/streams/s/deployments").json()["deployments"]
    assert {one["model"]: one["payoff"] for one in shown} == {"m": PAYOFF, "n": OTHER}
    assert served.get(PATH).json()["models"] == {"n": OTHER}
    assert served.send("DELETE", OWN).json()["models"] == {}
    assert announced(log) == {"m": PAYOFF, "n": PAYOFF}


def test_a_rollout_brings_its_payoff(served, log):
    assert served.post("/v1/streams/s/rollouts", json={"model": "n", "payoff": OTHER}).status_code == 201
    assert announced(log) == {"m": None, "n": OTHER}


@pytest.mark.parametrize("payoff", [{"tp": 1.0}, {"right": 1.0, "wrong": 0.0}, PAYOFF | {"tp": 1e15}])
def test_what_does_not_fit_the_stream_is_refused_before_anything_is_decided(served, log, payoff):
    before = served.get("/v1/audit").json()
    for method, path, body in (
        ("PUT", PATH, payoff),
        ("POST", "/v1/streams/s/deployments", {"model": "n", "payoff": payoff}),
        ("POST", "/v1/streams/s/rollouts", {"model": "n", "payoff": payoff}),
    ):
        problem(served.send(method, path, json=body), 422)
    problem(served.send("PUT", "/v1/streams/s/deployments/nobody/payoff", json=PAYOFF), 404)
    problem(served.send("PUT", "/v1/streams/nowhere/payoff", json=PAYOFF), 404)
    assert served.send("PUT", PATH, json=PAYOFF, who="eve").status_code == 403
    assert served.get("/v1/audit").json() == before
    assert announced(log) == {"m": None}


def test_it_is_announced_later_if_the_broker_was_away(served, log):
    log.away = True
    assert served.send("PUT", PATH, json=PAYOFF).status_code == 503
    log.away = False
    assert announced(log) == {"m": None}
    assert served.memory.journal.unsettled() == ["s"]
    served.registry._settle_all()
    assert announced(log) == {"m": PAYOFF}
    assert served.memory.journal.unsettled() == []


def test_whoever_changes_what_has_changed_meanwhile_is_told(served):
    served.send("PUT", PATH, json=PAYOFF)
    tag = served.get(PATH).headers["etag"]
    assert served.send("PUT", PATH, json=OTHER, headers={"If-Match": tag}).status_code == 200
    problem(served.send("PUT", PATH, json=PAYOFF, headers={"If-Match": tag}), 412)
