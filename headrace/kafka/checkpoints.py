"""Reads `S.checkpoints`: which snapshots of a partition are announced, newest first.

Snapshot pointers are written by the host in the same transaction as the offsets they belong to, so a pointer that a
`read_committed` reader sees is never ahead of what was committed with it.
"""

from collections import deque

import msgspec
from confluent_kafka import Consumer, TopicPartition

import headrace
from headrace.contracts.events import Checkpoint
from headrace.contracts.topics import CHECKPOINTS, stream_of, topic
from headrace.kafka.admin import client_settings

CODE = f"headrace {headrace.__version__}"
KEPT = 3
"""Snapshots tried before the log's start: the newest may be damaged."""

_decode = msgspec.json.Decoder(Checkpoint).decode


def newest_first(bootstrap: str, place: tuple[str, int], *, at_most: int) -> list[Checkpoint]:
    """Announced snapshots of (log topic, partition) with offset <= `at_most`, newest first, at most `KEPT`."""
    if at_most <= 0:
        return []  # nothing was ever committed here
    name, partition = place
    where = topic(CHECKPOINTS, stream_of(name))
    found: deque[Checkpoint] = deque(maxlen=KEPT)
    consumer = Consumer(
        {
            **client_settings(bootstrap, f"checkpoints-{where}"),
            "group.id": "headrace.checkpoints",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # the broker holds an empty answer back this long, at every start, a partition
        }
    )
    try:
        consumer.assign([TopicPartition(where, partition, 0)])
        while True:
            message = consumer.poll(10.0)
            if message is None or message.error() is not None:  # the end of the partition comes as an error
                return list(reversed(found))
            value = message.value()
            if value is None or message.key() != f"{name}/{partition}".encode():
                continue
            saved = _decode(value)
            if saved.offset <= at_most:
                found.append(saved)
    finally:
        consumer.close()
