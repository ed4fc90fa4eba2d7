"""Alerts on a real Kafka, as a user has them: drift becomes an alert, reaches a webhook, lives on over a kill."""

import json
import signal
import socket
import subprocess
import sys

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook

from headrace.contracts.codec import encode
from headrace.contracts.topics import DRIFT
from headrace.kafka import admin
from headrace.kafka.producer import LogProducer
from tests.integration.test_monitor import Monitor
from tests.support import fresh
from tests.unit.monitor.receiver import receiving
from tests.unit.monitor.told import HOUR, drift

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(180)]

SECRET = "whsec_" + "s" * 32
RULES = """
rules:
- {{name: moved, stream: {stream}, drift: [concept], rearm_seconds: 3600, escalate_after_seconds: 600}}
- {{name: seen, stream: {stream}, drift: [data], escalate_after_seconds: 1}}
"""
CHANNELS = """
channels:
- {{name: ops, webhook: "{ops}", secrets: [env:ALERT_SECRET], kinds: [concept]}}
- {{name: chief, webhook: "{chief}", secrets: [env:ALERT_SECRET], group: escalation}}
- {{name: dead, webhook: "http://127.0.0.1:{nobody}/", secrets: [env:ALERT_SECRET]}}
"""


class Watched(Monitor):
    """A monitor with these rules and channels; `headrace alert ...` talks to it."""

    def __init__(self, kafka, home, stream, ops, chief):
        super().__init__(kafka, home, internal_targets="127.0.0.0/8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = free.getsockname()[1]
        (home / "monitor-rules.yaml").write_text(RULES.format(stream=stream))
        (home / "monitor-channels.yaml").write_text(
            CHANNELS.format(ops=ops.url, chief=chief.url, nobody=nobody)
        )
        self.environment |= {"ALERT_SECRET": SECRET, "HEADRACE_API_KEY": self.secret}
        self.stream = stream

    def command(self, *words):
        ran = subprocess.run(
            [sys.executable, "-m", "headrace.cli.main", "alert", *words, "--json"],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return json.loads(ran.stdout)

    def fired(self, count):
        """Alerts of the stream, oldest first, once there are so many."""
        path = f"/v1/alerts/current?stream={self.stream}"
        return self.until(path, lambda answer: len(answer["alerts"]) >= count)["alerts"][::-1]

    def told(self, alert, channel, count=1):
        """What became of the steps of an alert for a channel, once there are so many and none waits."""
        found = self.until(
            f"/v1/deliveries?alert={alert}&channel={channel}",
            lambda answer: (
                len(answer["deliveries"]) >= count
                and all(one["status"] != "waiting" for one in answer["deliveries"])
            ),
        )
        return [one["status"] for one in found["deliveries"]]

    def events_after(self, last, count):
        """So many events of the stream of alerts, from the one after `last` on."""
        headers = {"Authorization": f"Bearer {self.secret}", "Last-Event-ID": last}
        url = f"http://127.0.0.1:{self.port}/v1/alerts/stream?stream={self.stream}"
        found = []
        with httpx2.stream("GET", url, headers=headers, timeout=30) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line[6:]))
                    if len(found) == count:
                        return found
        raise AssertionError(found)


def test_drift_becomes_an_alert_reaches_people_once_and_lives_on_over_a_kill(kafka, tmp_path):
    admin.ensure_platform_topics(kafka)
    stream = fresh("moved")
    producer = LogProducer(kafka, client_id="alerts-test")

    def move(number, **more):
        event = drift(number, stream=stream, **more)
        event.id = f"{stream}-{number}"
        producer.send(DRIFT.name, [{"key": stream.encode(), "value": encode(event)}]).result(10)

    with receiving() as ops, receiving() as chief:
        monitor = Watched(kafka, tmp_path / "home", stream, ops, chief)
        monitor.start()
        try:
            monitor.until("/readyz", lambda answer: all(answer.values()))
            move(0, at=HOUR, model="lr", since_at=HOUR // 2)
            [first] = monitor.fired(1)
            assert (first["state"], first["drift"], first["since_at"]) == ("firing", f"{stream}-0", HOUR // 2)
            [(headers, body)] = ops.until(1)
            told = Webhook(SECRET).verify(body, headers)
            assert (told["type"], told["data"]["id"], headers["webhook-id"]) == (
                "alert.firing", first["id"], first["id"]
            )  # fmt: skip

            assert monitor.command("ack", first["id"][:8], "--why", "known")["acknowledged"]["by"] == "test"
            mute = monitor.command("mute", "1h", "--stream", stream, "--why", "a test")
            move(1, at=HOUR, subject="loss")
            second = monitor.fired(2)[1]
            assert monitor.told(second["id"], "ops") == ["muted"]
            assert monitor.told(first["id"], "ops", 2) == ["delivered", "delivered"]

            monitor.stop(signal.SIGKILL)
            monitor.start()
            monitor.until("/readyz", lambda answer: all(answer.values()))
            assert [(one["id"], one["state"], one["told_at"]) for one in monitor.fired(2)] == [
                (first["id"], "acknowledged", first["told_at"]), (second["id"], "firing", second["told_at"])
            ]  # fmt: skip
            assert [one["id"] for one in monitor.command("mutes")["mutes"]] == [mute["id"]]
            monitor.command("unmute", mute["id"])
            move(0, at=HOUR, model="lr", since_at=HOUR // 2)
            move(2, at=2 * HOUR, model="lr")
            move(3, at=HOUR, kind="data")
            steps = monitor.events_after(second["id"], 4)
            assert [one["state"] for one in steps if one["rule"] == "moved"] == ["resolved", "firing"]
            assert [one["state"] for one in steps if one["rule"] == "seen"] == ["firing", "escalated"]
            [(headers, body)] = chief.until(1)
            assert Webhook(SECRET).verify(body, headers)["type"] == "alert.escalated"

            acknowledged = monitor.ask(f"/v1/alerts/current/{first['id']}")["steps"][1]["id"]
            moved = [one["id"] for one in steps if one["rule"] == "moved"]
            ids = [headers["webhook-id"] for headers, _ in ops.until(4)]
            assert sorted(ids) == sorted([first["id"], acknowledged, *moved]), "each once, and no other"
            dead = monitor.ask("/v1/deliveries?channel=dead")["deliveries"]
            assert {(one["status"], one["error"]) for one in dead if one["attempts"]} == {
                ("waiting", "ConnectionRefusedError")
            }
            rules = str(monitor.log.parent / "monitor-rules.yaml")
            tried = monitor.command("try", rules, "--rule", "moved")
            assert (tried["fired"], tried["looked_at"]) == (3, 4)
            assert monitor.stop() == 0
        finally:
            producer.close(5)
            if monitor.process.poll() is None:
                monitor.stop(signal.SIGKILL)


def test_a_channel_whose_secret_is_missing_is_the_last_line_of_the_monitor(kafka, tmp_path):
    with receiving() as ops:
        monitor = Watched(kafka, tmp_path / "home", "s", ops, ops)
        del monitor.environment["ALERT_SECRET"]
        monitor.start()
        assert monitor.process.wait(60) == 1
    assert monitor.log.read_text().splitlines()[-1] == "monitor: channel ops: env:ALERT_SECRET is empty"
