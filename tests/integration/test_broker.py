"""The embedded broker for real: from nothing to a transactional Kafka, through stops, kill -9 and second starts."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.broker import BrokerError, DidNotStart, EmbeddedBroker, JarsUnavailable, PortInUse, fetch, jars

pytestmark = pytest.mark.broker

RECORDS = 1_000


@pytest.fixture(scope="module")
def cache(request) -> Path:
    """Kafka's jars, fetched once for all runs of the tests."""
    folder = Path(request.config.cache.mkdir("kafka"))
    fetch(folder)
    return folder


@pytest.fixture
def broker(tmp_path, cache):
    """A broker in an awkward place, not yet started; ended afterwards however the test went."""
    one = EmbeddedBroker(tmp_path / "a hóme, of its own", cache=cache)
    yield one
    one.stop()


def create(servers: str, topic: str, partitions: int = 2) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    for answer in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        answer.result(20)


def write(servers: str, topic: str, values: range, *, commit: bool = True) -> None:
    """One transaction of values; commit=False leaves it to be aborted."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"{topic}-writer", "log_level": 2})
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, str(value), key=str(value))
    producer.flush(20)
    if commit:
        producer.commit_transaction(20)
    else:
        producer.abort_transaction(20)


def read(servers: str, topic: str, partitions: int = 2) -> list[int]:
    """All committed values of a topic, in the order of their numbers."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    values: list[int] = []
    ended = 0
    deadline = time.monotonic() + 30
    while ended < partitions:
        assert time.monotonic() < deadline, f"read {len(values)} values, then nothing for too long"
        message = consumer.poll(0.5)
        if message is not None and message.error() is not None:
            ended += 1
        elif message is not None:
            values.append(int(message.value()))
    consumer.close()
    return sorted(values)


def kill(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)


def test_records_survive_a_stop_a_kill_and_a_second_start(broker):
    address = broker.start()
    servers = address.bootstrap_servers
    assert not address.reused
    assert address.host == "127.0.0.1"
    create(servers, "flights")
    write(servers, "flights", range(RECORDS))
    write(servers, "flights", range(RECORDS, 2 * RECORDS), commit=False)
    assert read(servers, "flights") == list(range(RECORDS))

    # A second start of a running one is nothing but a look, also from another object.
    again = EmbeddedBroker(broker.home, cache=Path("/nonexistent")).start()
    assert again.reused
    assert (again.pid, again.bootstrap_servers) == (address.pid, servers)

    broker.stop()
    assert not broker.is_running()
    assert broker.pid is None
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=1)
    assert broker.start().bootstrap_servers == servers, "a restart must be found where clients look"
    assert read(servers, "flights") == list(range(RECORDS))

    write(servers, "flights", range(RECORDS, RECORDS + 500))
    kill(broker)
    after = broker.start()
    assert not after.reused
    assert after.bootstrap_servers == servers
    # A commit is durable once acknowledged; its marker may be written only when the coordinator is back.
    deadline = time.monotonic() + 30
    while len(read(servers, "flights")) < RECORDS + 500 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert read(servers, "flights") == list(range(RECORDS + 500))
    write(servers, "flights", range(RECORDS + 500, RECORDS + 501))
    assert len(read(servers, "flights")) == RECORDS + 501


@pytest.mark.slow
def test_commits_survive_kills_in_mid_flight(broker):
    """Killed while twelve writers commit: whatever was acknowledged must be readable soon after the restart.

    Kafka 4.3 and 4.4 fail this now and then (see headrace/broker/jars.py). Run it many times before taking another.
    """
    servers = broker.start().bootstrap_servers
    create(servers, "busy", 4)
    acknowledged: set[int] = set()
    numbers = itertools.count(step=4)
    for _ in range(2):
        ended = threading.Event()
        ready = threading.Barrier(13)

        def commit_until_the_end(name: str, ended=ended, ready=ready) -> None:
            settings = {
                "bootstrap.servers": servers,
                "transactional.id": name,
                "transaction.timeout.ms": 4_000,
            }
            producer = Producer({**settings, "log_level": 2})
            producer.init_transactions(60)
            ready.wait(90)
            with contextlib.suppress(KafkaException):
                while not ended.is_set():
                    first = next(numbers)
                    producer.begin_transaction()
                    for partition in range(4):
                        producer.produce("busy", str(first + partition), partition=partition)
                    producer.commit_transaction(5)
                    acknowledged.update(range(first, first + 4))

        writers = [threading.Thread(target=commit_until_the_end, args=(f"w{n}",)) for n in range(12)]
        for writer in writers:
            writer.start()
        ready.wait(90)
        enough = len(acknowledged) + 24 * 4
        deadline = time.monotonic() + 60
        while len(acknowledged) < enough:
            assert time.monotonic() < deadline, "the writers do not get on"
            time.sleep(0.01)
        kill(broker)
        ended.set()
        broker.start()
        for writer in writers:
            writer.join(60)
        missing = set(acknowledged)
        deadline = time.monotonic() + 30
        while missing and time.monotonic() < deadline:
            missing = acknowledged - set(read(servers, "busy", 4))
        assert missing == set()


def test_topics_do_not_appear_by_typo_and_only_loopback_listens(broker):
    servers = broker.start().bootstrap_servers
    producer = Producer({"bootstrap.servers": servers, "message.timeout.ms": 3_000, "log_level": 2})
    failures: list[object] = []
    producer.produce("tpyo", b"x", on_delivery=lambda error, _: failures.append(error))
    producer.flush(10)
    assert failures[0] is not None
    assert "tpyo" not in AdminClient({"bootstrap.servers": servers}).list_topics(timeout=10).topics
    port = int(servers.rpartition(":")[2])
    with socket.socket() as elsewhere:
        elsewhere.settimeout(1)
        assert elsewhere.connect_ex(("127.0.0.2" if sys.platform == "linux" else "::1", port)) != 0


def test_it_outlives_the_process_that_started_it(broker, cache):
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from headrace.broker import EmbeddedBroker
        print(EmbeddedBroker(Path(sys.argv[1]), cache=Path(sys.argv[2])).start().pid)
        """
    )
    starter = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(broker.home), str(cache)],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert starter.stderr == ""
    assert broker.is_running()
    assert broker.pid == int(starter.stdout)
    assert broker.start().reused
    broker.stop()
    assert broker.pid is None


def test_two_starters_make_one_broker(broker, cache):
    program = (
        "import sys; from pathlib import Path; from headrace.broker import EmbeddedBroker; "
        "a = EmbeddedBroker(Path(sys.argv[1]), cache=Path(sys.argv[2])).start(); print(a.pid, a.reused)"
    )
    command = [sys.executable, "-c", program, str(broker.home), str(cache)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [starter.communicate(timeout=90)[0].split() for starter in starters]
    assert answers[0][0] == answers[1][0]
    assert sorted(reused for _, reused in answers) == ["False", "True"]


def test_a_lost_pid_file_does_not_put_two_brokers_on_one_folder(broker):
    address = broker.start()
    pid_file = broker.home / "broker.pid"
    pid = pid_file.read_text()
    pid_file.unlink()
    with pytest.raises(BrokerError, match="another broker already works on"):
        broker.start()
    pid_file.write_text(pid)
    assert broker.start() == replace(address, reused=True)
    assert AdminClient({"bootstrap.servers": address.bootstrap_servers}).list_topics(timeout=10).brokers


def test_a_taken_port_is_named(tmp_path, cache, broker):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            EmbeddedBroker(tmp_path / "second", port=port, cache=cache).start()
    running = broker.start()
    with pytest.raises(PortInUse, match="already runs"):
        EmbeddedBroker(broker.home, port=running.port + 1, cache=cache).start()


def test_a_setting_kafka_refuses_is_shown_with_its_reason(tmp_path, cache):
    wrong = EmbeddedBroker(tmp_path / "wrong", cache=cache, overrides={"num.io.threads": "0"})
    with pytest.raises(DidNotStart, match=r"num\.io\.threads"):
        wrong.start()
    assert wrong.pid is None


@pytest.mark.network
def test_the_jars_come_from_nothing_and_match_the_list(tmp_path):
    said: list[str] = []
    classpath = fetch(tmp_path, said.append)
    assert said
    assert jars.unsound(classpath.folder, jars.locked_jars()) == []
    assert sorted(path.name for path in classpath.folder.iterdir()) == sorted(
        jar.name for jar in classpath.jars
    )


def test_a_repository_out_of_reach_is_a_clear_error(tmp_path, monkeypatch):
    # A mirror in jgo's own configuration, at an address where nothing listens.
    configuration = tmp_path / "jgo.conf"
    configuration.write_text("[repositories]\nmirror = http://127.0.0.1:9/\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(configuration))
    with pytest.raises(JarsUnavailable, match=r"could not be fetched(?s:.)*copy a filled"):
        fetch(tmp_path / "cache")
