"""`GET /v1/drift/watches`: what holds for each stream, and how far each watch is."""

import gc

import pytest
from fastapi.testclient import TestClient

from headrace import keys
from headrace.contracts.events import StreamAnnounced
from headrace.keys import KeyRing
from headrace.testing import builders
from headrace.web import create_app
from services.monitor.domain.tolerance import Tolerance, Tolerances, read_wishes
from services.monitor.drift_watch_api import build_watch_routes
from services.monitor.processor import Summariser, WindowShape
from services.monitor.watchboard import EVERY_SECONDS, Watchboard

SAID = [{"stream": "s", "false_alarms": {"days": 10}, "weights": {"bias": 0}, "leave_out": ["z"]}]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def board():
    return Watchboard(Clock())


@pytest.fixture
def ask(tmp_path, board):
    secret = keys.create(tmp_path / "keys.json", "reader", "reader")
    streams = {name: StreamAnnounced(name, 1, 2, {}) for name in ("s", "t")}
    app = create_app(service="monitor", keys=KeyRing.load(tmp_path / "keys.json"), ready=dict)
    app.include_router(build_watch_routes(lambda: streams, Tolerances(read_wishes(SAID)), board))
    client = TestClient(app)
    return lambda path: client.get(path, headers={"Authorization": f"Bearer {secret}"})


def test_what_is_said_of_each_stream_is_shown(ask):
    both = ask("/v1/drift/watches").json()["streams"]
    assert [one["stream"] for one in both] == ["s", "t"]
    said, plain = both
    assert said["false_alarms"] == {"days": 10}
    assert (said["weights"]["bias"], said["leave_out"]) == (0, ["z"])
    assert plain["false_alarms"] == {"events": 100_000}
    assert plain["reference"] == {"records": 2_048, "labels": 512, "from": None}
    assert [one["stream"] for one in ask("/v1/drift/watches?stream=t").json()["streams"]] == ["t"]
    assert ask("/v1/drift/watches?stream=no").status_code == 404


def test_what_is_watched_is_shown_as_it_was_a_few_seconds_ago(ask, board):
    def shown():
        [stream] = ask("/v1/drift/watches?stream=s").json()["streams"]
        return {(one["subject"], one["partition"]): one for one in stream["watches"]}

    summariser = board.admit(Summariser("s.log", 1, WindowShape(), Tolerance()))
    contract = builders.contract()
    field = next(one.name for one in contract.fields if one.feature)
    seen = [builders.observation(f"o{n}", {field: float(n % 7)}, at=n) for n in range(2_100)]
    summariser.process(builders.batch([builders.adopted(contract), seen[0]], topic="s.log"))
    board.note("s.log")
    assert shown()[field, 1]["ready"] is False
    assert shown()[field, 1]["threshold"] > 100_000
    assert shown()["volume", 1]["kind"] == "volume"

    summariser.process(builders.batch(seen[1:], topic="s.log", first=2))
    board.note("s.log")
    assert shown()[field, 1]["ready"] is False  # it has just been noted
    board._clock.now = EVERY_SECONDS
    board.note("s.log")
    assert shown()[field, 1]["ready"] is True

    del summariser
    gc.collect()
    board._clock.now = 2 * EVERY_SECONDS
    board.note("s.log")
    assert shown() == {}  # the partition is somebody else's
