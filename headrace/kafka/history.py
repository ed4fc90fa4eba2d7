"""A log's past, read from Kafka: ranges of offsets, committed records only, nothing skipped in silence.

A consumer that asks for offsets which retention has removed is usually moved to the oldest record left; a model rebuilt
so would be another model. Here that is an error that names what is gone.
"""

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace.errors import Transient, Unusable
from headrace.history import READ_RECORDS, Bounds, gone
from headrace.kafka import admin
from headrace.kafka.tail import Tail
from headrace.processor import Batch

SILENT_SECONDS = 30.0
"""A broker that says nothing for so long is away."""
POLL_SECONDS = 0.5


class KafkaHistory:
    """`headrace.history.History` over a broker. Each read has a consumer of its own, outside every group."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""
        return admin.partition_count(self._bootstrap, topic)

    def bounds(self, topic: str, partition: int) -> Bounds:
        """What Kafka holds now, as a reader of committed records sees it."""
        return Bounds(*admin.offset_bounds(self._bootstrap, topic, partition))

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        """See the protocol."""
        if start >= end:
            return
        settings = admin.consumer_settings(
            self._bootstrap,
            "headrace-history",
            "headrace.history",  # never joined nor committed to; librdkafka wants a name
            auto_offset_reset="error",
            enable_partition_eof=True,
            # A reader of the past wants much at a time.
            fetch_wait_max_ms=20,
            queued_max_messages_kbytes=32 * 1024,
        )
        consumer = Consumer(settings)
        try:
            consumer.assign([TopicPartition(topic, partition, start)])
            yield from self._read(consumer, topic, partition, start, end)
        finally:
            consumer.close()

    def written_ms(self, topic: str, partition: int, offset: int) -> int | None:
        """When the first record at or behind an offset was written, as Kafka says; None: there is none yet.

        Kafka must still have the offset, or the answer is about the oldest record left.
        """
        tail = Tail(self._bootstrap, topic, start={partition: offset}, client_id="headrace-history")
        deadline = time.monotonic() + SILENT_SECONDS
        try:
            while not tail.caught_up():
                found = tail.read(1, POLL_SECONDS)
                if found:
                    return found[0].timestamp_ms
                if time.monotonic() > deadline:
                    raise Transient(f"{topic}/{partition}: the broker does not answer")
        finally:
            tail.close()
        return None

    def place_at(self, topic: str, partition: int, ms: int) -> int:
        """Offset of the first record that was written at this time or later; the end if there is none."""
        return admin.offset_at(self._bootstrap, topic, partition, ms)

    def _read(self, consumer: Any, topic: str, partition: int, start: int, end: int) -> Iterator[Batch]:
        silent = 0.0
        while True:
            first = consumer.consume(1, POLL_SECONDS)
            messages = [*first, *consumer.consume(READ_RECORDS - 1, 0.0)] if first else []
            silent = 0.0 if messages else silent + POLL_SECONDS
            if silent > SILENT_SECONDS:
                raise Transient(f"{topic}/{partition}: the broker does not answer")
            records = []
            ended = False
            for message in messages:
                error = message.error()
                if error is None:
                    if message.offset() >= end:
                        ended = True
                        break
                    records.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended = True
                elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    raise Unusable(
                        gone(topic, partition, start, self.bounds(topic, partition).first)
                    ) from None
                elif admin.is_fatal(error) or error.code() in admin.LASTING:
                    raise admin.from_kafka(KafkaException(error), f"reading {topic}/{partition}")
            if records:
                start = records[-1].offset() + 1
                yield Batch(
                    topic,
                    partition,
                    [record.offset() for record in records],
                    [record.key() for record in records],
                    [record.value() for record in records],
                )
            if ended:
                return
