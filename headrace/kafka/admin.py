"""Topics, offsets and the settings that every Kafka client here shares.

One place for client settings, because they were measured and are easy to get wrong: `retry.backoff.ms` 5 and
`retry.backoff.max.ms` 20 make transactions four times faster than the defaults. Creating topics is idempotent and
never touches a topic that is there already: its partition count is the stream's shape and must not drift, and its
retention may have been tuned by an operator on purpose.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from headrace.contracts.topics import PLATFORM_TOPICS, STREAM_TOPICS, TopicKind, topic
from headrace.errors import HeadraceError, Transient, Unusable

REQUEST_TIMEOUT_SECONDS = 15.0

# What the clients hand out without types.
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

_log = logging.getLogger("headrace.kafka")
# librdkafka tells of every lost connection at level error; what matters reaches us as errors of calls anyway.
_log.setLevel(logging.WARNING)


def client_settings(bootstrap: str, client_id: str, **more: Any) -> dict[str, Any]:
    """Settings for a `confluent_kafka` client; `more` overrides (`_` stands for `.`: `linger_ms=1`)."""
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "logger": _log,
        # Waiting for a coordinator that is still closing the last transaction is what costs; see the module's text.
        "retry.backoff.ms": 5,
        "retry.backoff.max.ms": 20,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        "socket.nagle.disable": True,
        "socket.keepalive.enable": True,
        "allow.auto.create.topics": False,
        "log.connection.close": False,
        "enable.metrics.push": False,
        # Else a client that has lost every connection forgets its brokers, but not that one of them was the group's
        # coordinator, and `send_offsets_to_transaction` waits for that one for ever (librdkafka issue 5511).
        "metadata.recovery.strategy": "none",
    }
    settings.update({name.replace("_", "."): value for name, value in more.items()})
    return settings


def consumer_settings(bootstrap: str, client_id: str, group: str, **more: Any) -> dict[str, Any]:
    """`client_settings` for a consumer: committed records only, nothing committed behind our back, bounded buffers.

    Up to 16 MiB a partition are fetched ahead. Offsets that retention has removed lead to the oldest record left.
    """
    settings = client_settings(bootstrap, client_id)
    settings.update(
        {
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 16 * 1024,
            # A full local queue is looked at again after this; the default of a second shows as stutter.
            "fetch.queue.backoff.ms": 10,
            "fetch.error.backoff.ms": 50,
            "fetch.wait.max.ms": 100,
        }
    )
    settings.update({name.replace("_", "."): value for name, value in more.items()})
    return settings


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that told this error is finished, and with it the process.

    `fatal()` alone is not enough: a consumer that was fenced while idle tells it as a message whose `fatal()` is False.
    """
    return error.fatal() or error.code() in _FINISHED


_FINISHED = frozenset(
    {
        KafkaError._FATAL,
        KafkaError._FENCED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.UNRELEASED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)


def from_kafka(error: KafkaError | KafkaException, doing: str) -> HeadraceError:
    """The error of ours that says what the caller must do about one of Kafka's."""
    reason = error.args[0] if isinstance(error, KafkaException) else error
    if isinstance(reason, KafkaError) and reason.code() in _CALLERS_FAULT:
        return Unusable(f"{doing}: {reason.str()}")
    away = isinstance(reason, KafkaError) and reason.code() in _AWAY
    hint = "; no Kafka answers at HEADRACE_BOOTSTRAP" if away else ""
    return Transient(f"{doing}: {reason.str() if isinstance(reason, KafkaError) else reason}{hint}")


_AWAY = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})


_CALLERS_FAULT = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.POLICY_VIOLATION,
        KafkaError._INVALID_ARG,
    }
)


LASTING = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)
"""Errors of a reader that last; all else (a lost connection, a leader on the move) librdkafka mends by itself."""


def ensure_stream_topics(bootstrap: str, stream: str, partitions: int, *, replication: int = 1) -> None:
    """Create the stream's topics that are missing. Raises `Unusable` if one has another number of partitions."""
    wanted = {topic(kind, stream): (kind, partitions if kind.follows_stream else 1) for kind in STREAM_TOPICS}
    _ensure(bootstrap, wanted, replication)


def ensure_platform_topics(bootstrap: str, *, replication: int = 1) -> None:
    """Create the `headrace.*` topics that are missing."""
    _ensure(bootstrap, {kind.name: (kind, 1) for kind in PLATFORM_TOPICS}, replication)


def topic_settings(kind: TopicKind, replication: int) -> dict[str, str]:
    """Kafka's own configuration of a topic of this kind."""
    settings = {"cleanup.policy": kind.cleanup, "min.insync.replicas": "2" if replication > 2 else "1"}
    if kind.compression != "producer":
        settings["compression.type"] = kind.compression
    if kind.cleanup == "compact":
        # Small and read from its start by every service: compact early.
        settings |= {"min.cleanable.dirty.ratio": "0.1", "segment.bytes": str(16 * 1024 * 1024)}
    else:
        retention = kind.retention_seconds * 1000 if kind.retention_seconds >= 0 else -1
        settings |= {"retention.ms": str(retention), "retention.bytes": "-1"}
    return settings


def _ensure(bootstrap: str, wanted: dict[str, tuple[TopicKind, int]], replication: int) -> None:
    admin = _admin(bootstrap)
    present = _partition_counts(admin, list(wanted))
    missing = [
        NewTopic(
            name,
            num_partitions=count,
            replication_factor=replication,
            config=topic_settings(kind, replication),
        )
        for name, (kind, count) in wanted.items()
        if name not in present
    ]
    if missing:
        for name, future in admin.create_topics(missing, operation_timeout=10.0).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise from_kafka(error, f"create topic {name}") from None
        present |= _visible(admin, [new.topic for new in missing])
    for name, (_, count) in wanted.items():
        if present[name] != count:
            raise Unusable(
                f"topic {name} has {present[name]} partitions, not {count}: partitions are fixed for life"
            )


def _visible(admin: AdminClient, names: list[str]) -> dict[str, int]:
    """Partition counts, once all of them can be seen: the controller answers before the broker has heard."""
    deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
    while len(counts := _partition_counts(admin, names)) < len(set(names)):
        if time.monotonic() > deadline:
            raise Transient(f"topics {sorted(set(names) - set(counts))} were made but do not appear")
        time.sleep(0.02)
    return counts


def _partition_counts(
    admin: AdminClient, names: list[str], timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
) -> dict[str, int]:
    """How many partitions the topics that exist have."""
    counts = {}
    futures = admin.describe_topics(TopicCollection(names), request_timeout=timeout_seconds)
    for name, future in futures.items():
        try:
            counts[name] = len(future.result().partitions)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise from_kafka(error, f"describe topic {name}") from None
    return counts


def partition_count(bootstrap: str, topic_name: str) -> int:
    """Partitions of a topic. Raises `Transient` if it does not exist (yet)."""
    counts = _partition_counts(_admin(bootstrap), [topic_name])
    if topic_name not in counts:
        raise Transient(f"there is no topic {topic_name} yet")
    return counts[topic_name]


def end_offsets(
    bootstrap: str, topic_name: str, *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
) -> dict[int, int]:
    """For each partition the offset after its last committed record.

    Raises `Transient` if the topic is not there (yet), or the broker does not answer in time.
    """
    admin = _admin(bootstrap)
    counts = _partition_counts(admin, [topic_name], timeout_seconds)
    if topic_name not in counts:
        raise Transient(f"there is no topic {topic_name} yet")
    places = [TopicPartition(topic_name, number) for number in range(counts[topic_name])]
    return {place.partition: offset for place, offset in _offsets(admin, places, _LATEST).items()}


def offset_bounds(bootstrap: str, topic_name: str, partition: int) -> tuple[int, int]:
    """The oldest offset that a partition still has, and the one after its last committed record."""
    admin = _admin(bootstrap)
    place = TopicPartition(topic_name, partition)
    return _offsets(admin, [place], _EARLIEST)[place], _offsets(admin, [place], _LATEST)[place]


def offset_at(bootstrap: str, topic_name: str, partition: int, ms: int) -> int:
    """Offset of a partition's first record with this timestamp or a later one; the end if there is none."""
    admin = _admin(bootstrap)
    place = TopicPartition(topic_name, partition)
    since: Any = OffsetSpec.for_timestamp(ms)
    found = _offsets(admin, [place], since)[place]
    return found if found >= 0 else _offsets(admin, [place], _LATEST)[place]


def delete_below(bootstrap: str, topic_name: str, partition: int, offset: int) -> None:
    """Remove a partition's records below an offset, for good. Raises `Transient` if the broker is away."""
    admin = _admin(bootstrap)  # held until it has answered: a client that is collected never does
    place = TopicPartition(topic_name, partition, offset)
    try:
        for future in admin.delete_records([place], request_timeout=REQUEST_TIMEOUT_SECONDS).values():
            future.result(REQUEST_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise from_kafka(error, f"trim {topic_name}/{partition}") from None
    except TimeoutError:
        raise Transient(f"trim {topic_name}/{partition}: the broker does not answer") from None


def lag(bootstrap: str, group: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Records between a consumer group's committed offset and the end, by (topic, partition).

    A partition the group has never committed counts from its oldest record. Topics that do not exist are left out.
    Offsets of transaction markers count too, so a group that has read everything may show a lag of 1 or 2.
    """
    admin = _admin(bootstrap)
    places = [
        TopicPartition(name, number)
        for name, count in _partition_counts(admin, list(topics)).items()
        for number in range(count)
    ]
    if not places:
        return {}
    committed = _committed(admin, group, places)
    ends = _offsets(admin, places, _LATEST)
    fresh = [place for place in places if place not in committed]
    starts = _offsets(admin, fresh, _EARLIEST) if fresh else {}
    return {
        (place.topic, place.partition): max(0, ends[place] - committed.get(place, starts.get(place, 0)))
        for place in places
    }


def committed_offset(bootstrap: str, group: str, topic_name: str, partition: int) -> int:
    """Offset up to which a consumer group has committed a partition; 0 if it never has."""
    place = TopicPartition(topic_name, partition)
    return _committed(_admin(bootstrap), group, [place]).get(place, 0)


def _committed(admin: AdminClient, group: str, places: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Committed offsets of those partitions that have one."""
    asked = ConsumerGroupTopicPartitions(group, places)
    try:
        futures = admin.list_consumer_group_offsets([asked], request_timeout=REQUEST_TIMEOUT_SECONDS)
        answered = futures[group].result().topic_partitions or []
    except KafkaException as error:
        raise from_kafka(error, f"offsets of group {group}") from None
    return {place: place.offset for place in answered if place.offset >= 0}


def _offsets(admin: AdminClient, places: list[TopicPartition], spec: Any) -> dict[TopicPartition, int]:
    deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
    while True:
        futures = admin.list_offsets(
            dict.fromkeys(places, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_TIMEOUT_SECONDS,
        )
        try:
            return {place: future.result().offset for place, future in futures.items()}
        except KafkaException as error:
            # A busy broker tells of a new topic before it has begun to lead its partitions.
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise from_kafka(error, "list offsets") from None
            time.sleep(0.02)


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient(client_settings(bootstrap, "headrace-admin"))
