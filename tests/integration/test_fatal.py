"""What ends a process that works with Kafka, within a bounded time and with a reason; and what does not.

Every client is a real one on a real broker, but where a fault cannot be provoked at a moment's notice.
"""

import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError

from headrace.contracts.codec import encode
from headrace.contracts.events import StreamAnnounced
from headrace.contracts.topics import LOG, REGISTRY, topic
from headrace.errors import Fatal, Transient
from headrace.kafka.admin import ensure_platform_topics, ensure_stream_topics, is_fatal
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.kafka.producer import LogProducer
from headrace.kafka.transactions import Transactions
from headrace.processor import Batch, Outputs
from services.monitor.domain.tolerance import Tolerances
from services.monitor.host import build_host as monitor_host
from services.monitor.settings import MonitorSettings
from services.monitor.watchboard import Watchboard
from services.registry.registry import Registry
from services.scoring.agents import build_host as scoring_host
from services.scoring.settings import ScoringSettings

pytestmark = pytest.mark.broker

BOUND_SECONDS = 15.0


class Still:
    """A processor with nothing in it."""

    def process(self, batch: Batch) -> Outputs:
        return {}

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        raise AssertionError("nothing is restored here")


class Running:
    """A host on a thread, and how it ended."""

    def __init__(self, host: KafkaHost) -> None:
        self.host = host
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.host.run()
        except BaseException as error:
            self.error = error

    def ended(self, seconds: float = BOUND_SECONDS) -> bool:
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def stop(self) -> None:
        self.host.stop()
        assert self.ended(40)


def still_host(bootstrap: str, stream: str, group: str) -> KafkaHost:
    return KafkaHost(
        HostSettings(bootstrap, group, "one", snapshot_records=0),
        lambda _topic, _partition: Still(),
        lambda: [topic(LOG, stream)],
    )


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_host_whose_place_a_twin_has_taken_ends(kafka: str, fresh_name: str, busy: bool) -> None:
    """Idle, only the consumer hears of it, and its message does not call itself fatal."""
    ensure_stream_topics(kafka, fresh_name, 1)
    group = f"g-{fresh_name}"
    first = Running(still_host(kafka, fresh_name, group))
    assert first.host.ready.wait(30)
    twin = Running(still_host(kafka, fresh_name, group))
    producer = LogProducer(kafka, client_id="writer")
    deadline = time.monotonic() + BOUND_SECONDS
    while first.thread.is_alive() and time.monotonic() < deadline:
        if busy:
            producer.send(topic(LOG, fresh_name), [{"key": b"k", "value": b"v"}])
        time.sleep(0.1)
    try:
        assert not first.thread.is_alive()
        assert isinstance(first.error, Fatal)
        assert "fenced" in str(first.error)
        assert "instance one" in str(first.error)
        assert twin.thread.is_alive()
    finally:
        producer.close(5.0)
        twin.stop()


def test_an_abort_that_fails_says_whose_place_was_taken(kafka: str, fresh_name: str) -> None:
    """A twin may take the place just while a failed commit is being undone."""
    ensure_stream_topics(kafka, fresh_name, 1)

    def transactions() -> Transactions:
        made = Transactions(
            {"bootstrap.servers": kafka, "linger.ms": 0}, f"id-{fresh_name}", "group, instance one"
        )
        made.start()
        return made

    first = transactions()
    writer = first._writers[0]
    writer.begin()
    writer.produce({(topic(LOG, fresh_name), 0): [{"key": b"k", "value": b"v"}]})
    assert writer._producer.flush(30) == 0
    twin = transactions()
    with pytest.raises(Fatal, match=r"^group, instance one: abort failed: .*fenced"):
        first.abort()
    first.close()
    twin.close()


def test_which_errors_are_fatal() -> None:
    for code in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID):
        assert is_fatal(KafkaError(code))
    for code in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.REBALANCE_IN_PROGRESS,
                 KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR, KafkaError.ILLEGAL_GENERATION):  # fmt: skip
        assert not is_fatal(KafkaError(code))


class Broken(RegistryFollower):
    """A follower that cannot apply the next announcement."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap, self._refuse)
        self.refusing = False

    def _refuse(self, _: Any) -> None:
        if self.refusing:
            raise ZeroDivisionError("no such contract")


@pytest.mark.parametrize("service", ["scoring", "monitor"])
def test_a_follower_that_has_died_ends_the_service(
    kafka: str, fresh_name: str, service: str, tmp_path
) -> None:
    """A service that misses what the registry tells must not go on with what it knew."""
    ensure_platform_topics(kafka)
    follower = Broken(kafka)
    follower.start()
    follower.check()
    if service == "scoring":
        scoring = ScoringSettings(bootstrap=kafka, home=tmp_path, instance=fresh_name)
        running = Running(scoring_host(scoring, follower))
    else:
        monitor = MonitorSettings(bootstrap=kafka, home=tmp_path, instance=fresh_name, window_seconds=3601)
        running = Running(monitor_host(monitor, follower, Tolerances(), Watchboard(), lambda *_: None))
    assert not running.ended(1.0)
    follower.refusing = True
    producer = LogProducer(kafka, client_id="registry")
    told = StreamAnnounced(fresh_name, 1, 1, {})
    producer.send(REGISTRY.name, [{"key": f"stream/{fresh_name}".encode(), "value": encode(told)}]).result(20)
    # Taken back, or every other follower of this broker would hear of a stream that is not there.
    producer.send(REGISTRY.name, [{"key": f"stream/{fresh_name}".encode(), "value": None}]).result(20)
    producer.close(5.0)
    assert running.ended()
    assert isinstance(running.error, Fatal)
    assert "ZeroDivisionError: no such contract" in str(running.error)


def test_a_follower_that_was_told_to_stop_is_no_failure(kafka: str) -> None:
    ensure_platform_topics(kafka)
    follower = RegistryFollower(kafka, lambda _: None)
    follower.start()
    follower.stop()
    follower.check()


def test_a_producer_that_is_finished_says_why(kafka: str) -> None:
    producer = LogProducer(kafka, client_id="writer")
    producer.check()
    producer._noticed(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    producer.check()
    producer._noticed(KafkaError(KafkaError._FATAL, "sequence numbers out of order"))
    with pytest.raises(Fatal, match="sequence numbers out of order"):
        producer.check()
    producer.close(5.0)


def test_the_registry_ends_when_its_producer_is_finished_though_nothing_is_to_be_written() -> None:
    class Log:
        def check(self) -> None:
            raise Fatal("the producer cannot go on: fenced")

    registry = Registry(None, None, Log(), None, None)  # type: ignore[arg-type]  # neither is asked
    worker = threading.Thread(target=registry.keep_settled, daemon=True)
    worker.start()
    worker.join(5)
    assert not worker.is_alive()
    assert registry.failed.is_set()
    assert registry.failure == "the producer cannot go on: fenced"


def test_a_broker_that_is_away_ends_nothing(tmp_path, fresh_name: str) -> None:
    from headrace.broker import EmbeddedBroker
    from tests.conftest import jars

    broker = EmbeddedBroker(tmp_path / "kafka", cache=jars())
    with broker:
        bootstrap = broker.bootstrap_servers
        ensure_platform_topics(bootstrap)
        ensure_stream_topics(bootstrap, fresh_name, 1)
        follower = RegistryFollower(bootstrap, lambda _: None)
        follower.start()
        running = Running(still_host(bootstrap, fresh_name, "g"))
        producer = LogProducer(bootstrap, client_id="writer", delivery_timeout_seconds=2.0)
        assert running.host.ready.wait(30)
        broker.stop()
        with pytest.raises(Transient):
            producer.send(topic(LOG, fresh_name), [{"key": b"k", "value": b"v"}]).result(30)
        assert not running.ended(5.0)
        follower.check()
        producer.check()
        broker.start()
        assert producer.send(topic(LOG, fresh_name), [{"key": b"k", "value": b"v"}]).result(30)
        assert not running.ended(3.0)
        running.stop()
        assert running.error is None
        follower.stop()
        producer.close(5.0)
