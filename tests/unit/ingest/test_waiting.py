"""Waiters for predictions: found by id, bounded, gone when idle, told when the reader fails."""

import asyncio
import queue
import time
from typing import NamedTuple

import pytest

from headrace.errors import Transient
from services.ingest.waiting import PredictionWaiters, TooManyWaiting


class Record(NamedTuple):
    value: bytes | None


class FakeTail:
    """A tail fed by the test; an exception in the queue is raised by `read`."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Record | Exception] = queue.SimpleQueue()
        self.closed = False

    def read(self, limit: int, timeout_seconds: float) -> list[Record]:
        try:
            item = self.queue.get(timeout=timeout_seconds)
        except queue.Empty:
            return []
        if isinstance(item, Exception):
            raise item
        return [item]

    def close(self) -> None:
        self.closed = True

    def put(self, observation_id: str, answer: int = 1) -> bytes:
        value = b'{"id":"%s","entity":"e","at":1,"offset":2,"answer":%d}' % (observation_id.encode(), answer)
        self.queue.put(Record(value))
        return value


class Tails:
    def __init__(self) -> None:
        self.opened: list[FakeTail] = []

    def __call__(self, stream: str) -> FakeTail:
        assert stream == "flights"
        self.opened.append(FakeTail())
        return self.opened[-1]


def waiters(tails: Tails, limit: int = 10, idle_seconds: float = 0.05) -> PredictionWaiters:
    return PredictionWaiters(tails, limit=limit, idle_seconds=idle_seconds)


async def until(condition, seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_each_waiter_gets_its_own_prediction_through_one_reader() -> None:
    async def scenario() -> None:
        tails = Tails()
        waiting = waiters(tails)

        async def wait_for(name: str) -> bytes:
            async with waiting.expecting("flights", name) as future:
                return await asyncio.wait_for(future, 5)

        tasks = [asyncio.create_task(wait_for(name)) for name in ("a", "b", "a")]
        await until(lambda: waiting.count == 3 and tails.opened)
        await asyncio.sleep(0.05)
        tails.opened[0].put("unasked")
        tails.opened[0].queue.put(Record(None))
        b, a = tails.opened[0].put("b", 2), tails.opened[0].put("a", 1)
        assert await asyncio.gather(*tasks) == [a, b, a]
        assert len(tails.opened) == 1
        assert waiting.count == 0
        waiting.close()

    asyncio.run(scenario())


def test_the_reader_is_closed_when_idle_and_opened_again() -> None:
    async def scenario() -> None:
        tails = Tails()
        waiting = waiters(tails)
        for turn in range(2):
            async with waiting.expecting("flights", "a") as future:
                tails.opened[turn].put("a")
                await asyncio.wait_for(future, 5)
            assert waiting.readers == 1
            await until(lambda turn=turn: waiting.readers == 0 and tails.opened[turn].closed)

    asyncio.run(scenario())


def test_a_waiter_in_time_keeps_the_reader() -> None:
    async def scenario() -> None:
        tails = Tails()
        waiting = waiters(tails, idle_seconds=0.1)
        for turn in range(5):
            async with waiting.expecting("flights", str(turn)) as future:
                tails.opened[0].put(str(turn))
                await asyncio.wait_for(future, 5)
            await asyncio.sleep(0.03)
        assert len(tails.opened) == 1
        waiting.close()
        assert tails.opened[0].closed

    asyncio.run(scenario())


def test_the_number_of_waiters_is_bounded() -> None:
    async def scenario() -> None:
        waiting = waiters(Tails(), limit=1)
        async with waiting.expecting("flights", "a"):
            with pytest.raises(TooManyWaiting):
                async with waiting.expecting("flights", "b"):
                    raise AssertionError("must not be let in")
        async with waiting.expecting("flights", "b"):
            assert waiting.count == 1
        waiting.close()

    asyncio.run(scenario())


def test_a_waiter_that_gives_up_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        tails = Tails()
        waiting = waiters(tails, idle_seconds=5)
        with pytest.raises(TimeoutError):
            async with waiting.expecting("flights", "a") as future:
                await asyncio.wait_for(future, 0.05)
        watch = waiting._watches["flights"]
        assert watch.waiting == {}
        tails.opened[0].put("a")
        await asyncio.sleep(0.05)
        waiting.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", [Transient("broker away"), ValueError("odd")])
def test_a_failing_reader_tells_everybody_and_is_replaced(failure: Exception) -> None:
    async def scenario() -> None:
        tails = Tails()
        waiting = waiters(tails)
        async with waiting.expecting("flights", "a") as future:
            tails.opened[0].queue.put(failure)
            with pytest.raises(Transient):
                await asyncio.wait_for(future, 5)
        await until(lambda: tails.opened[0].closed)
        async with waiting.expecting("flights", "a") as future:
            tails.opened[1].put("a")
            await asyncio.wait_for(future, 5)
        waiting.close()

    asyncio.run(scenario())


def test_a_reader_that_cannot_open_gives_the_place_back() -> None:
    async def scenario() -> None:
        def refuse(stream: str) -> FakeTail:
            raise Transient("no topic")

        waiting = PredictionWaiters(refuse, limit=1, idle_seconds=1)
        for _ in range(2):
            with pytest.raises(Transient, match="no topic"):
                async with waiting.expecting("flights", "a"):
                    raise AssertionError("must not be let in")
        assert waiting.count == 0

    asyncio.run(scenario())
