"""Retrainings as MLflow's own client sees them: an experiment a stream, a run a trial."""

from functools import partial

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from headrace.contracts.stream import from_dict
from services.registry.domain import race as races
from services.registry.domain import retraining as rules
from tests.integration.registry_memory import contract
from tests.integration.registry_server import served
from tests.integration.test_retrainings import ANN, TRAINER, reached, retraining


@pytest.fixture
def server(tmp_path):
    with served(f"sqlite:///{tmp_path}/registry.db", tmp_path) as found:
        for stream in ("arrivals", "flights"):
            found.registry.adopt(from_dict(contract(stream)), ANN)
        store = found.retrainings
        store.begin("flights", retraining(), ANN)
        store.turn("flights", 1, partial(rules.cancelled, by="ann"), ANN)
        store.begin("flights", retraining(), ANN)
        stop = partial(
            lambda known: rules.raced(known, races.stopped(known.race, 3, "it took more than memory_mb"))
        )
        store.turn("flights", 2, stop, TRAINER)
        for number in (0, 1, 2):
            store.turn("flights", 2, partial(reached, number, 10.0 + number), TRAINER)
        yield found


@pytest.fixture
def client(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.keys["reader"])
    return MlflowClient(tracking_uri=server.url, registry_uri=server.url)


def test_a_streams_retrainings_are_an_experiment(client):
    assert [one.name for one in client.search_experiments()] == [
        "arrivals.retrainings",
        "flights.retrainings",
    ]
    first = client.search_experiments(max_results=1)
    assert [one.experiment_id for one in first] == ["arrivals"]
    assert [
        one.experiment_id for one in client.search_experiments(max_results=1, page_token=first.token)
    ] == ["flights"]
    found = client.get_experiment_by_name("flights.retrainings")
    assert client.get_experiment(found.experiment_id).name == "flights.retrainings"
    assert client.get_experiment_by_name("nowhere.retrainings") is None


def test_a_trial_is_a_run_with_what_went_in_and_what_came_out(client):
    run = client.get_run("flights-2-1")
    assert run.info.status == "RUNNING"
    assert run.info.end_time is None
    assert run.data.params == {"n": "1"}
    assert run.data.metrics["loss"] == 0.11
    assert run.data.metrics["count"] == 100
    assert "roc_auc" not in run.data.metrics
    assert run.data.tags["headrace.digest"] == "d1"
    assert [(one.value, one.step) for one in client.get_metric_history("flights-2-1", "loss")] == [
        (0.11, 100)
    ]
    states = {number: client.get_run(f"flights-2-{number}").info.status for number in range(4)}
    assert states == {0: "RUNNING", 1: "RUNNING", 2: "FINISHED", 3: "FAILED"}
    assert client.get_run("flights-2-3").data.tags["headrace.why"] == "it took more than memory_mb"
    assert client.get_run("flights-1-0").info.status == "KILLED"


def test_runs_are_found_page_by_page_newest_retraining_first(client):
    first = client.search_runs(["flights"], max_results=3)
    rest = client.search_runs(["flights"], max_results=500, page_token=first.token)
    assert [run.info.run_id for run in (*first, *rest)] == [
        f"flights-{number}-{trial}" for number in (2, 1) for trial in range(4)
    ]
    assert not rest.token
    assert list(client.search_runs(["arrivals"])) == []


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda client: client.get_run("flights-2-4"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda client: client.get_run("flights-9-0"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda client: client.get_run("abc"), "INVALID_PARAMETER_VALUE"),
        (lambda client: client.search_runs(["flights"], "metrics.loss < 1"), "INVALID_PARAMETER_VALUE"),
        (lambda client: client.search_runs(["flights", "arrivals"]), "INVALID_PARAMETER_VALUE"),
        (lambda client: client.log_metric("flights-2-1", "loss", 0.0), "NOT_IMPLEMENTED"),
        (lambda client: client.create_run("flights"), "NOT_IMPLEMENTED"),
        (lambda client: client.create_experiment("mine"), "NOT_IMPLEMENTED"),
    ],
)
def test_what_is_not_done_here_is_said(client, ask, code):
    with pytest.raises(MlflowException) as refused:
        ask(client)
    assert refused.value.error_code == code
