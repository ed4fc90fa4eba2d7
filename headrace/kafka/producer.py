"""Writes to topics outside a transaction: idempotent, acknowledged by all replicas, one future a call.

One thread polls librdkafka for delivery reports; callers (an event loop, or threads) only queue and get a
`concurrent.futures.Future`, so nothing here ever blocks an event loop. The bound on what is outstanding is kept here,
before anything is queued, so that a call is taken whole or refused whole: librdkafka's own bound would take half of it.
Keys are spread by murmur2 as Java clients do; with any other partitioner a label would miss its observation's shard.
lz4 with a linger of 1 ms was measured as both the fastest and, at low load, within 1 ms of no linger at all.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from headrace.errors import Fatal, HeadraceError, Transient, Unusable
from headrace.kafka.admin import client_settings, from_kafka, is_fatal
from headrace.kafka.carrying import TRACEPARENT
from headrace.processor import BY_KEY, Message

Acknowledgement = Future[list[tuple[int, int]]]
"""Resolves to (partition, offset) of each message of one `send`, in the order they were handed over."""

POLL_SECONDS = 0.1

MOST_CARRYING = 16
"""Messages of one call that carry its trace: more of them would say the same."""


def producer_settings(bootstrap: str, client_id: str, **more: Any) -> dict[str, Any]:
    """Settings of every producer here, transactional or not; `more` as in `client_settings`."""
    settings = client_settings(bootstrap, client_id)
    settings.update(
        {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 1,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            # A message for a topic that does not exist fails after this, not after half a minute.
            "topic.metadata.propagation.max.ms": 10_000,
        }
    )
    settings.update({name.replace("_", "."): value for name, value in more.items()})
    return settings


class LogProducer:
    """A producer for asyncio code and threads alike; `send` never waits.

    queue_limit: messages that may be unacknowledged at once, over all calls. delivery_timeout_seconds: how long the
    broker may be away before a message fails as `Transient` (it may still have been written: readers dedupe by id).
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str,
        queue_limit: int = 100_000,
        delivery_timeout_seconds: float = 30.0,
    ) -> None:
        self._limit = queue_limit
        self._outstanding = 0
        self._lock = threading.Lock()
        self._closing = False
        self._broken = ""
        settings = producer_settings(
            bootstrap,
            client_id,
            message_timeout_ms=int(delivery_timeout_seconds * 1000),
            # Ours is the bound (see the module's text): theirs must never be reached first.
            queue_buffering_max_messages=queue_limit * 2,
            queue_buffering_max_kbytes=1024 * 1024,
        )
        settings["error_cb"] = self._noticed
        self._producer = Producer(settings)
        self._thread = threading.Thread(target=self._poll, name=f"{client_id}-acks", daemon=True)
        self._thread.start()

    def send(
        self, topic: str, messages: Sequence[Message], partition: int = BY_KEY, *, traceparent: str = ""
    ) -> Acknowledgement:
        """Queue the messages; the future resolves once *all* are acknowledged, else fails.

        traceparent: what the first `MOST_CARRYING` of them carry in their headers; empty: nothing.

        Raises nothing; the future fails with `Transient` (queue full, broker away, closing: try again later),
        `Unusable` (a message is too large) or `Fatal` (this producer is finished: restart the process).
        Messages of one call to one partition are written in order, and calls in the order they were made.
        """
        call = _Call(len(messages), self._settled)
        if not messages:
            call.future.set_result([])
            return call.future
        with self._lock:
            refusal = self._refusal(len(messages))
            if refusal is not None:
                call.future.set_exception(refusal)
                return call.future
            self._outstanding += len(messages)
            done = call.reported
            entries: list[dict[str, Any]] = [
                {"key": message["key"], "value": message["value"], "callback": partial(done, index)}
                for index, message in enumerate(messages)
            ]
            # Under the lock, so that calls of two threads do not mix and `close` cannot slip in between.
            first = MOST_CARRYING if traceparent else 0
            try:
                queued = self._carry(topic, entries[:first], partition, traceparent)
                queued += self._producer.produce_batch(topic, entries[first:], partition)
            except (KafkaException, BufferError, TypeError, ValueError) as error:
                self._outstanding -= len(messages)
                call.future.set_exception(Fatal(f"produce to {topic}: {error}"))
                return call.future
        if queued < len(entries):
            call.refused([entry["_error"] for entry in entries if "_error" in entry])
        return call.future

    def pressure(self) -> float:
        """Share of `queue_limit` in use, 0 to 1. Above 0.8 a front should send its clients away for a while."""
        return min(1.0, self._outstanding / self._limit)

    def healthy(self) -> bool:
        """False once this producer cannot go on (a fatal client error, or closed); the process should be restarted."""
        return not self._broken and not self._closing and self._thread.is_alive()

    def check(self) -> None:
        """Raise `Fatal`, with the reason, if this producer cannot go on."""
        if not self.healthy():
            raise Fatal(self._broken or "the producer is finished: its thread has ended")

    def close(self, timeout_seconds: float) -> None:
        """Take nothing new, wait for what is outstanding; what is not acknowledged in time fails as `Transient`."""
        with self._lock:
            self._closing = True
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
            self._thread.join(5.0)

    def _carry(self, topic: str, entries: list[dict[str, Any]], partition: int, traceparent: str) -> int:
        """`produce_batch`, which has no headers, with one; returns how many were queued, as it does."""
        headers: list[tuple[str, str | bytes | None]] = [(TRACEPARENT, traceparent)]
        for entry in entries:
            message = entry["value"], entry["key"], partition
            try:
                self._producer.produce(topic, *message, on_delivery=entry["callback"], headers=headers)
            except KafkaException as error:
                entry["_error"] = error.args[0]
        return sum("_error" not in entry for entry in entries)

    def _refusal(self, count: int) -> HeadraceError | None:
        if self._broken:
            return Fatal(self._broken)
        if self._closing:
            return Transient("the producer is closing")
        if count > self._limit:
            return Unusable(f"{count} messages in one call: at most {self._limit} are taken at once")
        if self._outstanding + count > self._limit:
            return Transient(
                f"{self._outstanding} messages await the broker: more than {self._limit} are not taken"
            )
        return None

    def _settled(self, count: int) -> None:
        with self._lock:
            self._outstanding -= count

    def _noticed(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._broken = f"the producer cannot go on: {error.str()}"

    def _poll(self) -> None:
        while not (self._closing and self._outstanding <= 0):
            self._producer.poll(POLL_SECONDS if not self._closing else 0.01)


class _Call:
    """The messages of one `send` on their way."""

    __slots__ = ("_error", "_left", "_lock", "_places", "_refused", "_settled", "future")

    def __init__(self, count: int, settled: Callable[[int], None]) -> None:
        self.future: Acknowledgement = Future()
        # From here on nobody can cancel it: the messages are on their way whatever the caller does.
        self.future.set_running_or_notify_cancel()
        self._places: list[tuple[int, int]] = [(-1, -1)] * count
        self._left = count  # written by the poll thread only
        self._refused = 0  # written by the calling thread only
        self._error: KafkaError | None = None
        self._settled = settled
        self._lock = threading.Lock()

    def reported(self, index: int, error: KafkaError | None, message: KafkaMessage) -> None:
        """Delivery report of one message; runs on the poll thread, once a message: keep it short."""
        if error is None:
            self._places[index] = (message.partition(), message.offset())  # type: ignore[assignment]
        else:
            self._error = error
        self._left -= 1
        if self._left == self._refused:
            self._finish()

    def refused(self, errors: list[KafkaError]) -> None:
        """Some messages were not even queued; there will be no report of them."""
        self._error = errors[0]
        self._refused = len(errors)
        if self._left == self._refused:
            self._finish()

    def _finish(self) -> None:
        with self._lock:  # both threads may see the last message at once
            if self.future.done():
                return
            if self._error is None:
                self.future.set_result(self._places)
            else:
                self.future.set_exception(_as_ours(self._error))
        self._settled(len(self._places))


def _as_ours(error: KafkaError) -> HeadraceError:
    if is_fatal(error):
        return Fatal(f"the producer cannot go on: {error.str()}")
    return from_kafka(error, "produce")
