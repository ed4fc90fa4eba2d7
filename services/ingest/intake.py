"""From a body to acknowledged records: cleanse in slices, hand each slice to the producer, wait for the broker.

Slices keep one large body from holding the event loop: between two slices everybody else gets a turn, and a full
producer queue slows the body down instead of failing it. Threads would not help here, as the work holds the GIL.
Nothing is answered as accepted before every slice is acknowledged; if one is not, the caller hears which ids are.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

import msgspec

from headrace.contracts import topics
from headrace.errors import HeadraceError, Transient
from headrace.processor import Message
from services.ingest import metrics
from services.ingest.domain.lines import Cleansed, EventCleanser, Kind, LineError, cleanse
from services.ingest.waiting import PredictionWaiters

SLICE_LINES = 256
PRESSURE_LIMIT = 0.8


class Producer(Protocol):
    """What is needed of `headrace.kafka.producer.LogProducer`."""

    def send(
        self, topic: str, messages: Sequence[Message], *, traceparent: str = ""
    ) -> "Future[list[tuple[int, int]]]": ...
    def pressure(self) -> float: ...


class Receipt(msgspec.Struct):
    """What became of a body. ids: of the accepted events, in the body's order; rejected: the lines that were not."""

    accepted: int
    rejected: list[LineError]
    ids: list[str]


class Unacknowledged(Transient):
    """The broker did not acknowledge everything. `receipt` holds what it did; the rest may or may not be in the log.

    Duty: send the whole body again; an event that is in the log already is dropped by its id.
    """

    def __init__(self, reason: str, receipt: Receipt) -> None:
        super().__init__(reason)
        self.receipt = receipt


class Parcel(NamedTuple):
    """Lines of one body on their way to one stream's log.

    enveloped: the lines are CloudEvents. new_id: makes the id of an observation without one, by line number.
    traceparent: the trace that the body's first events belong to; empty: none.
    """

    stream: str
    kind: Kind
    cleanser: EventCleanser
    lines: list[bytes]
    enveloped: bool
    new_id: Callable[[int], str]
    traceparent: str = ""


class Intake:
    """Takes parcels in. clock_ms: milliseconds since 1970 UTC. ack_seconds: longest wait for the broker."""

    def __init__(
        self,
        producer: Producer,
        waiters: PredictionWaiters,
        clock_ms: Callable[[], int],
        *,
        ack_seconds: float,
    ) -> None:
        self._producer = producer
        self._waiters = waiters
        self._clock_ms = clock_ms
        self._ack_seconds = ack_seconds

    def busy(self) -> bool:
        """Whether the broker is behind: new bodies should be sent away for a while."""
        return self._producer.pressure() > PRESSURE_LIMIT

    async def take(self, parcel: Parcel) -> Receipt:
        """Write every line to S.log or S.rejected; returns once all are acknowledged. Raises `Unacknowledged`."""
        receipt = Receipt(0, [], [])
        flights: list[_Flight] = []
        deadline = time.monotonic() + self._ack_seconds
        for first in range(0, len(parcel.lines), SLICE_LINES):
            if first:
                await self._give_way(deadline)
            cleansed = self._cleanse(parcel, first)
            receipt.rejected.extend(cleansed.refused)
            flights.extend(self._send(parcel, cleansed))
            parcel = parcel._replace(traceparent="")  # what follows would say the same
        await self._landed(flights, deadline, receipt)
        return receipt

    async def take_and_wait(self, parcel: Parcel, timeout_seconds: float) -> tuple[Receipt, bytes | None]:
        """Take the one observation of the parcel and wait for its prediction: the receipt, and its JSON if in time.

        Raises `Unacknowledged`, and `TooManyWaiting` before anything is written.
        """
        cleansed = self._cleanse(parcel, 0)
        receipt = Receipt(0, cleansed.refused, [])
        deadline = time.monotonic() + self._ack_seconds
        if not cleansed.ids:
            await self._landed(self._send(parcel, cleansed), deadline, receipt)
            return receipt, None
        async with self._waiters.expecting(parcel.stream, cleansed.ids[0]) as prediction:
            metrics.WAITERS.set(self._waiters.count)
            started = time.monotonic()
            await self._landed(self._send(parcel, cleansed), deadline, receipt)
            try:
                left = max(0.0, started + timeout_seconds - time.monotonic())
                found = await asyncio.wait_for(prediction, left)
            except (TimeoutError, Transient):
                return receipt, None
            metrics.WAIT_SECONDS.observe(time.monotonic() - started)
            return receipt, found

    def _cleanse(self, parcel: Parcel, first: int) -> Cleansed:
        return cleanse(
            parcel.cleanser,
            parcel.kind,
            parcel.lines[first : first + SLICE_LINES],
            first_line=first + 1,
            enveloped=parcel.enveloped,
            now_ms=self._clock_ms(),
            new_id=parcel.new_id,
        )

    def _send(self, parcel: Parcel, cleansed: Cleansed) -> "list[_Flight]":
        flights = []
        if cleansed.messages:
            log = topics.topic(topics.LOG, parcel.stream)
            sent = self._producer.send(log, cleansed.messages, traceparent=parcel.traceparent)
            flights.append(_Flight(sent, cleansed.ids))
            metrics.ACCEPTED.labels(parcel.stream, parcel.kind, "http").inc(len(cleansed.ids))
        if cleansed.rejects:
            sent = self._producer.send(topics.topic(topics.REJECTED, parcel.stream), cleansed.rejects)
            flights.append(_Flight(sent, []))
            for refused in cleansed.refused:
                metrics.REJECTED.labels(parcel.stream, refused.rule, "http").inc()
        return flights

    async def _give_way(self, deadline: float) -> None:
        """Let others have the event loop; while the producer's queue is nearly full, wait for it to drain."""
        await asyncio.sleep(0)
        while self.busy() and time.monotonic() < deadline:  # noqa: ASYNC110 (the queue drains on librdkafka's threads)
            await asyncio.sleep(0.005)

    async def _landed(self, flights: "list[_Flight]", deadline: float, receipt: Receipt) -> None:
        """Wait for all acknowledgements; fills the receipt's ids in order."""
        started = time.monotonic()
        waits = [asyncio.wrap_future(flight.sent) for flight in flights]
        if waits:
            await asyncio.wait(waits, timeout=max(0.05, deadline - started))
        failure: BaseException | None = None
        for flight, wait in zip(flights, waits, strict=True):
            if not wait.done():
                failure = failure or Transient("the broker did not acknowledge in time")
                wait.cancel()
            elif (error := wait.exception()) is not None:
                failure = failure or error
            else:
                receipt.ids.extend(flight.ids)
        receipt.accepted = len(receipt.ids)
        metrics.ACK_SECONDS.observe(time.monotonic() - started)
        if failure is not None:
            if not isinstance(failure, HeadraceError):
                raise failure
            raise Unacknowledged(str(failure), receipt) from failure


class _Flight(NamedTuple):
    """One hand-over to the producer and the ids of the accepted events in it."""

    sent: "Future[list[tuple[int, int]]]"
    ids: list[str]
