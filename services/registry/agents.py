"""The registry's binding to Kafka: control records into every partition of a log, announcements, topics."""

from collections.abc import Iterator, Sequence

from headrace.contracts.codec import encode
from headrace.contracts.events import Announcement, StreamAnnounced
from headrace.contracts.topics import AUDIT, CHANGES, LOG, OUTCOMES, REGISTRY, topic
from headrace.errors import Transient
from headrace.kafka import admin
from headrace.kafka.history import KafkaHistory
from headrace.kafka.producer import Acknowledgement, LogProducer

ACKNOWLEDGED_SECONDS = 20.0
HEAD_KEY = b"head"
CHANGE_KEY = b"rows"


class KafkaControlLog:
    """What the registry writes, and waits for. Raises `Transient` while the broker is away."""

    def __init__(self, bootstrap: str, *, replication: int = 1) -> None:
        self._bootstrap = bootstrap
        self._replication = replication
        self._producer = LogProducer(
            bootstrap, client_id="headrace-registry", queue_limit=10_000, delivery_timeout_seconds=15.0
        )

    def ensure_platform(self) -> None:
        """Make the topics that serve all streams."""
        admin.ensure_platform_topics(self._bootstrap, replication=self._replication)

    def ensure_stream(self, stream: str, partitions: int) -> None:
        """Make a stream's topics. Raises `Unusable` if they are there with other partitions."""
        admin.ensure_stream_topics(self._bootstrap, stream, partitions, replication=self._replication)

    def is_empty(self, stream: str) -> bool:
        """Whether a stream's log has never held a record."""
        return not any(admin.end_offsets(self._bootstrap, topic(LOG, stream)).values())

    def outcomes(self, stream: str) -> dict[int, int]:
        """Where each partition of the stream's outcomes ends."""
        return admin.end_offsets(self._bootstrap, topic(OUTCOMES, stream))

    def write(self, stream: str, partitions: int, record: bytes) -> dict[int, int]:
        """Append a control record to every partition of the log; its offset in each."""
        calls = [
            self._producer.send(topic(LOG, stream), [{"key": None, "value": record}], partition)
            for partition in range(partitions)
        ]
        return dict(place for call in calls for place in _acknowledged(call))

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Tell every service; the latest of a key stays."""
        _acknowledged(
            self._producer.send(
                REGISTRY.name,
                [{"key": announcement_key(told), "value": encode(told)} for told in announcements],
            )
        )

    def announce_head(self, head: bytes) -> None:
        """Keep a signed head of the audit trail, for ever."""
        _acknowledged(self._producer.send(AUDIT.name, [{"key": HEAD_KEY, "value": head}]))

    def heads(self) -> list[bytes]:
        """Every head that was ever announced."""
        return list(self._every(AUDIT.name))

    def tell_changes(self, changes: Sequence[bytes]) -> None:
        """Keep what changes have written, for ever and in this order."""
        _acknowledged(
            self._producer.send(CHANGES.name, [{"key": CHANGE_KEY, "value": told} for told in changes])
        )

    def told_changes(self, newest: int | None = None) -> Iterator[bytes]:
        """What was told of changes, oldest first; only the newest so many."""
        return self._every(CHANGES.name, newest)

    def _every(self, name: str, newest: int | None = None) -> Iterator[bytes]:
        history = KafkaHistory(self._bootstrap)
        first, end = history.bounds(name, 0)
        start = first if newest is None else max(first, end - newest)
        for batch in history.read(name, 0, start, end):
            yield from (value or b"" for value in batch.values)

    def healthy(self) -> bool:
        """False once the process must be restarted."""
        return self._producer.healthy()

    def check(self) -> None:
        """Raise `Fatal`, with the reason, once the process must be restarted."""
        self._producer.check()

    def close(self) -> None:
        """Write what is under way and leave."""
        self._producer.close(5.0)


def announcement_key(told: Announcement) -> bytes:
    """`stream/S` or `deployment/S/M`."""
    if isinstance(told, StreamAnnounced):
        return f"stream/{told.stream}".encode()
    return f"deployment/{told.stream}/{told.model}".encode()


def _acknowledged(call: Acknowledgement) -> list[tuple[int, int]]:
    try:
        return call.result(ACKNOWLEDGED_SECONDS)
    except TimeoutError:
        raise Transient("the broker did not acknowledge in time") from None
