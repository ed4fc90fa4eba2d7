"""Alerts as server-sent events, by a real client of a real server: resuming, gaps, keys, and who is too slow."""

import asyncio
import json
import threading
from collections import deque
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn

from headrace import keys
from headrace.contracts.codec import encode
from headrace.keys import KeyRing
from headrace.web import create_app, listen
from services.monitor import streaming
from services.monitor.control import Kept
from services.monitor.domain import alerts
from services.monitor.streaming import Client, Streaming, build_stream_routes
from tests.unit.monitor.told import Plane, drift, drift_rule

SECONDS = 20


class Service:
    """The route over a control plane that the test tells alerts to."""

    def __init__(self, folder):
        self.plane = Plane([])
        self.secret = keys.create(folder / "keys.json", "r", "reader")
        self.streaming = Streaming(self.plane)
        ready = threading.Event()

        async def lifespan(_):
            self.loop = asyncio.get_running_loop()
            ready.set()
            yield

        app = create_app(
            service="monitor", keys=KeyRing.load(folder / "keys.json"), ready=dict,
            lifespan=asynccontextmanager(lifespan),
        )  # fmt: skip
        app.include_router(build_stream_routes(self.streaming))
        listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/alerts/stream"
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(app, listener), daemon=True)
        self.thread.start()
        assert ready.wait(SECONDS)

    def _serve(self, app, listener):
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        threading.Thread(target=lambda: (self.ended.wait(), setattr(server, "should_exit", True))).start()
        asyncio.run(server.serve(sockets=[listener]))

    def tell(self, *steps):
        """On the loop's thread, as the control plane does; returns when it is done."""
        done = threading.Event()

        def tell():
            for step in steps:
                self.plane.hear(Kept(encode(step), 0, 0))
            done.set()

        self.loop.call_soon_threadsafe(tell)
        assert done.wait(SECONDS)

    def read(self, count, *, last=None, stream=None, meanwhile=lambda: None):
        """Connect, let `meanwhile` happen, read `count` events: (id, event, data)."""
        headers = {"Authorization": f"Bearer {self.secret}"} | ({"Last-Event-ID": last} if last else {})
        found, event = [], {}
        with httpx2.stream("GET", self.url, params={"stream": stream} if stream else {}, headers=headers,
                           timeout=SECONDS) as answer:  # fmt: skip
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines).startswith(": alerts")
            meanwhile()
            while len(found) < count:
                line = next(lines)
                name, _, value = line.partition(": ")
                if line:
                    event[name] = value
                elif "data" in event:
                    found.append((event.get("id"), event["event"], json.loads(event["data"])))
                    event = {}
                else:
                    event = {}
        return found


@pytest.fixture
def service(tmp_path):
    made = Service(tmp_path)
    yield made
    made.ended.set()
    made.thread.join(SECONDS)


def steps(count, stream="s", first=0):
    numbers = range(first, first + count)
    return [alerts.of_drift(drift_rule(), drift(n, subject=f"f{n}", stream=stream)) for n in numbers]


def test_what_is_told_is_sent_and_a_client_that_comes_back_misses_nothing_and_gets_nothing_twice(service):
    told = steps(7)
    service.tell(*told[:2])
    first = service.read(2, meanwhile=lambda: service.tell(*told[2:4]))
    assert [found[0] for found in first] == [one.id for one in told[2:4]]
    assert first[0][1:] == ("firing", alerts.plain(told[2]))
    service.tell(*told[4:6])
    then = service.read(3, last=first[-1][0], meanwhile=lambda: service.tell(told[6]))
    assert [found[0] for found in then] == [one.id for one in told[4:]]


def test_a_client_that_was_away_too_long_is_told_of_the_gap(service):
    told = steps(5)
    service.plane.alerts = deque(maxlen=3)
    service.tell(*told)
    found = service.read(4, last=told[0].id)
    assert [(one[0], one[1]) for one in found] == [(None, "gap"), *((one.id, "firing") for one in told[2:])]
    assert found[0][2] == {"after": told[0].id, "kept": 3}


def test_a_client_may_ask_for_one_stream(service):
    mine, others = steps(2), steps(2, "t", 10)
    found = service.read(
        2, stream="s", meanwhile=lambda: service.tell(others[0], mine[0], others[1], mine[1])
    )
    assert [one[0] for one in found] == [one.id for one in mine]
    again = service.read(2, stream="s", last=others[0].id)
    assert [one[0] for one in again] == [one.id for one in mine]


def test_it_needs_a_key_and_has_a_bound(service, monkeypatch):
    assert httpx2.get(service.url).status_code == 401
    monkeypatch.setattr(streaming, "CLIENTS", 0)
    refused = httpx2.get(service.url, headers={"Authorization": f"Bearer {service.secret}"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")


def test_a_client_that_left_is_forgotten(service):
    service.read(1, meanwhile=lambda: service.tell(*steps(1)))
    for _ in range(200):
        if not service.streaming._clients:
            break
        threading.Event().wait(0.05)
    assert not service.streaming._clients


def test_a_client_that_does_not_read_is_cut_off_at_the_bound(monkeypatch):
    monkeypatch.setattr(streaming, "WAITING_KEPT", 2)
    cut = []
    client = Client(None, lambda: cut.append(True))
    for step in steps(2):
        client.offer(step)
    assert cut == []
    client.offer(steps(3)[2])
    assert (cut, client.queue.qsize()) == ([True], 2)


def test_a_client_that_is_cut_off_is_disconnected(service, monkeypatch):
    """Told more than it can hold in one go, before the loop can send any of it."""
    monkeypatch.setattr(streaming, "WAITING_KEPT", 2)
    with pytest.raises((httpx2.TransportError, StopIteration)):
        service.read(99, meanwhile=lambda: service.tell(*steps(50)))
