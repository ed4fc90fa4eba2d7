"""Reading a log's past from a real Kafka: whole ranges, committed records only, and no silence about what is gone."""

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.contracts.topics import LOG, topic
from headrace.errors import Unusable
from headrace.kafka import admin
from headrace.kafka.history import KafkaHistory

pytestmark = pytest.mark.broker


def written(kafka: str, name: str, transactions: list[tuple[int, bool]]) -> list[bytes]:
    """Write transactions of so many records, committed or aborted; the committed values."""
    producer = Producer(
        {"bootstrap.servers": kafka, "transactional.id": name, "transaction.timeout.ms": 10_000}
    )
    producer.init_transactions(20)
    committed = []
    for number, (count, commits) in enumerate(transactions):
        producer.begin_transaction()
        values = [f"{number}/{index}".encode() for index in range(count)]
        for value in values:
            producer.produce(name, value, b"k", 0)
        if commits:
            producer.commit_transaction(20)
            committed += values
        else:
            producer.flush(20)
            producer.abort_transaction(20)
    return committed


def test_ranges_are_whole_whatever_lies_between_the_records(kafka: str, fresh_name: str) -> None:
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    name = topic(LOG, fresh_name)
    values = written(kafka, name, [(3, True), (2, False), (4, True), (1, False)])
    history = KafkaHistory(kafka)
    first, end = history.bounds(name, 0)
    assert (first, end) == (0, 14)  # ten records and a marker for each transaction
    batches = list(history.read(name, 0, 0, end))
    offsets = [offset for batch in batches for offset in batch.offsets]
    assert [value for batch in batches for value in batch.values] == values
    assert offsets == [0, 1, 2, 7, 8, 9, 10]
    assert [o for batch in history.read(name, 0, 2, 9) for o in batch.offsets] == [2, 7, 8]
    assert [o for batch in history.read(name, 0, 11, 1000) for o in batch.offsets] == []
    assert list(history.read(name, 0, 5, 5)) == []
    assert history.partitions(name) == 1


def test_records_that_retention_has_removed_are_an_error_and_never_skipped(
    kafka: str, fresh_name: str
) -> None:
    admin.ensure_stream_topics(kafka, fresh_name, 1)
    name = topic(LOG, fresh_name)
    written(kafka, name, [(5, True)])
    client = AdminClient({"bootstrap.servers": kafka})
    for future in client.delete_records([TopicPartition(name, 0, 3)]).values():
        future.result(30)
    history = KafkaHistory(kafka)
    assert history.bounds(name, 0) == (3, 6)
    with pytest.raises(Unusable, match=r"offsets 0 to 2 are gone"):
        list(history.read(name, 0, 0, 6))
    assert [o for batch in history.read(name, 0, 3, 6) for o in batch.offsets] == [3, 4]
