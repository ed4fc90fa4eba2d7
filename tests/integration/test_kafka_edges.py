"""The Kafka edges against a real broker: nothing lost, order kept, bounds held, errors named."""

import asyncio
import threading
import time
from concurrent.futures import Future

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource

from headrace.contracts.codec import encode
from headrace.contracts.events import DeploymentAnnounced, StreamAnnounced
from headrace.contracts.topics import LOG, PLATFORM_TOPICS, REGISTRY, STREAM_TOPICS, topic
from headrace.errors import Transient, Unusable
from headrace.kafka import admin, silence
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.producer import LogProducer, producer_settings
from headrace.kafka.tail import Tail
from tests.support import fresh

pytestmark = pytest.mark.broker
CLOSED_PORT = "127.0.0.1:9"


@pytest.fixture
def stream(kafka):
    name = fresh("edges")
    admin.ensure_stream_topics(kafka, name, 4)
    return name


@pytest.fixture
def producer(kafka):
    made = LogProducer(kafka, client_id="edges-test")
    yield made
    made.close(5)


def read_all(tail, count, seconds=20.0):
    records, deadline = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        records += tail.read(1000, 0.2)
    return records


def test_stream_topics_have_their_partitions_and_settings_and_making_them_again_changes_nothing(
    kafka, stream
):
    admin.ensure_stream_topics(kafka, stream, 4)
    admin.ensure_platform_topics(kafka)
    for kind in STREAM_TOPICS:
        assert admin.partition_count(kafka, topic(kind, stream)) == (4 if kind.follows_stream else 1)
    client = AdminClient({"bootstrap.servers": kafka})
    for name, kind in [(topic(kind, stream), kind) for kind in STREAM_TOPICS] + [
        (k.name, k) for k in PLATFORM_TOPICS
    ]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        futures = client.describe_configs([resource])
        found = {key: entry.value for key, entry in futures[resource].result().items()}
        assert found["cleanup.policy"] == kind.cleanup
        if kind.cleanup == "delete":
            expected = kind.retention_seconds * 1000 if kind.retention_seconds > 0 else -1
            assert found["retention.ms"] == str(expected), name


def test_another_number_of_partitions_is_refused(kafka, stream):
    with pytest.raises(Unusable, match="fixed for life"):
        admin.ensure_stream_topics(kafka, stream, 8)


def test_acknowledgements_name_where_each_message_lies(kafka, stream, producer):
    messages = [{"key": f"k{i % 37}".encode(), "value": str(i).encode()} for i in range(5000)]
    places = producer.send(topic(LOG, stream), messages).result(20)
    found = {
        (r.partition, r.offset): r for r in read_all(Tail(kafka, topic(LOG, stream), start="earliest"), 5000)
    }
    assert len(found) == 5000
    for message, place in zip(messages, places, strict=True):
        assert (found[place].key, found[place].value) == (message["key"], message["value"])
    assert len({place[0] for place in places}) == 4
    by_partition = {}
    for partition, offset in places:
        by_partition.setdefault(partition, []).append(offset)
    assert all(offsets == sorted(offsets) for offsets in by_partition.values())


def test_keys_are_spread_as_java_clients_spread_them(stream, producer):
    # From Apache Kafka's own UtilsTest.testMurmur2: "21" hashes to -973932308 and so on; partition = positive % 4.
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    keys = list(hashes)
    places = producer.send(topic(LOG, stream), [{"key": key, "value": b"x"} for key in keys]).result(20)
    assert [partition for partition, _ in places] == [(hashes[key] & 0x7FFFFFFF) % 4 for key in keys]


def test_a_chosen_partition_a_tombstone_and_an_empty_call(kafka, stream, producer):
    places = producer.send(topic(LOG, stream), [{"key": b"a", "value": None}], partition=3).result(20)
    assert places == [(3, 0)]
    assert producer.send(topic(LOG, stream), []).result(1) == []
    (record,) = read_all(Tail(kafka, topic(LOG, stream), start="earliest"), 1)
    assert (record.partition, record.key, record.value) == (3, b"a", None)
    assert abs(record.timestamp_ms / 1000 - time.time()) < 60


def test_many_threads_may_send_at_once(kafka, stream, producer):
    def work(number):
        for i in range(50):
            message = {"key": f"t{number}".encode(), "value": f"{number}/{i}".encode()}
            futures.append(producer.send(topic(LOG, stream), [message] * 3))

    futures: list[Future] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = [place for future in futures for place in future.result(20)]
    assert len(set(places)) == 8 * 50 * 3
    assert producer.pressure() == 0.0


def test_awaiting_from_asyncio_and_cancelling_does_no_harm(stream, producer):
    async def run():
        waiting = asyncio.wrap_future(producer.send(topic(LOG, stream), [{"key": b"a", "value": b"1"}]))
        waiting.cancel()
        return await asyncio.wrap_future(producer.send(topic(LOG, stream), [{"key": b"a", "value": b"2"}]))

    ((_, offset),) = asyncio.run(run())
    assert offset == 1  # the cancelled call was written too: it was on its way
    assert producer.healthy()


def test_a_full_queue_refuses_whole_calls_at_once_and_tells_of_pressure():
    producer = LogProducer(CLOSED_PORT, client_id="edges-test", queue_limit=10, delivery_timeout_seconds=1.0)
    first = producer.send("nowhere.log", [{"key": b"a", "value": b"x"}] * 9)
    assert producer.pressure() == pytest.approx(0.9)
    began = time.monotonic()
    with pytest.raises(Transient, match="await the broker"):
        producer.send("nowhere.log", [{"key": b"a", "value": b"x"}] * 2).result(0)
    with pytest.raises(Unusable, match="at most 10"):
        producer.send("nowhere.log", [{"key": b"a", "value": b"x"}] * 11).result(0)
    assert time.monotonic() - began < 0.2
    with pytest.raises(Transient):
        first.result(10)
    assert producer.pressure() == 0.0
    producer.close(5)
    with pytest.raises(Transient, match="closing"):
        producer.send("nowhere.log", [{"key": b"a", "value": b"x"}]).result(0)


def test_closing_while_the_broker_is_away_fails_what_is_left_and_returns_in_time():
    producer = LogProducer(CLOSED_PORT, client_id="edges-test")
    future = producer.send("nowhere.log", [{"key": b"a", "value": b"x"}] * 100)
    began = time.monotonic()
    producer.close(0.5)
    assert time.monotonic() - began < 3
    with pytest.raises(Transient):
        future.result(0)


def test_a_message_that_is_too_large_is_the_callers_fault_and_the_rest_is_written(kafka, stream, producer):
    future = producer.send(
        topic(LOG, stream), [{"key": b"a", "value": b"x" * size} for size in (5, 3_000_000, 5)]
    )
    with pytest.raises(Unusable, match="too large"):
        future.result(10)
    assert len(read_all(Tail(kafka, topic(LOG, stream), start="earliest"), 2)) == 2
    assert producer.pressure() == 0.0


def test_a_tail_from_now_on_sees_all_that_is_produced_after_it_was_made(kafka, stream, producer):
    producer.send(topic(LOG, stream), [{"key": b"a", "value": b"old"}]).result(10)
    tail = Tail(kafka, topic(LOG, stream))
    assert tail.caught_up()
    producer.send(topic(LOG, stream), [{"key": b"a", "value": b"new"}]).result(10)
    assert [record.value for record in read_all(tail, 1)] == [b"new"]
    tail.close()


def test_a_tail_from_given_offsets_reads_those_partitions_only(kafka, stream, producer):
    for partition in range(4):
        values = [{"key": None, "value": f"{partition}/{i}".encode()} for i in range(3)]
        producer.send(topic(LOG, stream), values, partition=partition).result(10)
    tail = Tail(kafka, topic(LOG, stream), start={1: 2, 3: 1})
    assert not tail.caught_up()
    assert sorted(record.value for record in read_all(tail, 3)) == [b"1/2", b"3/1", b"3/2"]
    deadline = time.monotonic() + 10
    while not tail.caught_up() and time.monotonic() < deadline:
        assert tail.read(10, 0.2) == []
    assert tail.caught_up()
    tail.close()


def test_a_tail_delivers_only_what_was_committed(kafka, stream):
    writer = Producer(producer_settings(kafka, "edges-test", transactional_id=fresh("edges")))
    writer.init_transactions(20)
    for value, commit in ((b"dropped", False), (b"kept", True)):
        writer.begin_transaction()
        writer.produce(topic(LOG, stream), value, b"a", partition=0)
        writer.flush(10)
        (writer.commit_transaction if commit else writer.abort_transaction)(20)
    tail = Tail(kafka, topic(LOG, stream), start="earliest")
    records = []
    deadline = time.monotonic() + 10
    while not tail.caught_up() and time.monotonic() < deadline:
        records += tail.read(10, 0.2)
    assert [record.value for record in records] == [b"kept"]
    tail.close()


def test_a_tail_whose_client_reads_no_further_goes_on_with_another(kafka, stream, monkeypatch):
    """And one that has read everything, transactions' ends included, keeps its client."""
    monkeypatch.setattr(silence, "LOOK_SECONDS", 0.5)
    name = topic(LOG, stream)
    writer = Producer(producer_settings(kafka, "edges-test", transactional_id=fresh("edges")))
    writer.init_transactions(20)

    def write(value):
        writer.begin_transaction()
        writer.produce(name, value, partition=1)
        writer.commit_transaction(20)

    write(b"first")
    tail = Tail(kafka, name, start={1: 0})
    client = tail._consumer
    assert [record.value for record in read_all(tail, 1)] == [b"first"]
    assert read_all(tail, 1, seconds=2.5) == []
    assert tail._consumer is client
    client.unassign()  # as if it had lost its way
    write(b"second")
    assert [record.value for record in read_all(tail, 1)] == [b"second"]
    assert tail._consumer is not client
    write(b"third")
    assert [record.value for record in read_all(tail, 1)] == [b"third"]
    tail.close()


def test_a_tail_of_a_topic_that_is_not_there_says_so(kafka):
    with pytest.raises(Transient, match="no topic"):
        Tail(kafka, f"{fresh('edges')}.log")


def test_a_broker_that_does_not_lead_yet_is_asked_again(kafka, stream, monkeypatch):
    real, asked = admin._admin(kafka), []

    class Slow:
        def list_offsets(self, places, **more):
            asked.append(places)
            if len(asked) > 2:
                return real.list_offsets(places, **more)
            early = Future()
            early.set_exception(KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)))
            return dict.fromkeys(places, early)

    monkeypatch.setattr(admin, "_admin", lambda _: Slow())
    assert admin.offset_bounds(kafka, topic(LOG, stream), 0) == (0, 0)
    assert len(asked) >= 4  # the real broker may be early, too


def test_end_offsets_and_lag(kafka, stream, producer):
    log, group = topic(LOG, stream), fresh("group")
    producer.send(log, [{"key": None, "value": b"x"}] * 5, partition=2).result(10)
    assert admin.end_offsets(kafka, log) == {0: 0, 1: 0, 2: 5, 3: 0}
    assert admin.lag(kafka, group, [log, "nowhere.log"]) == {
        (log, 0): 0,
        (log, 1): 0,
        (log, 2): 5,
        (log, 3): 0,
    }
    reader = Consumer(admin.consumer_settings(kafka, "edges-test", group))
    reader.subscribe([log])
    first = reader.poll(15)
    assert first is not None
    reader.commit(message=first, asynchronous=False)
    reader.close()
    assert admin.lag(kafka, group, [log])[(log, 2)] == 4


def test_the_follower_folds_what_was_and_what_comes(kafka, producer):
    admin.ensure_platform_topics(kafka)
    one, two = fresh("follow"), fresh("follow")

    def announce(kind, key, value):
        entry = {"key": key.encode(), "value": None if value is None else encode(value)}
        producer.send(REGISTRY.name, [entry]).result(10)

    def until(condition):
        deadline = time.monotonic() + 10
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert condition()

    announce("stream", f"stream/{one}", StreamAnnounced(one, 1, 4, {"name": one}))
    announce("stream", f"stream/{one}", StreamAnnounced(one, 2, 4, {"name": one}))
    producer.send(REGISTRY.name, [{"key": b"stream/broken", "value": b"not json"}]).result(10)
    heard = []
    follower = RegistryFollower(kafka, heard.append)
    follower.start()
    assert follower.streams[one].version == 2
    assert follower.healthy()

    deployed = DeploymentAnnounced(one, "m", 1, "champion", 5, "d")
    announce("stream", f"stream/{two}", StreamAnnounced(two, 1, 1, {"name": two}))
    announce("deployment", f"deployment/{one}/m", deployed)
    until(lambda: (one, "m") in follower.deployments)
    assert follower.deployments[(one, "m")] == deployed
    assert heard[-1] == deployed
    assert two in follower.streams
    announce("stream", f"stream/{two}", None)
    until(lambda: two not in follower.streams)
    follower.stop()
    assert not follower.healthy()
    announce("stream", f"stream/{one}", None)


def test_a_follower_that_cannot_apply_a_change_turns_unhealthy(kafka, producer):
    admin.ensure_platform_topics(kafka)
    name = fresh("follow")

    def apply(announcement):
        if announcement.stream == name:
            raise ValueError("cannot")

    follower = RegistryFollower(kafka, apply)
    follower.start()
    announced = StreamAnnounced(name, 1, 1, {"name": name})
    producer.send(REGISTRY.name, [{"key": f"stream/{name}".encode(), "value": encode(announced)}]).result(10)
    deadline = time.monotonic() + 10
    while follower.healthy() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not follower.healthy()
    producer.send(REGISTRY.name, [{"key": f"stream/{name}".encode(), "value": None}]).result(10)


def test_a_follower_without_a_broker_gives_up_in_time():
    began = time.monotonic()
    with pytest.raises(Transient):
        RegistryFollower(CLOSED_PORT, lambda _: None).start(timeout_seconds=1)
    assert time.monotonic() - began < 20
