"""`headrace dataset`, `stream contract` and what `model lineage` says of data: what is asked, shown and returned."""

import json
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.cli.past import _cut
from headrace.contracts.stream import Field, StreamContract, check
from headrace.datasets.measure import measure
from headrace.datasets.measurement import Rejections, Stretch
from headrace.datasets.places import places
from headrace.datasets.source import Source
from headrace.replay.plan import Bound
from headrace.testing import builders
from tests.unit.datasets.logs import Log, at_offsets, events, values

CONTRACT = check(StreamContract("s", "binary", [Field("a", "number")]))


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


def document(**more: Any) -> dict[str, Any]:
    """A version as the registry answers it, really measured."""
    log = Log(at_offsets(values(events(1, 200))))
    measured = measure(Source(log), "s", [Stretch(0, 0, log.bounds("", 0).end)], 0)
    rejected = Rejections(50, 0.125, {"json": 20, "range": 30})
    measured = msgspec.structs.replace(
        measured, quality=msgspec.structs.replace(measured.quality, rejected=rejected)
    )
    return {
        "name": "d", "version": 2, "stream": "s", "ranges": {"0": {"from": 0, "before": 999}}, "contracts": [1, 2],
        "without": ["entity:e1"], "description": "all of it", "created_at": "2026-11-26T00:00:00Z",
        "created_by": "ann", "reason": "why not", "state": "measured", "failure": "", "digest": measured.digest,
        "records": measured.quality.records, "measured_at": "2026-11-26T00:00:01Z",
        "measurement": msgspec.to_builtins(measured),
        "seen_by": [{"model": "m", "version": 3, "share": 0.5, "ranges": {"0": {"from": 9, "before": 99}},
                     "without": False, "ended_at": None}],
        **more,
    }  # fmt: skip


UNMEASURED: dict[str, Any] = {"measurement": None, "digest": None, "records": None, "seen_by": []}
PATH = "/v1/datasets/d/versions/2"


def test_create_waits_until_it_is_measured(run, service):
    service.on("POST /v1/datasets", {"name": "d", "version": 2, "created": True}, status=201)
    measuring = document(state="measuring", **UNMEASURED)
    service.on(f"GET {PATH}", measuring, measuring, document())
    result = run("dataset", "create", "d", "--stream", "s", "--without", "entity:e1", "--json")
    assert json.loads(result.stdout) == {**document(), "created": True}
    assert [one.path for one in service.asked].count(PATH) == 3
    assert service.asked[0].lines == [
        {"name": "d", "stream": "s", "without": ["entity:e1"], "description": ""}
    ]


def test_create_need_not_wait_and_keeps_the_reason(run, service):
    service.on("POST /v1/datasets?reason=why+not", {"name": "d", "version": 2, "created": False})
    service.on(f"GET {PATH}", document(state="measuring", **UNMEASURED))
    text = run("dataset", "create", "d", "--stream", "s", "--reason", "why not", "--no-wait").stdout
    assert "d@2 is there already" in text
    assert "headrace dataset show d@2" in text


def test_what_cannot_be_measured_is_exit_code_1(run, service):
    service.on("POST /v1/datasets", {"name": "d", "version": 2, "created": True}, status=201)
    service.on(f"GET {PATH}", document(state="failed", failure="a segment is damaged", **UNMEASURED))
    assert "a segment is damaged" in run("dataset", "create", "d", "--stream", "s", code=1).stdout
    assert "nothing to compare: a segment is damaged" in run("dataset", "verify", "d@2", code=1).output


def test_offsets_of_several_partitions_are_refused_before_anything_is_made(run, service):
    service.on("GET /v1/streams/s", {"partitions": 2})
    result = run("dataset", "create", "d", "--stream", "s", "--from", "10", code=1)
    assert "s has 2 partitions, each with offsets of its own: give a time" in result.output
    assert not any(one.method == "POST" for one in service.asked)


def test_offsets_are_sent_as_they_are(run, service, monkeypatch):
    service.on("GET /v1/streams/s", {"partitions": 1})
    service.on("POST /v1/datasets", {"name": "d", "version": 2, "created": True}, status=201)
    service.on(f"GET {PATH}", document())
    monkeypatch.setattr(
        "headrace.kafka.history.KafkaHistory.bounds", lambda *_: (0, 10**6)
    )  # nothing is to be read for them
    run("dataset", "create", "d", "--stream", "s", "--from", "10", "--to", "90")
    [made] = [one.lines[0] for one in service.asked if one.method == "POST"]
    assert made["ranges"] == {"0": {"from": 10, "before": 90}}


def test_show_tells_people_everything(run, service):
    service.on("GET /v1/datasets/d?limit=1", {"versions": [{"version": 2}], "next": 2})
    service.on(f"GET {PATH}", document())
    text = run("dataset", "show", "d").stdout
    quality = document()["measurement"]["quality"]
    for said in (
        "s.log, offsets 0: 0..999", "contract 1, 2", "without entity:e1", "by ann: why not", document()["digest"],
        f"{quality['observations']} observations", f"{quality['unmatched']} without their observation",
        f"late: {quality['late']} of", "rejected: 50 of", "(json 20, range 30)", "sources: labels ", "(not named) ",
        "label: false ", "label delay: median ", "m@3", "50.0%", "0: 9..99",
    ):  # fmt: skip
        assert said in text, (said, text)
    rows = [line.split() for line in text.splitlines()]
    assert any(row[:2] == ["n", "number"] and len(row) == 11 for row in rows)
    assert any(row[:2] == ["t", "string"] and row[4] == "8" for row in rows)
    assert any(row[:2] == ["m", "integer"] and len(row) == 5 for row in rows)  # personal: no values
    assert json.loads(run("dataset", "show", "d@2", "--json").stdout) == document()


def test_lists(run, service):
    one = {key: value for key, value in document().items() if key not in ("measurement", "seen_by")}
    service.on("GET /v1/datasets", {"datasets": [one], "next": "d"})
    service.on("GET /v1/datasets?after=d", {"datasets": [{**one, "name": "e"}], "next": None})
    assert [found["name"] for found in json.loads(run("dataset", "list", "--json").stdout)["datasets"]] == [
        "d",
        "e",
    ]
    text = run("dataset", "list").stdout
    assert "d@2" in text
    assert one["digest"][:12] in text
    service.on("GET /v1/datasets/d", {"versions": [one], "next": 2})
    service.on("GET /v1/datasets/d?below=2", {"versions": [{**one, "version": 1}], "next": None})
    found = json.loads(run("dataset", "list", "d", "--json").stdout)["datasets"]
    assert [version["version"] for version in found] == [2, 1]
    assert "is no version" in run("dataset", "show", "d@x", code=1).output


def test_contract_versions(run, service):
    first = {
        "version": 1, "digest": "a" * 64, "created_at": "then", "created_by": "ann", "offsets": {"0": 0},
        "changes": [], "contract": CONTRACT.to_dict(),
    }  # fmt: skip
    second = {**first, "version": 2, "digest": "b" * 64, "offsets": None,
              "changes": [{"where": "label.wait_seconds", "before": 50, "after": 60}]}  # fmt: skip
    service.on("GET /v1/streams/s/versions", {"versions": [first], "next": 1})
    service.on("GET /v1/streams/s/versions?after=1", {"versions": [second], "next": None})
    service.on("GET /v1/streams/s/versions/2", second)
    service.on("GET /v1/streams/s/contract?version=2", "kind: DataContract\n")
    assert json.loads(run("stream", "contract", "s", "--json").stdout)["versions"] == [first, second]
    text = run("stream", "contract", "s").stdout
    assert "version 2: label.wait_seconds: 50 -> 60" in text
    assert "pending" in text
    assert json.loads(run("stream", "contract", "s", "--version", "2", "--json").stdout) == second
    assert "s: binary" in run("stream", "contract", "s", "--version", "2").stdout
    assert run("stream", "contract", "s", "--version", "2", "--document").stdout == "kind: DataContract\n\n"
    assert "say which version" in run("stream", "contract", "s", "--document", code=1).output


def test_lineage_names_the_datasets(run, service):
    life = {
        "stream": "s", "model": "m", "version": 1, "learnt": {"0": {"from": 1, "before": None}}, "without": [],
        "contracts": [1], "places": [], "ended_at": None,
        "datasets": [{"name": "d", "version": 2, "share": 0.25, "ranges": {}}],
    }  # fmt: skip
    service.on("GET /v1/models/m/versions/1/lineage", {"version": {}, "lives": [life], "rollouts": []})
    assert "datasets: d@2 (25.0%)" in run("model", "lineage", "m@1").stdout


@pytest.mark.parametrize(
    ("part", "offset", "share"),
    [("0", 60, 0.125), ("0", 500, 0.25), ("0", 10, 0.0), ("1", 60, 0.125), ("2", 60, 0.0)],
)
def test_why_counts_of_a_dataset_what_was_learnt_by_then(part: str, offset: int, share: float) -> None:
    """The life has learnt 100 offsets of each of two partitions, half of the dataset."""
    dataset = {
        "name": "d", "version": 1, "share": 0.5,
        "ranges": {"0": {"from": 10, "before": 110}, "1": {"from": 10, "before": 110}},
    }  # fmt: skip
    assert _cut(dataset, part, offset)["share"] == pytest.approx(share)


def test_a_time_is_the_place_of_the_first_record_that_is_not_before_it() -> None:
    made = [
        builders.adopted(),
        *(builders.observation(f"o{n}", at=at) for n, at in enumerate([10, 30, 20, 40])),
    ]
    log = Log(at_offsets(values(made)), batch=2)

    def found(*times: int) -> list[int]:
        return places(log, "s.log", 0, [Bound("time", one) for one in times])

    assert found(0, 10, 11, 25, 31, 40) == [1, 1, 2, 2, 4, 4]
    assert found(41) == [5]
    assert places(log, "s.log", 0, [Bound("offset", 3), Bound("time", 25)]) == [3, 2]
    assert places(log, "s.log", 0, [Bound("offset", 77)]) == [77]
