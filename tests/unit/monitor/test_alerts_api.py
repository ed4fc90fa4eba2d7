"""Alerts, rules and deliveries over HTTP: what is shown, who may act, what is refused and how."""

import pytest
from fastapi.testclient import TestClient

from headrace import keys
from headrace.keys import KeyRing
from headrace.web import create_app
from services.monitor.alerts_api import build_alert_routes
from services.monitor.delivery.channels import Channel
from services.monitor.delivery.deliverer import Deliverer, Outlet
from services.monitor.delivery.log import DeliveryLog
from services.monitor.delivery_api import build_delivery_routes
from services.monitor.rules_api import build_rule_routes
from tests.unit.monitor.test_figures import hour_of
from tests.unit.monitor.told import HOUR, Plane, drift, drift_rule, kept


class Answering(Plane):
    """A control plane whose broker acknowledges at once. asked: how many changes it was asked for."""

    asked = 0

    def _enqueue(self, event, on_sent):
        self.asked += 1
        super()._enqueue(event, on_sent)
        while self.outbox:
            self.sent(self.outbox[0])


@pytest.fixture
def plane():
    made = Answering([drift_rule()])
    for place, event in enumerate(drift(n, subject=f"f{n}", stream="st"[n % 2]) for n in range(5)):
        made.receive_drift(kept([event])[0]._replace(offset=10 + place))
    made.tell()
    return made


@pytest.fixture
def ask(plane, tmp_path):
    secrets = {
        role: keys.create(tmp_path / "keys.json", role, role) for role in ("reader", "operator", "producer")
    }
    hook = Channel("ops", webhook="https://hooks.example.com/hidden-path", secrets=["env:HIDDEN"])
    chat = Channel("chat", apprise="env:HIDDEN", group="escalation")

    def fails(_):
        raise OSError("hidden")

    deliverer = Deliverer(
        "", DeliveryLog(tmp_path / "d.db"), [Outlet(hook, lambda _: None), Outlet(chat, fails)],
        list, give_up_seconds=9,
    )  # fmt: skip
    app = create_app(service="monitor", keys=KeyRing.load(tmp_path / "keys.json"), ready=dict)
    app.include_router(build_alert_routes(plane))
    app.include_router(build_rule_routes(plane, lambda _: None))
    app.include_router(build_delivery_routes(plane, deliverer))
    client = TestClient(app)

    def asked(method, path, body=None, role="operator", status=200):
        headers = {"Authorization": f"Bearer {secrets[role]}"} if role else {}
        answer = client.request(method, path, headers=headers, json=body)
        assert answer.status_code == status, answer.text
        assert "hidden" not in answer.text.lower()
        return answer.json()

    return asked


def test_drift_is_shown_newest_first_in_pages(ask):
    whole = ask("GET", "/v1/drift", role="reader")
    assert ([one["id"] for one in whole["drift"]], whole["next"]) == (
        [f"d{n}" for n in (4, 3, 2, 1, 0)],
        None,
    )
    assert whole["drift"][0]["before"] == 0.1
    page = ask("GET", "/v1/drift?stream=s&limit=2")
    assert ([one["id"] for one in page["drift"]], page["next"]) == (["d4", "d2"], 12)
    rest = ask("GET", f"/v1/drift?stream=s&limit=2&below={page['next']}")
    assert ([one["id"] for one in rest["drift"]], rest["next"]) == (["d0"], None)
    assert ask("GET", "/v1/drift?kind=data")["drift"] == []
    ask("GET", "/v1/drift?kind=luck", status=422)


def test_an_alert_is_acknowledged_by_its_key_once(ask, plane):
    newest = ask("GET", "/v1/alerts/current?stream=s")["alerts"][0]
    path = f"/v1/alerts/{newest['id']}/acknowledge"
    ask("POST", path, {"why": "x"}, role="reader", status=403)
    ask("POST", path, {"why": "two\nlines"}, status=422)
    ask("POST", "/v1/alerts/nobody/acknowledge", {}, status=404)
    plane.time += 5
    first = ask("POST", path, {"why": "known"})
    assert (first["state"], first["acknowledged"]) == (
        "acknowledged", {"by": "operator", "why": "known", "told_at": 1_005_000}
    )  # fmt: skip
    assert ask("POST", path, {"why": "again"}) == first
    assert plane.asked == 1
    shown = ask("GET", f"/v1/alerts/current/{newest['id']}")
    assert [(step["state"], step["by"]) for step in shown["steps"]] == [
        ("firing", ""),
        ("acknowledged", "operator"),
    ]
    assert [one["id"] for one in ask("GET", "/v1/alerts/current?state=acknowledged")["alerts"]] == [
        newest["id"]
    ]
    assert ask("GET", "/v1/alerts?state=acknowledged")["alerts"][0]["alert"] == newest["id"]


def test_a_mute_says_what_how_long_why_and_by_whom_and_is_made_once(ask, plane):
    wanted = {"stream": "s", "seconds": 60, "why": "a rebuild", "id": "0" * 32}
    made = ask("POST", "/v1/mutes", wanted, status=201)
    assert (made["by"], made["until"] - made["created"], made["why"]) == ("operator", 60_000, "a rebuild")
    assert ask("POST", "/v1/mutes", wanted, status=201) == made
    assert plane.asked == 1
    assert ask("GET", "/v1/mutes", role="reader")["mutes"] == [made]
    ended = ask("DELETE", f"/v1/mutes/{made['id']}")
    assert ended["ended_by"] == "operator"
    assert ask("DELETE", f"/v1/mutes/{made['id']}") == ended
    assert ask("GET", "/v1/mutes")["mutes"] == []
    ask("DELETE", "/v1/mutes/none", status=404)


@pytest.mark.parametrize(
    "body",
    [{"seconds": 60, "why": ""}, {"stream": "s", "why": ""}, {"stream": "s", "seconds": 0, "why": ""},
     {"stream": "s", "seconds": 10**8, "why": ""}, {"stream": "s", "seconds": 60},
     {"strem": "s", "stream": "s", "seconds": 60, "why": ""}, {"stream": "s", "seconds": 60, "why": "", "id": "x"}],
)  # fmt: skip
def test_a_mute_of_everything_or_for_ever_is_refused(ask, body):
    ask("POST", "/v1/mutes", body, status=422)


def test_a_rule_is_tried_over_a_time(ask, plane):
    for number, missing in enumerate((0, 5, 0, 5)):
        for value in hour_of(number, missing=missing):
            plane.receive(value)
    rule = {"metric": "missing.age.share", "above": 0.3}
    answer = ask("POST", "/v1/rules/try", {"rule": rule}, role="reader")
    assert (answer["fired"], answer["resolved"], answer["looked_at"], answer["kept_from"]) == (2, 1, 4, 0)
    assert [(one["at"], one["value"]) for one in answer["alerts"]] == [
        (2 * HOUR, 0.5),
        (3 * HOUR, 0.0),
        (4 * HOUR, 0.5),
    ]
    answer = ask("POST", "/v1/rules/try", {"rule": rule, "from": "1970-01-01T02:00:00Z", "to": 4 * HOUR})
    assert (answer["fired"], answer["looked_at"]) == (1, 2)
    assert ask("POST", "/v1/rules/try", {"rule": {"drift": ["concept"]}})["fired"] == 5
    for bad in (
        {},
        {"rule": {"metric": "luck", "above": 1}},
        {"rule": rule, "form": 1},
        {"rule": rule, "from": "soon"},
    ):
        ask("POST", "/v1/rules/try", bad, status=422)
    assert plane.tell() == []


def test_a_rule_that_is_new_over_http_looks_at_what_moves_from_then_on(ask, plane):
    put = ask("PUT", "/v1/rules", [{"name": "new", "stream": "*", "drift": ["concept"]}])
    assert put["rules"][0]["since"] == 1
    assert [rule.name for rule in plane.rules] == ["new"]


def test_a_rule_on_a_figure_that_is_new_over_http_begins_where_its_own_windows_end(ask, plane):
    for number in range(3):
        for value in hour_of(number):
            plane.receive(value)
    for value in list(hour_of(9))[6:]:
        plane.receive(value)
    rule = {"name": "new", "stream": "*", "metric": "counts.observations", "above": 1}
    assert ask("PUT", "/v1/rules", [rule])["rules"][0]["since"] == 3 * HOUR


def test_channels_are_shown_and_tested_without_their_secrets(ask):
    shown = {one["name"]: one for one in ask("GET", "/v1/channels", role="reader")["channels"]}
    assert (shown["ops"]["sort"], shown["ops"]["host"]) == ("webhook", "hooks.example.com")
    assert (shown["chat"]["sort"], shown["chat"]["group"]) == ("apprise", "escalation")
    assert ask("POST", "/v1/channels/ops/test") == {"channel": "ops", "delivered": True, "error": ""}
    assert ask("POST", "/v1/channels/chat/test")["error"] == "OSError"
    ask("POST", "/v1/channels/none/test", status=404)
    ask("POST", "/v1/channels/ops/test", role="reader", status=403)
    assert ask("GET", "/v1/deliveries", role="reader") == {"deliveries": [], "next": None}


@pytest.mark.parametrize(
    "path", ["/v1/drift", "/v1/alerts", "/v1/alerts/current", "/v1/mutes", "/v1/deliveries", "/v1/channels"]
)
def test_nothing_is_shown_without_a_key(ask, path):
    ask("GET", path, role=None, status=401)
    ask("GET", path, role="producer", status=403)
