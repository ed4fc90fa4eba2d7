"""`headrace drift` as a user types it, with a stand-in monitor: what is asked, and what people see of the answer."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from tests.unit.monitor.stretches import World

DRIFT = {
    "id": "3f2a" + "0" * 28, "at": 3_600_000, "stream": "s", "kind": "concept", "subject": "error", "group": "",
    "model": "lr", "version": 1, "before": 0.1, "after": 0.4, "since_at": 1_800_000,
}  # fmt: skip
CHECK = {
    "stream": "s", "partition": 0, "false_alarms": {"events": 100_000}, "cpu_seconds": 2.5,
    "note": "It is its own reference.",
    "checks": [
        {
            "what": "errors", "model": "lr@1", "records": 2_048, "needed": 2_048, "first_offset": 7, "last_offset": 99,
            "promised": 525_000.0, "measured": 400_000.0, "kept": False, "exponent": 0.8, "extrapolated": True,
            "played": 1_000_000, "thresholds": [2_000.0, 8_000.0], "alarms": [300, 90],
        },
        {
            "what": "fields", "model": "", "records": 900, "needed": 2_048, "first_offset": 7, "last_offset": 99,
            "promised": 350_000.0, "measured": None, "kept": True, "exponent": None, "extrapolated": True,
            "played": 50_000, "thresholds": [2_000.0], "alarms": [0],
        },
    ],
}  # fmt: skip


class Segment(World):
    """Carrier B is answered worse since, and hours are lost."""

    def error(self, row, x, model):
        return 0.5 if self.moved(row) and x["carrier"] == "B" else 0.1

    def spoil(self, row, x):
        if self.moved(row) and self.chance.random() < 0.2:
            del x["hour"]
        return x


def answer(found):
    drift = {name: getattr(found.drift, name) for name in found.drift.__struct_fields__}
    return msgspec.to_builtins(found) | {"drift": drift}


@pytest.fixture(scope="module")
def why():
    return answer(Segment().why())


@pytest.fixture
def run(home, service, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    service.on("GET /v1/drift?limit=1000", {"drift": [DRIFT, DRIFT | {"id": "3f2b"}]})

    def call(*words, code=0):
        result = CliRunner().invoke(app, ["drift", *map(str, words)])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


def test_what_has_moved_is_listed_with_what_to_type_next(run, service):
    service.on("GET /v1/drift?stream=s&kind=concept&limit=50", {"drift": [DRIFT], "next": None})
    text = run("list", "--stream", "s", "--kind", "concept").stdout
    assert text.splitlines()[1].split() == [
        "3f2a00000000", "1970-01-01T01:00:00Z", "s", "concept", "error", "lr@1", "0.1000", "0.4000",
        "1970-01-01T00:30:00Z",
    ]  # fmt: skip
    assert "headrace drift why 3f2a00000000" in text


def test_why_says_what_where_and_what_to_do(run, service, why, tmp_path):
    path = f"/v1/drift/{DRIFT['id']}/why"
    service.on(f"GET {path}", why)
    service.on(f"GET {path}?format=svg", "<svg/>")
    text = run("why", "3f2a", "--svg", tmp_path / "why.svg").stdout
    assert (tmp_path / "why.svg").read_text() == "<svg/>"
    lines = text.splitlines()
    assert "concept drift of error of lr@1 on s/0" in lines
    [part] = [line.split() for line in lines if line.strip().startswith("worse")]
    assert part[1:3] == ["carrier", "B"]
    assert any(line.split()[:1] == ["hour"] and line.split()[-1] == "missing" for line in lines)
    [course] = [line for line in lines if "|" in line and set(line) <= set(" |▁▂▃▄▅▆▇█")]
    assert "▁" in course.split("|")[0]
    assert "█" in course.split("|")[1]
    assert "What to do: mend the source" in lines
    assert "(rule broken-source)" in text
    assert json.loads(run("why", "3f2a", "--json").stdout) == why


def test_what_is_not_known_yet_is_said(run, service):
    class Waiting(World):
        def known(self, row):
            return not self.moved(row)

    service.on(f"GET /v1/drift/{DRIFT['id']}/why", answer(Waiting().why("data", "hour")))
    text = run("why", "3f2a").stdout
    assert "The loss: not known yet" in text
    assert "1,500 waiting" in text


@pytest.mark.parametrize(("text", "says"), [("3f", "2 of them begin with 3f"), ("9", "no event of drift 9")])
def test_the_beginning_of_an_id_has_to_name_one(run, text, says):
    assert says in run("why", text, code=1).stderr


def test_a_check_shows_promise_and_measurement_and_its_limits(run, service):
    service.on("GET /v1/drift/check?stream=s&partition=0", CHECK)
    text = run("check", "s").stdout
    assert "at most one false alarm in 100,000 events is promised" in text
    [errors] = [line for line in text.splitlines() if line.startswith("errors of lr@1")]
    assert "525,000" in errors
    assert "400,000" in errors
    assert errors.endswith("no")
    [fields] = [line for line in text.splitlines() if line.startswith("fields  ")]
    assert "900 of 2,048 records" in fields
    assert "(no alarm at all)" in fields
    assert "300 at 2,000, 90 at 8,000" in text
    assert "It is its own reference." in text
    service.on("GET /v1/drift/check?stream=s&partition=0", CHECK | {"checks": []})
    assert "too little of a reference yet" in run("check", "s").stdout
