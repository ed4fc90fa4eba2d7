"""The pointers to a host's snapshots, read from `S.checkpoints`; what follows from them is `headrace.recovery`'s."""

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace import recovery
from headrace.contracts.events import Checkpoint, Snapshot
from headrace.errors import Transient
from headrace.kafka.admin import LASTING, client_settings, is_fatal
from headrace.recovery import Place, checkpoints_topic, folder_of
from headrace.snapshots import SnapshotStore

log = structlog.get_logger("headrace.checkpoints")

READ_SECONDS = 30.0

_decode = msgspec.json.Decoder(Checkpoint).decode


class Checkpoints(recovery.Checkpoints):
    """The snapshots of one consumer group, announced on Kafka."""

    def __init__(self, bootstrap: str, group: str, store: SnapshotStore | None, every_records: int) -> None:
        super().__init__(group, store, every_records, lambda place: pointers(bootstrap, group, place))


def pointers(bootstrap: str, group: str, place: Place) -> list[Snapshot]:
    """The snapshots that a group has announced of a partition, oldest first. Raises `Transient` if unreadable."""
    where = checkpoints_topic(place)
    key = folder_of(group, place).encode()
    latest: bytes | None = None
    consumer = Consumer(
        {
            **client_settings(bootstrap, f"checkpoints-{where}"),
            "group.id": "headrace.checkpoints",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # the broker holds an empty answer back this long, at every start
        }
    )
    try:
        consumer.assign([TopicPartition(where, place[1], 0)])
        while True:
            message = consumer.poll(READ_SECONDS)
            if message is None:
                raise Transient(f"{where}/{place[1]} was not read to its end in {READ_SECONDS:.0f} s")
            error = message.error()
            if error is None:
                if message.key() == key and message.value() is not None:
                    latest = message.value()
            elif error.code() == KafkaError._PARTITION_EOF:
                break
            elif is_fatal(error) or error.code() in LASTING:
                raise Transient(f"{where}/{place[1]}: {error.str()}") from KafkaException(error)
    finally:
        consumer.close()
    try:
        return _decode(latest).snapshots if latest is not None else []
    except msgspec.MsgspecError as error:
        log.warning("checkpoint not understood", topic=where, partition=place[1], error=str(error))
        return []
