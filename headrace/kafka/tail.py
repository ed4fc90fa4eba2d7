"""Reads one topic, all its partitions, without a consumer group: for followers, waiting requests and people.

Start offsets are settled before the constructor returns, so whatever is produced afterwards is seen; a consumer that
merely asked for "latest" would begin a moment later and miss it. Only committed records are delivered.

librdkafka 2.16 has been seen to read no further after an outage, and to say nothing. So a tail that hears nothing looks
whether there is more than it has read, and goes on with another client if there is.
"""

import threading
import uuid
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage

from headrace.errors import Fatal
from headrace.kafka.admin import (
    LASTING,
    REQUEST_TIMEOUT_SECONDS,
    consumer_settings,
    end_offsets,
    from_kafka,
    is_fatal,
)
from headrace.kafka.silence import ANSWER_SECONDS, Silence


class TailRecord(NamedTuple):
    """One record; timestamp_ms is Kafka's (when it was produced), -1 if it has none."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


class Tail:
    """A reader of one topic. Not for several threads at once.

    start: `earliest`, `latest` (what is produced from now on), or an offset for each partition (those left out are
    not read). Raises `Transient` if the topic does not exist yet, or the broker does not answer in `timeout_seconds`.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        start: Literal["earliest", "latest"] | Mapping[int, int] = "latest",
        client_id: str = "headrace-tail",
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> None:
        ends = end_offsets(bootstrap, topic, timeout_seconds=timeout_seconds)
        # Earliest is not the offset 0: retention or compaction may have removed that.
        begin = dict.fromkeys(ends, OFFSET_BEGINNING) if start == "earliest" else _chosen(start, ends)
        self.topic = topic
        self._behind = {number for number, offset in begin.items() if offset < ends.get(number, 0)}
        # It never joins this group nor commits to it; librdkafka merely wants a name.
        self._settings = consumer_settings(
            bootstrap, client_id, f"{client_id}-{uuid.uuid4().hex}", enable_partition_eof=True
        )
        self._next = begin
        self._consumer = self._opened()
        self._silence = Silence(self._misses_something)

    def read(self, limit: int, timeout_seconds: float) -> list[TailRecord]:
        """Up to `limit` records; waits at most `timeout_seconds` for the first and not at all for more.

        Empty if there is nothing yet or the broker is away (it reconnects by itself). Order holds in a partition.
        """
        first = self._consumer.poll(timeout_seconds)
        if first is None:
            if self._silence.is_for_ever():
                self._begin_anew()
            return []
        self._silence.broken()
        records: list[TailRecord] = []
        self._take(first, records)
        if limit > 1:
            for message in self._consumer.consume(limit - 1, 0.0):
                self._take(message, records)
        return records

    def caught_up(self) -> bool:
        """Whether the end of every partition has been reached since its last record was read."""
        return not self._behind

    def close(self) -> None:
        """Leave; reading afterwards is an error of the caller's."""
        self._consumer.close()

    def _opened(self) -> Consumer:
        consumer = Consumer(self._settings)
        consumer.assign([TopicPartition(self.topic, number, offset) for number, offset in self._next.items()])
        return consumer

    def _begin_anew(self) -> None:
        """Go on with another client where this one stands."""
        threading.Thread(target=self._consumer.close, daemon=True).start()  # it may take its time
        self._consumer = self._opened()
        self._silence.broken()

    def _misses_something(self) -> bool:
        """Whether there is more than was read; or nobody answers, as another client may find who does."""
        try:
            for number, offset in self._next.items():
                _, end = self._consumer.get_watermark_offsets(
                    TopicPartition(self.topic, number), timeout=ANSWER_SECONDS
                )
                if end > max(offset, 0):
                    return True
        except KafkaException:
            return True
        return False

    def _take(self, message: KafkaMessage, records: list[TailRecord]) -> None:
        error = message.error()
        partition = cast(int, message.partition())
        if error is None:
            kind, timestamp = message.timestamp()
            self._next[partition] = cast(int, message.offset()) + 1
            records.append(
                TailRecord(
                    partition,
                    cast(int, message.offset()),
                    message.key(),
                    message.value(),
                    timestamp if kind != TIMESTAMP_NOT_AVAILABLE else -1,
                )
            )
            self._behind.add(partition)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._behind.discard(partition)
            self._next[partition] = cast(int, message.offset())
        elif is_fatal(error):
            raise Fatal(f"reading {self.topic}: {error.str()}")
        elif error.code() in LASTING:
            raise from_kafka(KafkaException(error), f"reading {self.topic}")


def _chosen(start: Literal["latest"] | Mapping[int, int], ends: dict[int, int]) -> dict[int, int]:
    return dict(ends) if start == "latest" else dict(start)
