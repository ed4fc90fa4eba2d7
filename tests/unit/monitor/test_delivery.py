"""Deliveries: who is told of what, at least once over failures and restarts, bounded, and never a secret shown."""

import json
import random

import msgspec
import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import AlertsMuted
from headrace.errors import Unusable
from headrace.kafka.tail import TailRecord
from services.monitor.delivery import channels as channel_files
from services.monitor.delivery import log as logs
from services.monitor.delivery.channels import Channel
from services.monitor.delivery.deliverer import Deliverer, Outlet
from services.monitor.delivery.guard import Guard
from services.monitor.delivery.log import DeliveryLog
from services.monitor.delivery.telling import message, outlets, payload
from services.monitor.delivery.webhook import NotTaken
from services.monitor.domain import alerts
from tests.unit.monitor.receiver import receiving
from tests.unit.monitor.told import drift, drift_rule

SECRET = "whsec_" + "s" * 32


class Told:
    """A channel's receiver in memory: fails as often as it is told to."""

    def __init__(self, failures=0):
        self.steps = []
        self.failures = failures

    def __call__(self, step):
        if self.failures:
            self.failures -= 1
            raise OSError("connect to hooks.example.com/secret")
        self.steps.append((step.state, step.fired[:4]))


class Desk:
    """A deliverer whose topic and clock the test has in its hands; `run` does what the channels' threads do."""

    def __init__(self, path, *given, mutes=(), give_up=3600.0):
        self.now = 1_000.0
        self.mutes = list(mutes)
        self.outlets = [Outlet(channel, tell) for channel, tell in given]
        self.log = DeliveryLog(path)
        self.made = Deliverer(
            "", self.log, self.outlets, lambda: self.mutes, give_up_seconds=give_up, wall=lambda: self.now
        )
        for channel, _ in given:
            self.log.begin(channel.name, 0)
        self.places = self.log.places()

    def take(self, *steps, first=0):
        for place, step in enumerate(steps):
            self.made.take(TailRecord(0, first + place, b"", encode(step), 0), self.places)

    def run(self):
        for outlet in self.outlets:
            while (delivery := self.log.next_due(outlet.channel.name, int(self.now * 1000))) is not None:
                self.made.attempt(outlet, delivery)

    def statuses(self):
        return [(one.status, one.attempts) for one in reversed(self.log.page(100, None))]


def channel(name="ops", **more):
    return Channel(name, webhook="https://hooks.example.com/", secrets=["env:S"], **more)


def life(number=0, **more):
    """All four steps of an alert."""
    fired = alerts.of_drift(drift_rule(severity="warning"), drift(number, **more))
    return [
        fired,
        alerts.escalated(fired, 9),
        alerts.acknowledged(fired, "ada", "known"),
        alerts.rearmed(fired, 9),
    ]


def states(told):
    return [state for state, _ in told.steps]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deliveries.db"


@pytest.mark.parametrize(
    ("wants", "heard"),
    [
        ({}, ["firing", "escalated", "acknowledged", "resolved"]),
        ({"group": "escalation"}, ["escalated", "acknowledged", "resolved"]),
        ({"severity": "critical"}, ["escalated", "acknowledged", "resolved"]),
        ({"kinds": ["concept", "bias"], "streams": ["s"], "models": ["lr"]},
         ["firing", "escalated", "acknowledged", "resolved"]),
        ({"kinds": ["bias"]}, []),
        ({"streams": ["t"]}, []),
        ({"models": ["tree"]}, []),
    ],
)  # fmt: skip
def test_a_channel_hears_what_it_asks_for_and_then_all_that_follows(path, wants, heard):
    told = Told()
    desk = Desk(path, (channel(**wants), told))
    desk.take(*life(model="lr"))
    desk.run()
    assert states(told) == heard


def test_a_channel_that_was_not_told_of_an_alert_is_not_told_of_its_end(path):
    told = Told()
    desk = Desk(path, (channel(), told))
    desk.take(*life()[1:][::-1])
    desk.run()
    assert states(told) == ["escalated"]


def test_a_channel_is_not_told_what_came_before_its_place(path):
    old, new = Told(), Told()
    desk = Desk(path, (channel("old"), old), (channel("new"), new))
    desk.places["new"] = 1
    desk.take(*(life(number)[0] for number in range(3)))
    desk.run()
    assert (len(old.steps), new.steps) == (3, old.steps[1:])


def test_what_is_muted_is_noted_and_not_sent_nor_its_end(path):
    told = Told()
    mute = AlertsMuted("m", 0, 9_999_999, "ada", "", stream="s")
    desk = Desk(path, (channel(), told), mutes=[mute])
    first, _, _, end = life()
    desk.take(first)
    desk.mutes.clear()
    desk.take(end, first=1)
    desk.run()
    assert (told.steps, desk.statuses()) == ([], [("muted", 0)])


def test_what_is_not_taken_is_tried_again_later_and_later_and_in_its_order(path):
    told = Told(failures=3)
    desk = Desk(path, (channel(), told))
    first, _, _, end = life()
    desk.take(first, end, *life(1)[:1])
    desk.run()
    assert states(told) == [], "the other alert fails too, the end waits for its beginning"
    waits = [one.due - 1_000_000 for one in desk.log.page(9, None)]
    assert [0 <= wait <= 6_250 for wait in waits] == [True] * 3
    desk.now += 7
    desk.run()
    assert told.failures == 0
    assert sorted(told.steps)[0] == ("firing", life(1)[0].id[:4])
    desk.now += 13
    desk.run()
    assert states(told) == ["firing", "firing", "resolved"]
    assert desk.statuses() == [("delivered", 3), ("delivered", 1), ("delivered", 2)]


def test_it_is_given_up_in_the_end_or_when_the_receiver_says_so(path):
    never = Told(failures=10**6)

    def gone(_):
        raise NotTaken("HTTP 410", for_good=True)

    desk = Desk(path, (channel("never"), never), (channel("gone"), gone), give_up=100.0)
    desk.take(life()[0])
    for _ in range(60):
        desk.run()
        desk.now += 5
    assert [status for status, _ in desk.statuses()] == ["given_up", "given_up"]
    tried = 10**6 - never.failures
    assert 4 <= tried <= 8, "the pauses do not grow"
    assert desk.statuses()[1] == ("given_up", 1)


def test_a_channel_that_fails_holds_up_no_other(path):
    well, ill = Told(), Told(failures=99)
    desk = Desk(path, (channel("ill"), ill), (channel("well"), well))
    desk.take(*life())
    desk.run()
    assert len(well.steps) == 4


def test_after_a_restart_nothing_is_lost_and_what_was_told_is_not_told_again(path):
    rng = random.Random(5)
    steps = [step for number in range(6) for step in life(number)]
    told, place = Told(), 0
    while place < len(steps):
        desk = Desk(path, (channel(), told))
        part = rng.randrange(1, 7)
        seen = max(0, desk.places["ops"] - rng.randrange(3))
        desk.take(*steps[seen : place + part], first=seen)
        if rng.random() < 0.6:
            desk.run()
        place += part
    assert desk.log.places() == {"ops": len(steps)}
    Desk(path, (channel(), told)).run()
    assert told.steps == [(step.state, step.fired[:4]) for step in steps]


def test_what_waits_and_what_is_done_are_bounded(path, monkeypatch):
    monkeypatch.setattr(logs, "WAITING_KEPT", 3)
    monkeypatch.setattr(logs, "DONE_KEPT", 4)
    told = Told()
    desk = Desk(path, (channel(), told))
    desk.take(*(life(number)[0] for number in range(10)))
    assert desk.statuses() == [("given_up", 0)] * 4 + [("waiting", 0)] * 3
    desk.run()
    assert [fired for _, fired in told.steps] == [life(number)[0].id[:4] for number in (7, 8, 9)]


def test_no_error_that_is_kept_shows_a_target(path, caplog):
    desk = Desk(path, (channel(), Told(failures=1)))
    desk.take(life()[0])
    desk.run()
    [kept] = desk.log.page(9, None)
    assert kept.error == "OSError"
    assert "secret" not in caplog.text


def test_pages_of_deliveries_join_without_gap_or_repeat(path):
    desk = Desk(path, (channel("a"), Told()), (channel("b"), Told()))
    desk.take(*life(0), *life(1))
    whole = [one.number for one in desk.log.page(100, None)]
    assert whole == sorted(whole, reverse=True)
    first = desk.log.page(5, None)
    assert [one.number for one in first + desk.log.page(100, first[-1].number)] == whole
    assert {one.channel for one in desk.log.page(100, None, channel="b", alert=life(1)[0].id)} == {"b"}
    assert len(desk.log.page(100, None, channel="b", alert=life(1)[0].id)) == 4


CHANNELS = """
channels:
  - name: ops
    webhook: {url}
    secrets: [env:NEW, env:OLD]
  - name: chat
    apprise: env:CHAT
    severity: warning
"""


def test_the_file_becomes_channels_that_tell_a_webhook_and_apprise(tmp_path, path):
    with receiving() as hook, receiving() as chat:
        file = tmp_path / "channels.yaml"
        file.write_text(CHANNELS.format(url=hook.url))
        secrets = {"env:NEW": SECRET, "env:OLD": SECRET, "env:CHAT": f"json://127.0.0.1:{chat.port}/chat"}
        made = outlets(channel_files.load(file), secrets.__getitem__, Guard(["127.0.0.1"]))
        desk = Desk(path, *made)
        step = life(model="lr")[0]
        desk.take(step)
        desk.run()
        assert desk.statuses() == [("delivered", 1)] * 2
        [(headers, body)] = hook.got
        assert headers["webhook-id"] == step.id
        assert json.loads(body) == json.loads(payload(step))
        assert json.loads(body)["data"]["before"] == 0.1
        [(_, said)] = chat.got
        said = json.loads(said)
        assert said["title"] == "firing warning: moved on s lr"
        assert said["type"] == "warning"
        assert "concept drift of error of lr: 0.1 to 0.4" in said["message"]
        chat.answers = [500]
        desk.take(life(1, model="lr")[0], first=1)
        desk.run()
        [failed] = [
            one for one in desk.log.page(9, None) if one.channel == "chat" and one.status == "waiting"
        ]
        assert failed.error == "JSON did not take it"


def test_apprise_is_kept_from_internal_hosts_that_its_url_names(path):
    with receiving() as chat:
        url = f"json://127.0.0.1:{chat.port}/"
        made = outlets([Channel("chat", apprise="env:CHAT")], lambda _: url, Guard())
        desk = Desk(path, *made)
        desk.take(life()[0])
        desk.run()
        assert chat.got == []
        assert desk.log.page(1, None)[0].error == "the target has an internal address"


def test_a_message_names_who_did_what():
    title, text = message(life()[2])
    assert title == "acknowledged warning: moved on s"
    assert text.startswith("by ada: known\n")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("channels: {}", "channels"),
        ("[{name: A, apprise: 'env:X'}]", "channels[0].name"),
        ("[{name: a}]", "channels[0]"),
        ("[{name: a, apprise: 'env:X', webhook: 'https://e.com', secrets: ['env:Y']}]", "channels[0]"),
        ("[{name: a, webhook: 'https://e.com'}]", "channels[0].secrets"),
        (
            "[{name: a, webhook: 'https://e.com', secrets: ['env:X', 'env:Y', 'env:Z']}]",
            "channels[0].secrets",
        ),
        ("[{name: a, webhook: 'https://e.com', secrets: [whsec_hunter2]}]", "channels[0]"),
        ("[{name: a, apprise: 'slack://hunter2'}]", "channels[0]"),
        ("[{name: a, apprise: 'env:X', severity: loud}]", "channels[0]"),
        ("[{name: a, apprise: 'env:X'}, {name: a, apprise: 'env:X'}]", "channels[1].name"),
        ("[hunter2", "channels.yaml"),
    ],
)
def test_an_unusable_channel_is_refused_and_the_error_says_where_but_no_secret(tmp_path, text, where):
    file = tmp_path / "channels.yaml"
    file.write_text(text)
    with pytest.raises(Unusable) as refused:
        channel_files.load(file)
    assert refused.value.where == where
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "secret"),
    [({"webhook": "https://e.com", "secrets": ["env:X"]}, "hunter2!"), ({"apprise": "env:X"}, "nothing://hunter2!"),
     ({"webhook": "env:X", "secrets": ["env:X"]}, "ftp://hunter2!")],
)  # fmt: skip
def test_a_secret_that_cannot_be_used_is_not_repeated(given, secret):
    with pytest.raises(Unusable) as refused:
        outlets([Channel("a", **given)], lambda _: secret, Guard())
    assert "hunter2" not in str(refused.value)


def test_there_are_no_channels_without_a_file(tmp_path):
    assert channel_files.load(tmp_path / "none.yaml") == []


@pytest.mark.parametrize("change", [{"severity": "loud"}, {"id": "a\nb"}, {"id": ""}, {"id": "x" * 201}])
def test_what_is_no_alert_that_people_can_be_told_of_is_passed_over(path, change):
    """Others write to the topic too; what one cannot read must not stop what comes behind it."""
    told = Told()
    desk = Desk(path, (channel(), told))
    desk.take(msgspec.structs.replace(life()[0], **change), life(1)[0])
    desk.made.take(TailRecord(0, 2, b"", b"{", 0), desk.places)
    desk.made.take(TailRecord(0, 3, b"", None, 0), desk.places)
    desk.run()
    assert told.steps == [("firing", life(1)[0].id[:4])]
    assert desk.log.places() == {"ops": 4}


def test_a_damaged_file_is_refused_by_its_name(path):
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(Unusable, match=r"deliveries\.db cannot be used"):
        DeliveryLog(path)
