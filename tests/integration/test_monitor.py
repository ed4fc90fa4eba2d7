"""The monitor as a process against a real broker: its tables equal a dumb count, also when it is killed on the way."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from headrace import keys
from headrace.broker import EmbeddedBroker
from headrace.contracts.codec import encode
from headrace.contracts.events import StreamAnnounced
from headrace.contracts.topics import ALERTS, REGISTRY, STATISTICS
from headrace.kafka import admin
from headrace.kafka.producer import LogProducer
from headrace.kafka.tail import Tail
from tests.support import fresh
from tests.unit.monitor.made_up import (
    FIELDS,
    HOUR,
    START,
    as_messages,
    auc,
    contract,
    counted,
    log_loss,
    made_up,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(180)]

PARTITIONS = 2
DETAILS = ("fields", "quality", "fairness")
SPOILT = (20, 21, 22, 23)


class Monitor:
    """`python -m services.monitor` on a free port, with a home folder of its own."""

    def __init__(self, bootstrap, home, **settings):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        home.mkdir(parents=True, exist_ok=True)
        self.secret = keys.create(home / "keys.json", "test", "operator")
        self.environment = os.environ | {
            "HEADRACE_BOOTSTRAP": bootstrap,
            "HEADRACE_HOME": str(home),
            "HEADRACE_MONITOR_PORT": str(self.port),
            "HEADRACE_MONITOR_INSTANCE": fresh("monitor"),
            "HEADRACE_MONITOR_BATCH_WAIT_SECONDS": "0.1",
            **{f"HEADRACE_MONITOR_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.log = home / "monitor.log"
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.monitor"], env=self.environment, stdout=log, stderr=log
            )

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(15)

    def ask(self, path, *, method="GET", body=None, key=True):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, data=body)
        if key:
            request.add_header("Authorization", f"Bearer {self.secret}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return json.loads(text) if answer.headers["Content-Type"] == "application/json" else text.decode()

    def until(self, path, fulfilled, seconds=60):
        """Ask until the answer is as wished; says the last answer if it never is."""
        deadline, answer = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                answer = self.ask(path)
                if fulfilled(answer):
                    return answer
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                answer = error
                assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.1)
        raise AssertionError(f"{path}: {answer}\n{self.log.read_text()[-3000:]}")


@pytest.fixture
def start_monitor_on(tmp_path):
    """Makes monitors (not yet started) of a given Kafka; none outlives the test."""
    started = []

    def start(bootstrap, **settings):
        monitor = Monitor(bootstrap, tmp_path / f"home{len(started)}", **settings)
        started.append(monitor)
        return monitor

    yield start
    for monitor in started:
        if monitor.process is not None and monitor.process.poll() is None:
            monitor.stop(signal.SIGKILL)


@pytest.fixture
def start_monitor(kafka, start_monitor_on):
    return functools.partial(start_monitor_on, kafka)


@pytest.fixture
def producer(kafka):
    made = LogProducer(kafka, client_id="monitor-test")
    yield made
    made.close(5)


def announce(kafka, producer, stream):
    admin.ensure_platform_topics(kafka)
    admin.ensure_stream_topics(kafka, stream, PARTITIONS)
    announced = StreamAnnounced(stream, 1, PARTITIONS, contract(stream, PARTITIONS).to_dict())
    message = {"key": f"stream/{stream}".encode(), "value": encode(announced)}
    producer.send(REGISTRY.name, [message]).result(10)


def publish(producer, stream, kinds, begin, end):
    """Produce the share [begin, end) of every partition of every topic."""
    for kind, partitions in kinds.items():
        for place, records in enumerate(partitions):
            part = records[int(begin * len(records)) : int(end * len(records))]
            for first in range(0, len(part), 50_000):
                messages = as_messages(part[first : first + 50_000])
                producer.send(f"{stream}.{kind}", messages, place).result(30)


def everything(kinds):
    """What the summary's counts must be in the end."""
    sizes = {kind: sum(map(len, partitions)) for kind, partitions in kinds.items()}
    return {name: sizes[name] for name in ("predictions", "outcomes", "rejected")}


def has_all(kinds):
    wanted = everything(kinds)
    entries = sum(map(len, kinds["log"]))

    def fulfilled(answer):
        counts = answer["total"]["counts"]
        logged = counts["observations"] + counts["labels"] + counts["controls"]
        return logged == entries and all(counts[name] == count for name, count in wanted.items())

    return fulfilled


def assert_windows_equal(shown, expected):
    assert [window["start"] for window in shown] == sorted(expected)
    for window in shown:
        truth = expected[window["start"]]
        counts, delays = truth["counts"], sorted(truth["delays"])
        assert window["counts"]["observations"] == counts["Observation"]
        assert window["counts"]["labels"] == counts["Label"]
        assert window["counts"]["predictions"] == counts["Prediction"]
        assert window["counts"]["outcomes"] == counts["Outcome"]
        assert window["counts"]["rejected"] == counts["Rejected"]
        assert window["statuses"] == dict(truth["statuses"])
        assert {name: entry["count"] for name, entry in window["missing"].items()} == dict(truth["missing"])
        rejected = {(entry["rule"], entry["field"]): entry["count"] for entry in window["rejected"]}
        assert rejected == dict(truth["rejected"])
        assert window["label_delay"]["count"] == len(delays)
        if delays:
            assert window["label_delay"]["mean_seconds"] == pytest.approx(sum(delays) / len(delays) / 1000)
            for name, share in (("p50_seconds", 0.5), ("p90_seconds", 0.9)):
                exact = delays[round(share * (len(delays) - 1))] / 1000
                assert window["label_delay"][name] == pytest.approx(exact, rel=0.15)
        quality = {entry["model"]: entry for entry in window["quality"]}
        assert set(quality) == set(truth["scored"]) | set(truth["unanswered"])
        for model, scored in truth["scored"].items():
            figures = quality[model]
            assert figures["count"] == len(scored)
            assert figures["unanswered"] == truth["unanswered"][model]
            assert figures["accuracy"] == sum(y == said for y, _, said in scored) / len(scored)
            assert figures["log_loss"] == pytest.approx(log_loss(scored))
            exact = auc([(y, score) for y, score, _ in scored])
            assert figures["roc_auc"] == (pytest.approx(exact) if exact is not None else None)


def expected_alerts(expected, model, below, clear, for_windows, minimum, closed_before):
    """(window end, state) that the rule must tell, by a dumb state machine."""
    told, firing, run = [], False, 0
    for start in sorted(expected):
        scored = expected[start]["scored"].get(model, [])
        value = auc([(y, score) for y, score, _ in scored])
        if start + HOUR > closed_before or value is None or len(scored) < minimum:
            continue
        run = run + 1 if (value >= clear if firing else value < below) else 0
        if run == for_windows:
            firing, run = not firing, 0
            told.append((start + HOUR, "firing" if firing else "resolved"))
    return told


def read_all(kafka, topic):
    tail = Tail(kafka, topic, start="earliest")
    values = []
    while not tail.caught_up():
        values += [(record.key, record.value) for record in tail.read(10_000, 1.0)]
    tail.close()
    return values


def test_tables_and_alerts_equal_a_dumb_count_although_the_monitor_is_killed(kafka, producer, start_monitor):
    stream = fresh("watched")
    kinds = made_up(stream, PARTITIONS, 8_000, spoilt=SPOILT)
    expected = counted(kinds, HOUR)
    announce(kafka, producer, stream)
    monitor = start_monitor(snapshot_records=3_000, batch_records=500)
    rules = monitor.log.parent / "monitor-rules.yaml"
    rules.write_text(
        f"rules:\n- {{name: auc-low, stream: {stream}, metric: roc_auc, model: lr, below: 0.7, clear: 0.75,"
        " for_windows: 2, minimum_count: 100, severity: critical}\n"
    )
    monitor.start()
    for share in range(4):
        publish(producer, stream, kinds, share / 4, (share + 1) / 4)
        if share < 3:
            monitor.until(
                f"/v1/streams/{stream}/summary", lambda answer: answer["total"]["counts"]["outcomes"] > 0
            )
            time.sleep(0.2 * share)
            monitor.stop(signal.SIGKILL)
            monitor.start()
    monitor.until(f"/v1/streams/{stream}/summary", has_all(kinds))
    shown = monitor.ask(f"/v1/streams/{stream}/windows?limit=1000")
    assert_windows_equal(shown["windows"], expected)
    last = min(run[-1].at for run in kinds["outcomes"])
    told = expected_alerts(expected, "lr", 0.7, 0.75, 2, 100, last - 600_000)
    assert [state for _, state in told] == ["firing", "resolved"]
    monitor.until(f"/v1/alerts?stream={stream}", lambda answer: len(answer["alerts"]) >= len(told))
    alerts = monitor.ask(f"/v1/alerts?stream={stream}")["alerts"]
    assert [(alert["at"], alert["state"]) for alert in reversed(alerts)] == told
    assert monitor.stop() == 0
    by_id = {}
    for value in {
        value for _, value in read_all(kafka, ALERTS.name) if json.loads(value)["stream"] == stream
    }:
        assert by_id.setdefault(json.loads(value)["id"], value) == value, "one id, two contents"
    assert len(by_id) == len(told)


def test_a_newcomer_sees_what_was_counted_before_and_serves_it_at_once(kafka, producer, start_monitor):
    stream = fresh("watched")
    kinds = made_up(stream, PARTITIONS, 1_000)
    announce(kafka, producer, stream)
    publish(producer, stream, kinds, 0, 1)
    first = start_monitor()
    first.start()
    first.until(f"/v1/streams/{stream}/summary", has_all(kinds))
    before = first.ask(f"/v1/streams/{stream}/windows?limit=1000")
    details = {view: first.ask(f"/v1/streams/{stream}/{view}") for view in DETAILS}
    assert {one["field"] for one in details["fields"]["fields"]} == set(FIELDS)
    assert {(one["model"], one["field"]) for one in details["fairness"]["models"]} == {
        ("lr", "sex"),
        ("tree", "sex"),
    }
    assert {one["model"] for one in details["quality"]["models"] if "accuracy" in one["estimate"]} == {
        "lr",
        "tree",
    }
    segments = [one for model in details["quality"]["models"] for one in model["segments"]]
    assert {one["field"] for one in segments} == {"carrier", "sex"}
    assert first.ask(f"/v1/streams/{stream}/fields?to={START}")["windows"] == 0
    with pytest.raises(urllib.error.HTTPError, match="404"):
        first.ask("/v1/streams/nobody/fields")
    began = time.monotonic()
    assert first.stop() == 0
    assert time.monotonic() - began < 6
    first.start()
    first.until("/readyz", lambda answer: all(answer.values()))
    assert first.ask(f"/v1/streams/{stream}/windows?limit=1000") == before
    assert {view: first.ask(f"/v1/streams/{stream}/{view}") for view in DETAILS} == details


def test_a_stream_that_appears_at_run_time_is_counted_without_a_restart(kafka, producer, start_monitor):
    monitor = start_monitor()
    monitor.start()
    monitor.until("/readyz", lambda answer: all(answer.values()))
    stream = fresh("newcomer")
    announce(kafka, producer, stream)
    kinds = made_up(stream, PARTITIONS, 200)
    publish(producer, stream, kinds, 0, 1)
    monitor.until(f"/v1/streams/{stream}/summary", has_all(kinds))
    metrics = monitor.ask("/metrics", key=False)
    assert f'headrace_monitor_records_total{{kind="outcomes",stream="{stream}"}} 400.0' in metrics


def test_what_is_no_event_of_its_topic_is_counted_and_harms_nobody(kafka, producer, start_monitor):
    stream = fresh("spoilt")
    announce(kafka, producer, stream)
    kinds = made_up(stream, PARTITIONS, 100)
    publish(producer, stream, kinds, 0, 0.5)
    bad = [
        {"key": b"k", "value": value}
        for value in (b"{", b"\xff\xfe", b"[]", b'{"type":"newer","at":1}', None)
    ]
    for kind in ("log", "predictions", "outcomes", "rejected"):
        producer.send(f"{stream}.{kind}", bad, 0).result(10)
    # Many, so that the producer compresses them: Faust's client stops at a batch it cannot unpack.
    producer.send(STATISTICS.name, bad * 200).result(10)
    publish(producer, stream, kinds, 0.5, 1)
    monitor = start_monitor()
    monitor.start()
    answer = monitor.until(f"/v1/streams/{stream}/summary", has_all(kinds))
    assert answer["total"]["counts"]["undecodable"] == 4 * len(bad)


def test_rules_are_kept_checked_and_closed_to_readers(start_monitor):
    monitor = start_monitor()
    monitor.start()
    monitor.until("/readyz", lambda answer: all(answer.values()))
    rule = {"name": "mae", "stream": "*", "metric": "mae", "above": 5.0, "clear": 4.0}
    given = monitor.ask("/v1/rules", method="PUT", body=json.dumps({"rules": [rule]}).encode())
    assert given["rules"][0]["name"] == "mae"
    with pytest.raises(urllib.error.HTTPError) as refused:
        monitor.ask("/v1/rules", method="PUT", body=json.dumps([{**rule, "metric": "luck"}]).encode())
    assert refused.value.code == 422
    assert json.loads(refused.value.read())["where"] == "rules[0].metric"
    with pytest.raises(urllib.error.HTTPError) as refused:
        monitor.ask("/v1/rules", key=False)
    assert refused.value.code == 401
    with pytest.raises(urllib.error.HTTPError) as refused:
        monitor.ask("/v1/streams/nobody/windows")
    assert refused.value.code == 404
    assert monitor.stop() == 0
    monitor.start()
    monitor.until("/readyz", lambda answer: all(answer.values()))
    assert monitor.ask("/v1/rules") == given


def test_after_an_outage_of_the_broker_both_planes_go_on(tmp_path, start_monitor_on):
    """Longer than the group's session: librdkafka's and Faust's clients have both given up their places by then."""
    broker = EmbeddedBroker(tmp_path / "kafka")
    bootstrap = broker.start().bootstrap_servers
    try:
        monitor = start_monitor_on(bootstrap)
        before, after = fresh("before"), fresh("after")
        for stream in (before, after):
            producer = LogProducer(bootstrap, client_id="monitor-test")
            announce(bootstrap, producer, stream)
            kinds = made_up(stream, PARTITIONS, 200)
            publish(producer, stream, kinds, 0, 1)
            producer.close(5)
            if monitor.process is None:
                monitor.start()
            monitor.until(f"/v1/streams/{stream}/summary", has_all(kinds))
            if stream == before:
                broker.stop()
                time.sleep(7)
                broker.start()
        assert monitor.stop() == 0
    finally:
        broker.stop()
