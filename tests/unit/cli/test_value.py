"""`headrace value` and `headrace model payoff`: what is asked, and what people see of the answer."""

import json

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app

PAYOFF = {"tp": 5.0, "fp": -1.0, "tn": 0.0, "fn": -20.0}
ROW = {
    "model": "late", "version": 2, "role": "champion", "decisions": 1_000, "cpu_seconds": 3.25,
    "state_bytes": 12_345, "memory_gb_hours": 0.001, "bytes_written": 2_500_000, "cost": 0.5, "valued": 900,
    "value": 4_500.0, "return": 4_499.5, "per_decision": {"cost": 0.0005, "value": 5.0, "return": 4.9995},
}  # fmt: skip
NOBODY_SAID = ROW | {
    "model": "other", "role": "challenger", "valued": 0, "value": None, "return": None,
    "per_decision": {"cost": 0.0005, "value": None, "return": None},
}  # fmt: skip
SHARED = {"cpu_seconds": 1.5, "state_bytes": 0, "memory_gb_hours": 0.0, "bytes_written": 17_000, "cost": 0.1}
LEDGER = {"models": [ROW, NOBODY_SAID], "shared": SHARED}
VALUE = {
    "stream": "s", "window_seconds": 3600, "payoffs": {"late": PAYOFF}, "matching": 1,
    "prices": {"cpu_hour": 0.1, "memory_gb_hour": 0.0, "gb_written": 0.0, "currency": "EUR"},
    "windows": [{"start": 0, "end": 3_600_000, "start_time": "1970-01-01T00:00:00.000Z", **LEDGER}],
    "total": {"of": "everything", **LEDGER},
}  # fmt: skip


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return result.exit_code, result.output

    return invoke


def test_each_model_has_a_line_and_what_is_not_known_is_a_dash(run, service):
    service.on("GET /v1/streams/s/value?limit=5", VALUE)
    code, text = run("value", "s")
    assert code == 0, text
    lines = [line.split() for line in text.splitlines()]
    [late, _] = [line for line in lines if line and line[0] == "late@2"]
    assert late[1:] == [
        "champion", "1,000", "3.2", "s", "12", "kB", "2", "MB", "0.5000", "900", "4,500.0000", "4,499.5000",
        "0.000500", "5.000000", "4.999500",
    ]  # fmt: skip
    [other, _] = [line for line in lines if line and line[0] == "other@2"]
    assert other[-6:] == ["0", "-", "-", "0.000500", "-", "-"]
    assert "no prices" not in text
    assert "in all:" in text


def test_json_is_the_answer_itself_and_times_are_passed_on(run, service):
    service.on("GET /v1/streams/s/value?from=2026-01-01T00%3A00%3A00Z&limit=1", VALUE)
    code, text = run("value", "s", "--from", "2026-01-01T00:00:00Z", "--windows", 0, "--json")
    assert code == 0, text
    assert json.loads(text.splitlines()[0]) == VALUE


def test_what_is_missing_is_said(run, service):
    free = VALUE["prices"] | {"cpu_hour": 0.0}
    service.on("GET /v1/streams/s/value?limit=5", VALUE | {"prices": free, "payoffs": {}})
    _, text = run("value", "s")
    assert "HEADRACE_PRICE_CPU_HOUR" in text
    assert "headrace model payoff s" in text


def test_a_payoff_is_sent_shown_and_removed(run, service, tmp_path):
    file = tmp_path / "payoff.yaml"
    file.write_text("{tp: 5, fp: -1, tn: 0, fn: -20}", encoding="utf-8")
    shown = {"stream": "s", "payoff": PAYOFF, "models": {"late": PAYOFF | {"tp": 7.0}}}
    service.on("PUT /v1/streams/s/deployments/late/payoff?reason=why", shown)
    service.on("GET /v1/streams/s/payoff", shown)
    service.on("DELETE /v1/streams/s/payoff", shown | {"payoff": None})
    code, text = run("model", "payoff", "s", file, "--model", "late", "--reason", "why")
    assert code == 0, text
    assert json.loads(service.asked[-1].body) == PAYOFF
    assert "tp 7, fp -1, tn 0, fn -20" in run("model", "payoff", "s")[1]
    assert "not known" in run("model", "payoff", "s", "--remove")[1]
    assert run("model", "payoff", "s", file, "--remove")[0] == 1


@pytest.mark.parametrize("text", ["[1, 2]", "{tp: yes}", "{tp: much}", "{tp"])
def test_a_file_that_holds_no_payoff_is_refused_before_anything_is_sent(run, service, tmp_path, text):
    file = tmp_path / "payoff.yaml"
    file.write_text(text, encoding="utf-8")
    assert run("model", "payoff", "s", file)[0] == 1
    assert service.asked == []


RETRAINING = {
    "stream": "s", "retraining": 3, "status": "racing", "says": "", "rungs": [1.0], "trials": [], "served": None,
    "gain": None, "winner": None, "cpu_seconds": 1.5, "cost": 0.0, "worth": None,
    "forecast": {
        "cpu_seconds": 90.0, "cost": 0.025, "most_cpu_seconds": 7200.0, "most_cost": 2.0,
        "basis": "the trials of retraining 2", "currency": "EUR",
    },
}  # fmt: skip
WORTH = {"champion": -0.5, "winner": 0.75, "horizon_decisions": 100_000, "gain": 125_000.0}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "expected cost: 1 min 30 s of processor time, 0.0250 EUR (as the trials of retraining 2 took)"),
        ({}, "at most 2 h 00 min of processor time, 2.0000 EUR"),
        ({}, "expected gain: not known before the race"),
        ({"status": "done", "worth": WORTH}, "expected gain: +125,000.00 over 100,000 decisions"),
        ({"status": "done"}, "expected gain: not known without a payoff"),
        (
            {"forecast": RETRAINING["forecast"] | {"cpu_seconds": None, "cost": None}},
            "expected cost: not known;",
        ),
    ],
)
def test_a_retraining_says_what_it_will_cost_and_gain(run, service, more, says):
    service.on("GET /v1/streams/s/retrainings/3", RETRAINING | more)
    code, text = run("retrain", "status", "s", "--retraining", 3)
    assert code == 0, text
    assert says in text
