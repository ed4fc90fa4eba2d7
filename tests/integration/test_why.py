"""Why, on a real Kafka with the real monitor: an alarm is told and explained, and the budget is checked."""

import json
import subprocess
import sys
import urllib.error

import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import StreamAnnounced
from headrace.contracts.topics import REGISTRY
from headrace.kafka import admin
from headrace.kafka.producer import LogProducer
from tests.integration.test_monitor import Monitor
from tests.support import fresh
from tests.unit.monitor.stretches import CONTRACT, World
from tests.unit.monitor.told import HOUR

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(180)]


class Segment(World):
    """Carrier B is answered worse since."""

    before, after = 5_000, 800

    def error(self, row, x, model):
        return 0.7 if self.moved(row) and x["carrier"] == "B" else 0.1


@pytest.fixture
def monitor(kafka, tmp_path):
    made = Monitor(kafka, tmp_path / "home")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def publish(kafka, stream):
    contract = CONTRACT.to_dict() | {"name": stream}
    admin.ensure_platform_topics(kafka)
    admin.ensure_stream_topics(kafka, stream, 1)
    producer = LogProducer(kafka, client_id="why-test")
    announced = encode(StreamAnnounced(stream, 1, 1, contract))
    producer.send(REGISTRY.name, [{"key": f"stream/{stream}".encode(), "value": announced}]).result(10)
    for kind, records in zip(("log", "predictions", "outcomes"), Segment().records(), strict=True):
        for begin in range(0, len(records), 5_000):
            values = [{"key": b"e", "value": encode(one)} for one in records[begin : begin + 5_000]]
            producer.send(f"{stream}.{kind}", values, 0).result(30)
    producer.close(5)


def test_an_alarm_is_explained_and_the_budget_is_checked(kafka, monitor):
    stream = fresh("why")
    publish(kafka, stream)
    monitor.start()

    def told(answer):
        return any(one["kind"] == "concept" for one in answer["drift"])

    [drift] = monitor.until(f"/v1/drift?stream={stream}&kind=concept", told)["drift"]
    assert abs(drift["since_offset"] - Segment().since) < 100
    found = monitor.until(f"/v1/drift/{drift['id']}/why", lambda _: True)
    part = found["loss"]["parts"][0]
    assert (part["field"], part["cell"], part["how"]) == ("carrier", "B", "worse")
    assert found["advice"]["action"] == "retrain"
    assert found["read"]["before"] > 4_900
    assert found["read"]["waiting"] == 0
    svg = monitor.ask(f"/v1/drift/{drift['id']}/why?format=svg")
    assert svg.startswith("<svg")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        monitor.ask("/v1/drift/nobody/why")

    shown = command(monitor, "why", drift["id"][:12])
    assert shown["loss"] == found["loss"]
    checked = command(monitor, "check", stream)
    fields = checked["checks"][0]
    assert (fields["what"], fields["records"], fields["kept"]) == ("fields", 2_048, True)
    assert 0 < checked["cpu_seconds"] < 60

    alerts = f"/v1/alerts/current?stream={stream}"
    told_of = monitor.until(alerts, lambda answer: answer["alerts"])["alerts"]
    assert any(f"headrace drift why {drift['id'][:12]}" in one["reason"] for one in told_of)
    assert drift["at"] < HOUR * 2


def command(monitor, *words):
    ran = subprocess.run(
        [sys.executable, "-m", "headrace.cli.main", "drift", *words, "--json"],
        env=monitor.environment | {"HEADRACE_API_KEY": monitor.secret}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return json.loads(ran.stdout)
