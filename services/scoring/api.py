"""Scoring over HTTP: live metrics of the shards this process holds."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from headrace.contracts.topics import LOG, stream_of, topic
from headrace.errors import Transient, Unusable
from headrace.step import Run
from headrace.web import Problem, require
from services.scoring.processor import ScoringProcessor
from services.scoring.views import stream_view

Runs = dict[tuple[str, int], Run]
Explain = Callable[[str, list[str]], dict[str, Any] | None]
Ask = Callable[[Callable[[Runs], Any]], "Future[Any]"]

ANSWER_SECONDS = 10.0


def build_routes(ask: Ask, explain: Explain, streams_known: Callable[[], list[str]]) -> APIRouter:
    """Routes over a host; `ask` runs a question on the host's thread between batches.

    explain: (observation id, streams to look in) -> everything about its prediction, None if there is none.
    """
    routes = APIRouter(prefix="/v1", tags=["scoring"])

    async def answer(question: Callable[[Runs], Any]) -> Any:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(ask(question)), ANSWER_SECONDS)
        except TimeoutError:
            raise Problem(
                503, "Busy", "the shards did not answer in time", headers={"Retry-After": "5"}
            ) from None

    @routes.get("/streams", dependencies=[Depends(require("reader"))])
    async def streams() -> dict[str, list[str]]:
        """Streams whose shards this process holds."""
        held = await answer(lambda runs: sorted({stream_of(name) for name, _ in runs}))
        return {"streams": held}

    @routes.get("/streams/{stream}/metrics", dependencies=[Depends(require("reader"))])
    async def metrics(stream: str) -> dict[str, Any]:
        """Counts and prequential metrics, overall and windowed, per model."""
        log_topic = topic(LOG, stream)
        view: dict[str, Any] | None = await answer(lambda runs: _view(runs, stream, log_topic))
        if view is None:
            raise Problem(404, "Unknown stream", f"no shard of {stream!r} is held here")
        return view

    @routes.get("/predictions/{identity:path}", dependencies=[Depends(require("operator"))])
    def prediction(
        identity: Annotated[str, Path(max_length=256, description="Id of the observation")],
        stream: Annotated[str, Query(max_length=63, description="Only on this stream")] = "",
    ) -> dict[str, Any]:
        """One prediction taken apart and computed again (docs/time-travel.md); takes seconds."""
        known = streams_known()
        if stream and stream not in known:
            raise Problem(404, "Unknown stream", f"there is no stream {stream!r}")
        try:
            story = explain(identity, [stream] if stream else known)
        except Transient as error:
            raise Problem(503, "Busy", str(error), headers={"Retry-After": "5"}) from None
        except Unusable as error:
            raise Problem(409, "Cannot be told", str(error)) from None
        if story is None:
            raise Problem(404, "Unknown prediction", f"no observation has the id {identity!r}")
        return story

    return routes


def _view(runs: Runs, stream: str, log_topic: str) -> dict[str, Any] | None:
    shards = {
        partition: run.processor.shard
        for (name, partition), run in runs.items()
        if name == log_topic and isinstance(run.processor, ScoringProcessor)
    }
    return stream_view(stream, shards) if shards else None
