"""Transactions, one after another, each committed while the next batch is folded.

A commit is mostly waiting: for acknowledgements of what was produced and for the coordinator. On a thread of its own it
costs the fold nothing. Two producers take turns, as librdkafka waits 20 ms when a producer's last transaction is still
being completed: a small transaction then takes 5 ms in place of 25 (measured). One begins when the one before has
settled, so neither commits nor records overtake each other.

What a host may believe before `settle` returned: nothing. If a commit fails, everything folded since it began is void.

A client outlives an outage of the broker, thanks to one of its settings (`headrace.kafka.admin`); a commit that hangs
nevertheless, whatever its timeout, ends the process.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from headrace.errors import Fatal
from headrace.kafka.carrying import TRACEPARENT, Headers, headers_of, in_order
from headrace.processor import Message, Outputs
from headrace.recovery import Place

TIMEOUT_SECONDS = 30.0
STUCK_SECONDS = 150.0
"""A commit that takes longer than all its timeouts together hangs in the client: only a new process helps."""
ATTEMPTS = 5
PRODUCERS = 2


class Transactions:
    """Transactional producers taking turns. Its methods are for one thread; only commits run on another.

    member: whose they are, for the texts of errors.
    """

    def __init__(self, settings: dict[str, Any], transactional_id: str, member: str) -> None:
        self._writers = [
            _Writer(settings, f"{transactional_id}-{number}", member) for number in range(PRODUCERS)
        ]
        self._to_commit: SimpleQueue[_Commit | None] = SimpleQueue()
        self._under_way: Future[None] | None = None
        # A daemon, as a hanging commit must not keep a process alive that has given up.
        Thread(target=self._commit_all, name="commit", daemon=True).start()

    def start(self) -> None:
        """Fence an earlier life of this transactional id and end what it left open. Raises `Fatal`."""
        for writer in self._writers:
            writer.start()

    def write(self, outputs: Iterable[Outputs], offsets: list[TopicPartition], group: Any) -> None:
        """Produce outputs and begin to commit them with the input offsets. group: the consumer's group metadata.

        Settles the transaction before, so it raises `KafkaException` for that one too.
        """
        self.settle()  # two producers' records would mix, and the outputs' order is a promise
        writer = self._writers[0]
        writer.begin()
        for output in outputs:
            writer.produce(output)
        self._under_way = Future()
        self._to_commit.put((self._under_way, writer, offsets, group))
        self._writers.reverse()

    def settle(self) -> None:
        """Wait for the commit under way, if any.

        Raises `KafkaException` if it failed: abort, and rebuild. Raises `Fatal` if it hangs.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            try:
                under_way.result(STUCK_SECONDS)
            except TimeoutError:
                raise Fatal(f"a transaction has not ended for {STUCK_SECONDS:.0f} s") from None

    def abort(self) -> None:
        """End what is open as if it had not been. Raises `Fatal` if that cannot be done."""
        for writer in self._writers:
            writer.abort()

    def close(self) -> None:
        """Let the commit thread end."""
        self._to_commit.put(None)

    def _commit_all(self) -> None:
        while (task := self._to_commit.get()) is not None:
            future, writer, offsets, group = task
            try:
                writer.commit(offsets, group)
            except BaseException as failure:  # whoever settles gets it
                future.set_exception(failure)
            else:
                future.set_result(None)


class _Writer:
    """One transactional producer."""

    def __init__(self, settings: dict[str, Any], transactional_id: str, member: str) -> None:
        self._member = member
        self._producer = Producer({**settings, "transactional.id": transactional_id})

    def start(self) -> None:
        try:
            self._producer.init_transactions(TIMEOUT_SECONDS)
        except KafkaException as failure:
            raise Fatal(f"{self._member}: {failure.args[0].str()}") from failure

    def begin(self) -> None:
        self._producer.begin_transaction()

    def produce(self, outputs: Outputs) -> None:
        """Hand messages to the client's queue, waiting when it is full."""
        for place, messages in outputs.items():
            headers = headers_of(outputs, place)
            one = partial(self._queue_one, place, messages, headers)
            in_order(messages, headers, partial(self._queue, place), one)
            self._producer.poll(0)

    def _queue(self, place: Place, messages: list[Message]) -> None:
        waiting: list[Any] = list(messages)
        while waiting:
            self._producer.produce_batch(place[0], waiting, place[1])
            waiting = _not_queued(waiting)
            if waiting:
                self._producer.poll(0.05)

    def _queue_one(self, place: Place, messages: list[Message], headers: Headers, position: int) -> None:
        """`produce_batch` has no headers."""
        message = messages[position]
        carried: list[tuple[str, str | bytes | None]] = [(TRACEPARENT, headers[position])]
        while True:
            try:
                self._producer.produce(place[0], message["value"], message["key"], place[1], headers=carried)
                return
            except BufferError:
                self._producer.poll(0.05)

    def commit(self, offsets: list[TopicPartition], group: Any) -> None:
        _retry(lambda: self._producer.send_offsets_to_transaction(offsets, group, TIMEOUT_SECONDS))
        _retry(lambda: self._producer.commit_transaction(TIMEOUT_SECONDS))

    def abort(self) -> None:
        try:
            self._producer.abort_transaction(TIMEOUT_SECONDS)
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError._STATE:  # _STATE: there was none to abort
                raise Fatal(f"{self._member}: abort failed: {failure.args[0].str()}") from failure


_Commit = tuple[Future[None], _Writer, list[TopicPartition], Any]


def _retry(step: Callable[[], Any]) -> None:
    """Repeat a transactional call that the client says may be repeated."""
    for attempt in range(ATTEMPTS):
        try:
            step()
            return
        except KafkaException as failure:
            if not failure.args[0].retriable() or attempt == ATTEMPTS - 1:
                raise


def _not_queued(messages: list[Any]) -> list[Any]:
    """The messages that found the client's queue full; `produce_batch` marks each it did not take."""
    left = []
    for message in messages:
        error = message.pop("_error", None)
        if error is not None:
            if error.code() != KafkaError._QUEUE_FULL:
                raise KafkaException(error)
            left.append(message)
    return left
