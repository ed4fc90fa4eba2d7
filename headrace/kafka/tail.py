"""Reads one topic, all its partitions, without a consumer group: for followers, waiting requests and people.

Start offsets are settled before the constructor returns, so whatever is produced afterwards is seen; a consumer that
merely asked for "latest" would begin a moment later and miss it. Only committed records are delivered.
"""

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
        settings = consumer_settings(
            bootstrap, client_id, f"{client_id}-{uuid.uuid4().hex}", enable_partition_eof=True
        )
        self._consumer = Consumer(settings)
        self._consumer.assign([TopicPartition(topic, number, offset) for number, offset in begin.items()])

    def read(self, limit: int, timeout_seconds: float) -> list[TailRecord]:
        """Up to `limit` records; waits at most `timeout_seconds` for the first and not at all for more.

        Empty if there is nothing yet or the broker is away (it reconnects by itself). Order holds in a partition.
        """
        first = self._consumer.poll(timeout_seconds)
        if first is None:
            return []
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

    def _take(self, message: KafkaMessage, records: list[TailRecord]) -> None:
        error = message.error()
        partition = cast(int, message.partition())
        if error is None:
            kind, timestamp = message.timestamp()
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
        elif is_fatal(error):
            raise Fatal(f"reading {self.topic}: {error.str()}")
        elif error.code() in LASTING:
            raise from_kafka(KafkaException(error), f"reading {self.topic}")


def _chosen(start: Literal["latest"] | Mapping[int, int], ends: dict[int, int]) -> dict[int, int]:
    return dict(ends) if start == "latest" else dict(start)
