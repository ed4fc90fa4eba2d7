"""`headrace retrain proposals`, `approve`, `dismiss`, `story`: what is asked, and what people see of the answer."""

import json

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app

WAITING = {
    "stream": "s", "proposal": 3, "status": "waiting", "waits_for": "approval", "until": "2026-12-03T10:00:00.000Z",
    "by": "", "says": "a person has to approve it", "event": "e3", "drift": "d3", "cause": "error has moved",
    "model": "m", "version": 1, "subject": "error", "before": 0.1, "after": 0.3, "since": {"0": 7}, "at": 5,
    "retraining": None, "created_at": "2026-11-26T10:00:00.000Z", "changed_at": "2026-11-26T10:00:00.000Z",
}  # fmt: skip
OLDER = WAITING | {
    "proposal": 2,
    "status": "passed_over",
    "waits_for": "",
    "until": None,
    "by": "the registry",
}
PROPOSED = {
    "at": "2026-11-26T10:00:00.000Z", "what": "proposed", "by": "a retrain event", "says": "error has moved",
}  # fmt: skip
EXPECTED = {
    "cpu_seconds": 90.0, "cost": 0.025, "most_cpu_seconds": 7200.0, "most_cost": 2.0,
    "basis": "m@1 in scoring", "currency": "EUR", "lost": 0.2, "lost_of": "error",
}  # fmt: skip
STORY = WAITING | {
    "outcome": "waiting", "expected": EXPECTED, "untold": "", "race": None, "rollout": None, "steps": [PROPOSED],
}  # fmt: skip
BEGUN = STORY | {"status": "begun", "waits_for": "", "outcome": "racing", "retraining": 4, "by": "ann"}
ALERTS = "GET /v1/alerts/current?stream=s&limit=1000"


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return result.exit_code, result.output

    return invoke


def test_what_was_proposed_is_a_line_each_and_what_a_person_may_do_is_said(run, service):
    service.on("GET /v1/streams/s/proposals?limit=20", {"proposals": [WAITING, OLDER], "next": None})
    code, text = run("retrain", "proposals", "s")
    assert code == 0, text
    assert "waits for approval" in text
    assert "until 2026-12-03T10:00:00.000Z" in text
    assert "passed over" in text
    assert "headrace retrain approve s" in text
    code, text = run("retrain", "proposals", "s", "--json")
    assert [one["proposal"] for one in json.loads(text.splitlines()[0])["proposals"]] == [3, 2]


@pytest.mark.parametrize("verb", ["approve", "dismiss"])
def test_the_one_that_waits_is_decided_about(run, service, verb):
    service.on(
        "GET /v1/streams/s/proposals?limit=500",
        {"proposals": [OLDER | {"proposal": 4}, WAITING], "next": None},
    )
    service.on(f"POST /v1/streams/s/proposals/3/{verb}?reason=it+may", BEGUN)
    code, text = run("retrain", verb, "s", "--reason", "it may")
    assert code == 0, text
    asked = service.asked[-1]
    assert (asked.method, asked.path) == ("POST", f"/v1/streams/s/proposals/3/{verb}?reason=it+may")
    assert asked.headers["idempotency-key"]
    assert "proposal 3 of s: racing" in text
    assert "headrace retrain status s --follow" in text


def test_where_nothing_waits_nothing_is_decided(run, service):
    service.on("GET /v1/streams/s/proposals?limit=500", {"proposals": [OLDER], "next": None})
    code, text = run("retrain", "approve", "s")
    assert code == 1
    assert "no proposal of s waits" in text
    assert all(asked.method == "GET" for asked in service.asked)


def test_a_story_tells_its_steps_and_the_alerts_that_they_are_about(run, service):
    service.on("GET /v1/streams/s/proposals?limit=1", {"proposals": [WAITING], "next": 3})
    service.on("GET /v1/streams/s/proposals/3", STORY)
    service.on(ALERTS, {"alerts": [{"id": "a", "drift": "d3"}, {"id": "b", "drift": "other"}]})
    fired = {"told_at": 1_700_000_000_000, "state": "firing", "by": "", "why": "", "reason": "concept drift"}
    over = fired | {
        "told_at": 1_900_000_000_000,
        "state": "resolved",
        "reason": "m-anew@1 is the champion now",
    }
    service.on("GET /v1/alerts/current/a", {"id": "a", "steps": [fired, over]})
    service.on("GET /v1/alerts/current/b", {"id": "b", "steps": [fired]})
    code, text = run("retrain", "story", "s", "--json")
    assert code == 0, text
    steps = json.loads(text.splitlines()[0])["steps"]
    assert [step["what"] for step in steps] == ["alert firing", "proposed", "alert resolved"]
    assert steps[0]["at"] == "2023-11-14T22:13:20.000Z"
    code, text = run("retrain", "story", "s")
    assert "it waits for approval: a person has to approve it (until 2026-12-03T10:00:00.000Z)" in text
    assert "m-anew@1 is the champion now" in text
    assert "expected cost: 1 min 30 s of processor time, 0.0250 EUR (as m@1 in scoring took)" in text
    assert "expected gain: 0.2 error an event" in text


def test_a_story_is_told_without_the_monitor_and_says_what_cannot_be_told(run, service):
    way = {"rollout": 2, "stage": "shadow", "open": True, "ruling": "", "labels": 40, "most_labels": 1_000,
           "approved_by": "", "awaits_approval": True}  # fmt: skip
    service.on(
        "GET /v1/streams/s/proposals/3",
        STORY
        | {"expected": None, "untold": "it cannot be told: no champion", "rollout": way, "outcome": "shadow"},
    )
    code, text = run("retrain", "story", "s", "--proposal", 3)
    assert code == 0, text
    assert "expected cost and gain: it cannot be told: no champion" in text
    assert "rollout 2: shadow, 40 of at most 1,000 labels, waits for approval" in text


def test_of_a_stream_without_proposals_there_is_no_story(run, service):
    service.on("GET /v1/streams/s/proposals?limit=1", {"proposals": [], "next": None})
    code, text = run("retrain", "story", "s")
    assert code == 1
    assert "nothing was proposed for s yet" in text
