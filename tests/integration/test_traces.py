"""A `traceparent` travels with its record and with no other, in order, and spans of it reach a collector."""

import socket
import subprocess
import sys
import threading

import pytest
from confluent_kafka import Consumer, TopicPartition

from headrace.contracts.topics import INBOX, LOG, topic
from headrace.errors import Fatal, Unusable
from headrace.kafka import admin
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.kafka.producer import MOST_CARRYING, LogProducer
from headrace.runner import open_traces
from headrace.traces import MOST_OF_BATCH, Traces
from services.ingest.domain.ids import id_given
from services.ingest.processor import InboxProcessor
from services.ingest.settings import IngestSettings
from tests.integration.ingest_system import until
from tests.otlp import Collector
from tests.unit.ingest.doubles import FlawedCleanser

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def collector():
    with Collector() as one:
        yield one


def read(bootstrap, name, count):
    """(value, traceparent or None) of the first records of partition 0, in order."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "test", "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition(name, 0, 0)])
    found = []

    def more():
        for message in consumer.consume(count, 0.2):
            assert message.error() is None
            headers = dict(message.headers() or [])
            found.append((message.value(), (headers.get("traceparent") or b"").decode() or None))
        return len(found) >= count

    until(more, what=f"{count} records of {name}")
    consumer.close()
    return found


@pytest.mark.broker
def test_the_first_messages_of_a_call_carry_its_trace_and_all_keep_their_order(kafka, fresh_name):
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    name = topic(LOG, fresh_name)
    producer = LogProducer(kafka, client_id="test")
    first = [{"key": b"k", "value": b"a%d" % n} for n in range(MOST_CARRYING + 20)]
    second = [{"key": b"k", "value": b"b%d" % n} for n in range(5)]
    calls = [producer.send(name, first, traceparent=SAMPLED), producer.send(name, second)]
    assert [len(call.result(20)) for call in calls] == [len(first), len(second)]
    producer.close(5)
    found = read(kafka, name, len(first) + len(second))
    assert [value for value, _ in found] == [message["value"] for message in (*first, *second)]
    assert [header for _, header in found] == [SAMPLED] * MOST_CARRYING + [None] * 25


@pytest.mark.broker
def test_a_message_too_large_fails_its_call_and_ends_nothing(kafka, fresh_name):
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    producer = LogProducer(kafka, client_id="test")
    messages = [{"key": b"k", "value": value} for value in (b"a", bytes(2_000_000), b"b")]
    failure = producer.send(topic(LOG, fresh_name), messages, traceparent=SAMPLED).exception(20)
    assert isinstance(failure, Unusable)
    assert "large" in str(failure)
    assert producer.healthy()
    assert producer.send(topic(LOG, fresh_name), messages[:1], traceparent=SAMPLED).result(20)
    until(lambda: producer.pressure() == 0, what="nothing outstanding")
    producer.close(5)


@pytest.mark.broker
def test_the_inbox_takes_a_trace_over_to_the_log_record_and_to_no_other(kafka, fresh_name, collector):
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    inbox, log = topic(INBOX, fresh_name), topic(LOG, fresh_name)
    bodies = [b'{"id":"o%d","entity":"e","x":1}' % n for n in range(10)]
    bodies[3] = b'{"id":"o3","x":"no number","entity":"e"}'  # refused
    bodies[5] = b'{"entity":"e","x":2}'  # is given an id
    bodies[7] = (
        b'{"specversion":"1.0","id":"o7","source":"s","type":"headrace.observation","data":{"entity":"e","x":3}}'
    )
    producer = LogProducer(kafka, client_id="test")
    for number, body in enumerate(bodies):
        sampled = SAMPLED if number in (3, 5, 7, 8) else UNSAMPLED if number == 9 else ""
        producer.send(inbox, [{"key": b"e", "value": body}], traceparent=sampled).result(20)
    producer.close(5)
    traces = Traces("ingest", "one", collector.url)
    host = KafkaHost(
        HostSettings(kafka, f"group-{fresh_name}", "one", stateless=True, snapshot_records=0),
        lambda _topic, _partition: InboxProcessor(fresh_name, FlawedCleanser, lambda: 1_700_000_000_000),
        lambda: [inbox],
        traces=traces,
        identify=id_given,
    )
    worker = threading.Thread(target=host.run, daemon=True)
    worker.start()
    try:
        found = read(kafka, log, 9)
        traces.close()
        spans = collector.wait(lambda told: sum(span.trace == TRACE for span in told) == 4)
    finally:
        host.stop()
        worker.join(20)
    carrying = [position for position, (_, header) in enumerate(found) if header]
    assert carrying == [4, 6, 7]  # o5, o7, o8: o3 is not in the log
    followed = [span for span in spans if span.trace == TRACE]
    assert {span.parent for span in followed} == {PARENT}
    for _, header in (found[position] for position in carrying):
        assert header in {f"00-{TRACE}-{span.span}-01" for span in followed}
    batches = [span for span in spans if span.trace != TRACE]
    assert sum(len(span.links) for span in batches) == 4
    assert sum(span.attributes["messaging.batch.message_count"] for span in batches) <= 10


def test_what_is_beyond_the_bound_of_a_batch_passes_its_trace_on_unchanged(collector):
    traces = Traces("scoring", "one", collector.url)
    sampled = {offset: f"00-{offset + 1:032x}-{PARENT}-01" for offset in range(MOST_OF_BATCH + 6)}
    carried = traces.batch("s.log", 0, 1000, sampled, 0)
    assert [offset for offset in sampled if carried[offset] == sampled[offset]] == list(
        range(MOST_OF_BATCH, MOST_OF_BATCH + 6)
    )
    traces.close()
    spans = collector.wait(lambda told: len(told) == MOST_OF_BATCH + 1)
    [batch] = [span for span in spans if span.name == "scoring batch"]
    assert len(batch.links) == MOST_OF_BATCH


@pytest.mark.parametrize(
    ("brought", "ratio", "traced"),
    [
        (None, 1.0, True),
        (None, 0.0, False),
        (SAMPLED, 0.0, True),
        (UNSAMPLED, 1.0, False),
        ("nonsense", 0.0, False),
        ("nonsense", 1.0, True),
        (f"00-{'0' * 32}-{PARENT}-01", 0.0, False),
    ],
)
def test_who_decides_whether_a_request_is_traced(collector, brought, ratio, traced):
    traces = Traces("ingest", "one", collector.url, ratio)
    with traces.request("POST /x", brought, {"stream": "s"}) as request:
        assert bool(request.traceparent) is traced
        request.answered(503)
    traces.close()
    assert len(collector.spans) == traced
    if brought == SAMPLED:
        assert (collector.spans[0].trace, collector.spans[0].parent) == (TRACE, PARENT)


def test_an_error_in_a_request_leaves_no_text_in_its_span(collector):
    traces = Traces("ingest", "one", collector.url, 1.0)
    with pytest.raises(ValueError, match="secret"), traces.request("POST /x", None, {"stream": "s"}):
        raise ValueError("secret")
    traces.close()
    [span] = collector.spans
    assert (span.attributes, span.events, span.says) == ({"stream": "s"}, [], "")


def test_off_nothing_of_opentelemetry_is_loaded():
    code = """
import sys
from headrace.runner import open_traces
from services.ingest import __main__ as ingest
from services.monitor import __main__ as monitor
from services.scoring import __main__ as scoring
settings = ingest.IngestSettings()
assert open_traces("ingest", settings, settings.traces_ratio) is None
ours = ("opentelemetry.sdk", "opentelemetry.exporter", "headrace.traces")  # FastAPI looks for the API by itself
print([name for name in sys.modules if name.startswith(ours)])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "[]\n"), run.stderr


def test_without_its_packages_a_service_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "headrace.traces", None)
    settings = IngestSettings(traces_url="http://127.0.0.1:4318/v1/traces")
    with pytest.raises(Fatal, match=r"headrace\[traces\]"):
        open_traces("ingest", settings)


def test_a_collector_that_does_not_answer_holds_nobody(monkeypatch):
    monkeypatch.setattr("headrace.traces.CLOSE_SECONDS", 0.2)
    monkeypatch.setattr("headrace.traces.EXPORT_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        traces = Traces("ingest", "one", f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces", 1.0)
        with traces.request("POST /x", None, {}):
            pass
        traces.close()
        assert "traces" in {thread.name for thread in threading.enumerate()}, (
            "it still tries, and nobody waits"
        )
