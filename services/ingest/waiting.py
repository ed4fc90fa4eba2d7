"""Who waits for which prediction: `?wait=prediction` answers with what scoring writes to S.predictions.

The event goes through the log like any other, so the answer is the stored prediction itself, byte for byte, and there
is no second scoring path. One group-less reader a stream is opened when somebody first waits and closed after a quiet
time; it only looks for ids that are waited for. A waiter registers before its event is produced, or the prediction
could pass by unseen. All state belongs to the event loop; the reader's thread hands over what it found. Bounded by
the number of waiters; a waiter that runs out of time loses nothing but the answer.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import structlog

from headrace.errors import Transient

_READ_RECORDS = 500
_READ_SECONDS = 0.25

log = structlog.get_logger(__name__)


class PredictionRecord(Protocol):
    """What is needed of a tail's record: the prediction's JSON."""

    @property
    def value(self) -> bytes | None: ...


class PredictionTail(Protocol):
    """What is needed of `headrace.kafka.tail.Tail`, placed at the topic's end."""

    def read(self, limit: int, timeout_seconds: float) -> Sequence[PredictionRecord]: ...
    def close(self) -> None: ...


class TooManyWaiting(Transient):
    """The bound on waiting requests is reached. Duty: come again, or do not wait."""


class _OnlyId(msgspec.Struct):
    id: str


_decode_id = msgspec.json.Decoder(_OnlyId).decode


class _Watch:
    """One stream's reader: its thread, and the futures by observation id (touched on the event loop only)."""

    def __init__(self, stream: str, tail: PredictionTail, gone: Callable[["_Watch"], None]) -> None:
        self.stream = stream
        self.waiting: dict[str, list[asyncio.Future[bytes]]] = {}
        self.closer: asyncio.TimerHandle | None = None
        self._tail = tail
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"predictions-{stream}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                records = self._tail.read(_READ_RECORDS, _READ_SECONDS)
                waiting = self.waiting
                if not records or not waiting:
                    continue
                values = [record.value for record in records if record.value is not None]
                found = [(name, value) for value in values if (name := _decode_id(value).id) in waiting]
                if found:
                    self._loop.call_soon_threadsafe(self._deliver, found)
        except Exception as error:
            log.warning("prediction_reader_failed", stream=self.stream, error=str(error))
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._fail)
        finally:
            self._tail.close()

    def _deliver(self, found: list[tuple[str, bytes]]) -> None:
        for name, value in found:
            for future in self.waiting.pop(name, ()):
                if not future.done():
                    future.set_result(value)

    def _fail(self) -> None:
        self._gone(self)
        for futures in self.waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(Transient("the reader of predictions failed"))
        self.waiting.clear()


class PredictionWaiters:
    """Futures of predictions by observation id, fed by one reader a stream.

    open_tail: opens a reader placed at the end of a stream's predictions; called in a worker thread.
    limit: requests that may wait at one time. idle_seconds: how long a reader outlives its last waiter.
    """

    def __init__(
        self, open_tail: Callable[[str], PredictionTail], *, limit: int, idle_seconds: float
    ) -> None:
        self._open_tail = open_tail
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._watches: dict[str, _Watch] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """Requests that wait now."""
        return self._count

    @property
    def readers(self) -> int:
        """Streams whose predictions are read now."""
        return len(self._watches)

    @asynccontextmanager
    async def expecting(self, stream: str, observation_id: str) -> AsyncIterator[asyncio.Future[bytes]]:
        """Inside, the future gets the prediction's JSON; produce the observation only after entering.

        Raises `TooManyWaiting` at the bound and `Transient` if the reader cannot be opened; the future raises
        `Transient` if the reader fails.
        """
        if self._count >= self._limit:
            raise TooManyWaiting(f"{self._limit} requests wait for predictions already")
        self._count += 1
        try:
            watch = await self._watch(stream)
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            watch.waiting.setdefault(observation_id, []).append(future)
            try:
                yield future
            finally:
                self._leave(watch, observation_id, future)
        finally:
            self._count -= 1

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop all readers; whoever still waits runs into its timeout."""
        watches = list(self._watches.values())
        self._watches.clear()
        for watch in watches:
            if watch.closer is not None:
                watch.closer.cancel()
            watch.stop()
        for watch in watches:
            watch.join(timeout_seconds)

    async def _watch(self, stream: str) -> _Watch:
        async with self._opening.setdefault(stream, asyncio.Lock()):
            watch = self._watches.get(stream)
            if watch is None:
                tail = await asyncio.to_thread(self._open_tail, stream)
                watch = self._watches[stream] = _Watch(stream, tail, self._forget)
            if watch.closer is not None:
                watch.closer.cancel()
                watch.closer = None
            return watch

    def _leave(self, watch: _Watch, observation_id: str, future: asyncio.Future[bytes]) -> None:
        others = watch.waiting.get(observation_id)
        if others is not None:
            if future in others:
                others.remove(future)
            if not others:
                del watch.waiting[observation_id]
        if not watch.waiting and self._watches.get(watch.stream) is watch:
            if watch.closer is not None:
                watch.closer.cancel()
            watch.closer = asyncio.get_running_loop().call_later(self._idle_seconds, self._close_idle, watch)

    def _close_idle(self, watch: _Watch) -> None:
        if not watch.waiting:
            self._forget(watch)
            watch.stop()

    def _forget(self, watch: _Watch) -> None:
        if self._watches.get(watch.stream) is watch:
            del self._watches[watch.stream]
