"""A host on a bad line: connections to the broker that are cut, reset or silent cost seconds, and nothing else."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from headrace.broker import EmbeddedBroker
from headrace.kafka import admin
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.processor import Batch, Outputs
from tests.chaos import proxy
from tests.chaos.follower import Follower
from tests.conftest import jars

pytestmark = [pytest.mark.broker, pytest.mark.slow]

BACK_SECONDS = 20.0


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[proxy.Proxy]:
    """A proxy before a broker of its own, which sends its clients to the proxy."""
    upstream, front = proxy.free_port(), proxy.free_port()
    made = proxy.Proxy(front, upstream)
    made.start()
    home = tmp_path_factory.mktemp("line")
    with EmbeddedBroker(home, port=upstream, advertised_port=front, cache=jars()):
        yield made
    made.stop()


class Copy:
    """S.log to S.outcomes, record by record."""

    def __init__(self, log: str, partition: int) -> None:
        self._to = (log.replace(".log", ".outcomes"), partition)

    def process(self, batch: Batch) -> Outputs:
        return {self._to: [{"key": None, "value": value} for value in batch.values]}

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        raise AssertionError("nothing was stored")


class Steady(threading.Thread):
    """Numbers to S.log, a hundred a second, straight to the topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._topic = topic
        self._stopping = threading.Event()
        settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "client.id": "steady"}
        self._producer = Producer({**settings, "log.connection.close": False})

    def run(self) -> None:
        while not self._stopping.wait(0.01):
            self._producer.produce(self._topic, str(self.sent).encode(), partition=0)
            self._producer.poll(0)
            self.sent += 1

    def finish(self) -> None:
        self._stopping.set()
        self.join()
        assert self._producer.flush(60) == 0


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"{what}: not in {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - started


def half_open_for_a_while(line: proxy.Proxy) -> None:
    line.half_open("group-")
    time.sleep(4.0)
    line.heal()


@pytest.mark.parametrize(
    "harm",
    [
        lambda line: line.cut("group-"),
        lambda line: line.reset("group-"),
        lambda line: line.reset(""),
        half_open_for_a_while,
    ],
    ids=["cut in the middle of a frame", "reset", "everybody's reset", "half open"],
)
def test_a_host_goes_on_and_loses_and_doubles_nothing(
    line: proxy.Proxy, fresh_name: str, harm: Callable[[proxy.Proxy], None]
) -> None:
    bootstrap = f"{proxy.HOST}:{line.port}"
    admin.ensure_stream_topics(bootstrap, fresh_name, 1)
    log, out = f"{fresh_name}.log", f"{fresh_name}.outcomes"
    host = KafkaHost(
        HostSettings(bootstrap, f"group-{fresh_name}", "one", stateless=True), Copy, lambda: [log]
    )
    worker = threading.Thread(target=host.run, daemon=True)
    worker.start()
    reader, load = Follower(bootstrap, [out]), Steady(bootstrap, log)
    load.start()
    try:
        copied = reader.logs[out, 0]
        until(lambda: len(copied) > 50, 30, "the host copies")
        for _ in range(3):
            harm(line)
            mark = load.sent
            until(lambda mark=mark: len(copied) > mark, BACK_SECONDS, "the host is back")
        load.finish()
        until(lambda: len(copied) >= load.sent, BACK_SECONDS, "everything is copied")
        assert [int(record.value or b"") for record in copied] == list(range(load.sent))
    finally:
        host.stop()
        worker.join(30)
        reader.stop()
    assert not worker.is_alive()
