"""The commands as a user types them, against stand-in services: what is asked, shown, printed as JSON, returned."""

import base64
import json

import pytest
from typer.testing import CliRunner

from headrace.cli import tail
from headrace.cli.main import app
from headrace.contracts.stream import Field, LabelSpec, StreamContract, check
from headrace.kafka.tail import TailRecord

CONTRACT = check(StreamContract("s", "binary", [Field("a", "number")], label=LabelSpec("good")))


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


def only_json(result):
    """Standard output is one JSON object and nothing else."""
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


class TestStreams:
    def test_list_reads_every_page(self, run, service):
        service.on(
            "GET /v1/streams", {"streams": [{"stream": "a", "task": "binary", "version": 1}], "next": "a"}
        )
        service.on("GET /v1/streams?after=a", {"streams": [{"stream": "b"}], "next": None})
        assert [one["stream"] for one in only_json(run("stream", "list", "--json"))["streams"]] == ["a", "b"]
        assert service.asked[0].headers["authorization"] == "Bearer hr_test"
        text = run("stream", "list").stdout
        assert "binary" in text
        assert "\nb " in text

    def test_create_from_a_contract(self, run, service, tmp_path):
        service.on(
            "POST /v1/streams", {"stream": "s", "version": 1, "partitions": 1, "created": True}, status=201
        )
        path = tmp_path / "c.yaml"
        path.write_text("kind: DataContract\n")
        assert only_json(run("stream", "create", path, "--json"))["stream"] == "s"
        assert service.asked[0].body == b"kind: DataContract\n"
        assert service.asked[0].headers["content-type"] == "application/yaml"

    def test_create_from_a_file_nobody_prepared(self, run, service, tmp_path):
        service.on("POST /v1/streams", {"stream": "my-sales", "version": 1, "partitions": 1}, status=201)
        path = tmp_path / "My Sales.csv"
        path.write_text("shop,n,sold\n" + "".join(f"s{n % 3},{n},{n % 2}\n" for n in range(50)))
        answer = run("stream", "create", "--from", path, "--label", "sold", "--leave-out", "n")
        assert b"name: my-sales" in service.asked[0].body
        assert b"name: n\n" not in service.asked[0].body
        assert "my-sales: binary, label sold" in answer.stdout
        assert "headrace publish my-sales" in answer.stdout

    def test_dry_run_asks_nobody(self, run, service, tmp_path):
        path = tmp_path / "x.jsonl"
        path.write_text("\n".join(json.dumps({"a": n, "y": n / 3}) for n in range(30)))
        answer = only_json(run("stream", "create", "--from", path, "--label", "y", "--dry-run", "--json"))
        assert answer["contract"]["task"] == "regression"
        assert service.asked == []

    @pytest.mark.parametrize("arguments", [(), ("--label", "x")])
    def test_create_needs_a_source(self, run, arguments):
        assert "--from FILE --label COLUMN" in run("stream", "create", *arguments, code=1).stderr

    def test_show(self, run, service):
        deployments = [{"model": "m", "version": 3, "role": "champion"}]
        service.on(
            "GET /v1/streams/s", {"stream": "s", "contract": CONTRACT.to_dict(), "deployments": deployments}
        )
        text = run("stream", "show", "s").stdout
        assert "s: binary, label good (boolean)" in text
        assert "champion" in text

    def test_breaking_changes_are_shown(self, run, service, tmp_path):
        problem = {"title": "Breaking", "detail": "not compatible", "changes": ["field a is gone"]}
        service.on("POST /v1/streams", problem, status=409)
        path = tmp_path / "c.yaml"
        path.write_text("x: 1")
        result = run("stream", "create", path, "--json", code=1)
        assert only_json(result) == {"error": "Breaking: not compatible\n  - field a is gone"}


class TestModels:
    def test_deploy_registers_and_deploys(self, run, service, tmp_path):
        service.on("POST /v1/models", {"model": "spec", "version": 2}, status=201)
        service.on("POST /v1/streams/s/deployments", {"version": 2, "offsets": {"0": 17}}, status=201)
        path = tmp_path / "spec.yaml"
        path.write_text("description: a tree\nmodel: tree.HoeffdingTreeClassifier\n")
        text = run("model", "deploy", "s", path, "--challenger").stdout
        assert "spec version 2 is challenger of s from these log offsets on: 0: 17" in text
        registered, deployed = (json.loads(asked.body) for asked in service.asked)
        assert registered["specification"]["model"] == "tree.HoeffdingTreeClassifier"
        assert registered["description"] == "a tree"
        assert deployed == {"model": "spec", "role": "challenger", "version": 2}

    @pytest.mark.parametrize(("content", "says"), [("[1]", "must hold an object"), ("a: [", "is not YAML")])
    def test_a_specification_that_is_none(self, run, service, tmp_path, content, says):
        path = tmp_path / "spec.yaml"
        path.write_text(content)
        assert says in run("model", "deploy", "s", path, code=1).stderr
        assert service.asked == []

    def test_list_and_show(self, run, service):
        service.on(
            "GET /v1/models", {"models": [{"model": "m", "version": 1, "description": "d"}], "next": None}
        )
        service.on("GET /v1/models/m/versions/1", {"model": "m", "specification": {"model": "x.Y"}})
        assert only_json(run("model", "list", "--json"))["models"][0]["model"] == "m"
        assert "model: x.Y" in run("model", "show", "m", "--version", "1").stdout


class TestPublish:
    @pytest.fixture
    def stream(self, service, accept_all):
        service.on("GET /v1/streams/s", {"stream": "s", "contract": CONTRACT.to_dict()})
        service.on("POST /v1/streams/s/events", accept_all)

    @pytest.fixture
    def table(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("a,good,note\n1,1,x\n2,0,y\n")
        return path

    def test_rows_become_observations_and_labels(self, run, service, stream, table):
        report = only_json(run("publish", "s", table, "--no-wait", "--json"))
        assert (report["rows"], report["observations"], report["labels"], report["accepted"]) == (2, 2, 2, 4)
        (asked,) = [one for one in service.asked if one.method == "POST"]
        assert [(line.get("type"), line["id"]) for line in asked.lines] == [
            (None, "t.csv:1"), ("label", "t.csv:1"), (None, "t.csv:2"), ("label", "t.csv:2"),
        ]  # fmt: skip
        assert [line.get("a") for line in asked.lines] == [1.0, None, 2.0, None]

    def test_it_says_what_is_left_out_and_what_to_do_next(self, run, stream, table):
        result = run("publish", "s", table, "--no-wait")
        assert "columns that the contract does not know are left out: note" in result.stdout
        assert "headrace tail outcomes s" in result.stdout

    def test_rejects_are_shown_and_all_rejected_is_a_failure(self, run, service, stream, table):
        rejected = [{"line": n, "rule": "range", "field": "a", "reason": "over 1"} for n in (1, 2, 3, 4)]
        service.on("POST /v1/streams/s/events", {"title": "No event", "rejected": rejected}, status=422)
        result = run("publish", "s", table, "--no-wait", "--json", code=1)
        assert only_json(result)["rules"] == {"range": 4}
        assert "range: a: over 1" in result.stderr

    def test_waiting_ends_with_the_metrics(self, run, service, stream, table, monkeypatch):
        monkeypatch.setattr("headrace.kafka.admin.end_offsets", lambda bootstrap, topic: {0: 10})
        model = {"model": "m", "version": 1, "role": "champion", "metrics": {"overall": {"roc_auc": 0.75}}}
        parts = [{"partitions": {"0": {"offset": at}}, "total": {"models": [model]}} for at in (4, 9)]
        service.on("GET /v1/streams/s/metrics", *parts)
        result = run("publish", "s", table)
        assert "champion m v1: ROC AUC 0.750" in result.stdout

    def test_no_such_stream(self, run, service, table):
        assert "headrace stream create --from" in run("publish", "nope", table, code=1).stderr


class TestKeys:
    def test_a_key_is_shown_once_and_listed_without_its_secret(self, run):
        made = only_json(run("key", "create", "bob", "--role", "reader", "--role", "producer", "--json"))
        assert made["roles"] == ["reader", "producer"]
        listed = run("key", "list", "--json")
        assert [key["name"] for key in only_json(listed)["keys"]] == ["bob"]
        assert made["key"] not in listed.output

    def test_an_unknown_role(self, run):
        assert (
            "producer, reader, operator, admin"
            in run("key", "create", "bob", "--role", "king", code=1).stderr
        )


class TestStatusAndDown:
    def test_status_of_a_stopped_system_fails_and_says_what_to_do(self, run):
        result = run("status", code=1)
        assert "headrace up starts what is missing" in result.stdout
        report = only_json(run("status", "--json", code=1))
        assert (report["well"], report["broker"]["ready"], report["streams"]) == (False, False, [])

    def test_down_when_nothing_runs(self, run):
        assert only_json(run("down", "--json"))["stopped"] == []

    def test_data_is_not_deleted_without_a_yes(self, run, home):
        assert "--yes" in run("down", "--delete", "--json", code=1).stderr
        assert home.path.exists()
        assert only_json(run("down", "--delete", "--yes", "--json"))["deleted"] is True
        assert not home.path.exists()

    def test_no_key_is_an_error_with_an_answer(self, run, home):
        home.cli_key_file.unlink()
        assert "run: headrace up" in run("stream", "list", code=1).stderr

    def test_ctrl_c_is_clean(self, run, monkeypatch):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("headrace.cli.system.up", interrupted)
        result = run("up", "--json", code=130)
        assert result.stdout == ""
        assert result.stderr.endswith("stopped\n")


class TestTail:
    @pytest.fixture
    def topic(self, monkeypatch):
        """Give a topic's records; remembers how it was opened."""
        opened = {}

        def fill(*values):
            class Fake:
                def __init__(self, bootstrap, topic, *, start):
                    opened.update(bootstrap=bootstrap, topic=topic, start=start)
                    self.left = [TailRecord(0, n, None, value, 0) for n, value in enumerate(values)]

                def read(self, limit, timeout_seconds):
                    given, self.left = self.left[:limit], self.left[limit:]
                    return given

                def caught_up(self):
                    return not self.left

                def close(self):
                    opened["closed"] = True

            monkeypatch.setattr(tail, "Tail", Fake)
            return opened

        return fill

    def test_ndjson(self, run, topic):
        opened = topic(b'{"id":"1","at":5}', None, b'{"id":"2","at":6}')
        result = run("tail", "predictions", "s", "--no-follow", "--json")
        assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["1", "2"]
        assert opened == {
            "bootstrap": "127.0.0.1:1",
            "topic": "s.predictions",
            "start": "earliest",
            "closed": True,
        }

    def test_limit_and_lines_for_people(self, run, topic):
        outcome = {
            "id": "f1", "at": 1357035300000, "status": "labelled", "y": False, "model": "m", "answer": True,
            "score": 0.75, "challengers": [{"model": "c", "version": 1}],
        }  # fmt: skip
        opened = topic(*[json.dumps(outcome).encode()] * 3)
        result = run("tail", "outcomes", "s", "-n", "2")
        line = "2013-01-01 10:15:00  f1  labelled  truth false  m: true (0.750)  c: no answer"
        assert result.stdout.splitlines() == [line, line]
        assert opened["start"] == "latest"

    def test_rejects_show_the_original(self, run, topic):
        rejected = {
            "at": 0,
            "rule": "json",
            "reason": "not JSON",
            "original": base64.b64encode(b"\xff{").decode(),
        }
        topic(json.dumps(rejected).encode())
        assert "json: not JSON  <- \\xff{" in run("tail", "rejected", "s", "--no-follow").stdout

    def test_alerts_of_one_stream_or_all(self, run, topic):
        alerts = [
            json.dumps({"id": name, "stream": name, "rule": "quality", "at": 0, "state": "firing"}).encode()
            for name in ("a", "b")
        ]
        opened = topic(*alerts)
        assert run("tail", "alerts", "--no-follow", "--json").stdout.count("\n") == 2
        assert opened["topic"] == "headrace.alerts"
        topic(*alerts)
        assert json.loads(run("tail", "alerts", "b", "--no-follow", "--json").stdout)["id"] == "b"

    def test_a_stream_must_be_named(self, run):
        assert "headrace tail outcomes STREAM" in run("tail", "outcomes", code=1).stderr


def test_every_command_has_help_and_json():
    from typer.main import get_command

    root = get_command(app)
    leaves = []
    for name, command in root.commands.items():
        leaves += [
            (f"{name} {sub}", one) for sub, one in getattr(command, "commands", {name: command}).items()
        ]
    assert len(leaves) >= 14
    for name, command in leaves:
        assert command.help, name
        assert any("--json" in parameter.opts for parameter in command.params), name
