"""Alerts as server-sent events: each step as it is told, under its id, so that a client resumes where it stopped.

A client that comes back says what it saw last (`Last-Event-ID`) and gets what followed, out of the steps that are kept.
If that is not among them any more, an event `gap` says so before the oldest that are kept. Bounds: `CLIENTS` at a time,
and `WAITING_KEPT` steps for each; who does not read so fast is cut off, and resumes. (FastAPI sends the heartbeats.)
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from headrace.contracts.codec import encode
from headrace.contracts.events import Alert
from headrace.web import Problem, require
from services.monitor.control import ControlPlane
from services.monitor.domain.alerts import plain

CLIENTS = 100
WAITING_KEPT = 256
RETRY_MS = 2_000


class Client:
    """One open stream: the steps it has not read. cut: ends it, when it is too slow."""

    def __init__(self, stream: str | None, cut: Callable[[], object]) -> None:
        self.queue: asyncio.Queue[Alert] = asyncio.Queue(WAITING_KEPT)
        self.stream = stream
        self._cut = cut

    def offer(self, told: Alert) -> None:
        """A step was told."""
        if not self.wants(told):
            return
        try:
            self.queue.put_nowait(told)
        except asyncio.QueueFull:
            self._cut()

    def wants(self, told: Alert) -> bool:
        """Whether the step is of the stream that was asked for."""
        return self.stream in (None, told.stream)


class Streaming:
    """All open streams over one control plane. Belongs to the event loop's thread."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._clients: set[Client] = set()
        control.on_told.append(self._offer)

    async def open(
        self, stream: Annotated[str | None, Query(description="only this stream's")] = None
    ) -> AsyncIterator[Client]:
        """A dependency: a place for one more client as long as it is served. 503 at the bound."""
        if len(self._clients) >= CLIENTS:
            headers = {"Retry-After": "10"}
            raise Problem(503, "Too many streams", f"at most {CLIENTS} at a time", headers=headers)
        task = asyncio.current_task()
        assert task is not None
        client = Client(stream, task.cancel)
        self._clients.add(client)
        try:
            yield client
        finally:
            self._clients.discard(client)

    async def events(self, client: Client, last: str | None) -> AsyncIterator[ServerSentEvent]:
        """What a client is sent: the steps after `last` (None: from now on)."""
        missed, gap = self._after(client, last)
        yield ServerSentEvent(comment="alerts", retry=RETRY_MS)
        if gap:
            yield ServerSentEvent(event="gap", raw_data=encode({"after": last, "kept": len(missed)}).decode())
        for told in missed:
            yield _event(told)
        while True:
            yield _event(await client.queue.get())

    def _after(self, client: Client, last: str | None) -> tuple[list[Alert], bool]:
        """The kept steps after `last`, and whether some before them are missing; what is told later is queued."""
        while not client.queue.empty():  # told since the client was let in: it is kept too
            client.queue.get_nowait()
        if last is None:
            return [], False
        kept = list(self._control.alerts)
        place = next((index for index, told in enumerate(kept) if told.id == last), None)
        missed = kept if place is None else kept[place + 1 :]
        return [told for told in missed if client.wants(told)], place is None

    def _offer(self, told: Alert) -> None:
        for client in list(self._clients):
            client.offer(told)


def build_stream_routes(streaming: Streaming) -> APIRouter:
    """The route `/v1/alerts/stream`."""
    routes = APIRouter(prefix="/v1", tags=["alerts"])

    @routes.get(
        "/alerts/stream", response_class=EventSourceResponse, dependencies=[Depends(require("reader"))]
    )
    async def stream(
        client: Annotated[Client, Depends(streaming.open)],
        last_event_id: Annotated[str | None, Header(max_length=200)] = None,
    ) -> AsyncIterator[ServerSentEvent]:
        """Steps of alerts as they are told (text/event-stream), after `Last-Event-ID` if it is given."""
        async for event in streaming.events(client, last_event_id):
            yield event

    return routes


def _event(told: Alert) -> ServerSentEvent:
    return ServerSentEvent(id=told.id, event=told.state, raw_data=encode(plain(told)).decode())
