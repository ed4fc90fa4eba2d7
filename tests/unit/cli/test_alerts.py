"""`headrace alert` as a user types it, with a stand-in monitor: what is asked, what is shown, what is refused."""

import json

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app

ALERT = {
    "id": "3f2a" + "0" * 28, "at": 3_600_000, "state": "firing", "severity": "critical", "stream": "s", "model": "lr",
    "rule": "auc", "reason": "roc_auc of lr is 0.6, below 0.7", "acknowledged": None,
}  # fmt: skip
OTHER = ALERT | {"id": "3f2b" + "0" * 28, "model": ""}
DELIVERY = {
    "changed": 0, "channel": "ops", "alert": ALERT["id"], "state": "firing", "status": "waiting", "attempts": 2,
    "error": "HTTP 500",
}  # fmt: skip


@pytest.fixture
def run(home, service, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    service.on("GET /v1/alerts/current?limit=1000", {"alerts": [ALERT, OTHER]})

    def call(*words, code=0):
        result = CliRunner().invoke(app, ["alert", *words])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


def test_alerts_are_listed_and_one_is_shown_with_its_steps_and_deliveries(run, service):
    service.on("GET /v1/alerts/current?stream=s&limit=50", {"alerts": [ALERT, OTHER]})
    line = run("list", "--stream", "s").stdout.splitlines()[1]
    assert line.split("   ")[:4] == ["3f2a00000000", "1970-01-01T01:00:00Z", "firing", "critical"]
    steps = [{"told_at": 0, "state": "firing", "severity": "critical", "by": "", "why": ""}]
    service.on(f"GET /v1/alerts/current/{ALERT['id']}", ALERT | {"steps": steps})
    service.on(f"GET /v1/deliveries?alert={ALERT['id']}&limit=100", {"deliveries": [DELIVERY]})
    shown = run("show", "3f2a").stdout
    assert "below 0.7" in shown
    assert "HTTP 500" in shown
    assert json.loads(run("show", "3f2a", "--json").stdout)["deliveries"] == [DELIVERY]


@pytest.mark.parametrize(
    ("text", "says"), [("3f2", "2 of them begin with 3f2"), ("99", "there is no alert 99")]
)
def test_the_beginning_of_an_id_has_to_name_one_alert(run, text, says):
    assert says in run("ack", text, code=1).stderr


def test_acknowledging_says_why(run, service):
    seen = {"by": "ada", "why": "known", "told_at": 0}
    service.on(f"POST /v1/alerts/{ALERT['id']}/acknowledge", ALERT | {"acknowledged": seen})
    assert run("ack", "3f2a", "--why", "known").stdout == "3f2a00000000 is acknowledged by ada: known\n"
    assert json.loads(service.asked[-1].body) == {"why": "known"}


def test_muting_says_what_and_how_long_under_an_id_of_its_own(run, service):
    service.on("POST /v1/mutes", {"id": "m" * 32, "until": 7_200_000}, status=201)
    assert "muted until 1970-01-01T02:00:00Z" in run("mute", "2h", "--stream", "s", "--why", "x").stdout
    asked = json.loads(service.asked[-1].body)
    assert (asked.pop("stream"), asked.pop("seconds"), asked.pop("why"), len(asked.pop("id"))) == (
        "s",
        7200,
        "x",
        32,
    )
    assert asked == {}
    assert "say which alerts" in run("mute", "2h", code=1).stderr
    assert "no duration" in run("mute", "soon", "--stream", "s", code=1).stderr


def test_rules_and_channels_are_listed_and_a_channel_is_tested(run, service):
    rules = [
        {"name": "auc", "stream": "s", "metric": "roc_auc", "below": 0.7, "model": "lr", "for_windows": 2},
        {"name": "moved", "stream": "*", "drift": ["bias", "data"], "severity": "info"},
    ]
    service.on("GET /v1/rules", {"rules": rules})
    shown = run("rules").stdout
    assert "roc_auc of lr below 0.7 for 2 window(s)" in shown
    assert "bias, data drift" in shown
    entry = {"name": "ops", "sort": "webhook", "host": "", "severity": "info", "group": "first", "waiting": 3}
    service.on("GET /v1/channels", {"channels": [entry]})
    assert "ops" in run("channels").stdout
    service.on("POST /v1/channels/ops/test", {"channel": "ops", "delivered": False, "error": "HTTP 500"})
    assert "ops was not reached: HTTP 500" in run("channels", "--test", "ops", code=1).stdout


def test_a_rule_is_tried_from_options_or_from_a_file(run, service, tmp_path):
    told = {"at": 0, "state": "firing", "stream": "s", "model": "", "value": 0.5, "reason": "because"}
    answer = {"fired": 1, "resolved": 0, "looked_at": 4, "judged": 3, "kept_from": 0, "alerts": [told]}
    service.on("POST /v1/rules/try", answer)
    shown = run("try", "--metric", "mae", "--above", "5", "--stream", "s", "--from", "2013-01-01").stdout
    assert shown.startswith("fired 1 time(s), ended 0: 4 window(s) since 1970-01-01T00:00:00Z, 3 judged\n")
    assert "because" in shown
    asked = json.loads(service.asked[-1].body)
    assert asked == {
        "rule": {"name": "tried", "stream": "s", "metric": "mae", "above": 5.0, "for_windows": 1},
        "from": "2013-01-01", "to": None,
    }  # fmt: skip
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: a, drift: [data]}, {name: b, metric: f1, below: 0.5}]")
    assert "holds 2 such rules" in run("try", str(file), code=1).stderr
    assert "1 judged" not in run("try", str(file), "--rule", "a").stdout
    assert json.loads(service.asked[-1].body)["rule"] == {"name": "a", "drift": ["data"]}


def test_deliveries_are_listed(run, service):
    service.on("GET /v1/deliveries?channel=ops&limit=50", {"deliveries": [DELIVERY]})
    assert json.loads(run("deliveries", "--channel", "ops", "--json").stdout) == {"deliveries": [DELIVERY]}
    assert "HTTP 500" in run("deliveries", "--channel", "ops").stdout
