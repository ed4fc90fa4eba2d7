"""Scoring over HTTP: live metrics of the shards this process holds."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from fastapi import APIRouter, Depends

from headrace.contracts.topics import LOG, stream_of, topic
from headrace.step import Run
from headrace.web import Problem, require
from services.scoring.processor import ScoringProcessor
from services.scoring.views import stream_view

Runs = dict[tuple[str, int], Run]
Ask = Callable[[Callable[[Runs], Any]], "Future[Any]"]

ANSWER_SECONDS = 10.0


def build_routes(ask: Ask) -> APIRouter:
    """Routes over a host; `ask` runs a question on the host's thread between batches."""
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

    return routes


def _view(runs: Runs, stream: str, log_topic: str) -> dict[str, Any] | None:
    shards = {
        partition: run.processor.shard
        for (name, partition), run in runs.items()
        if name == log_topic and isinstance(run.processor, ScoringProcessor)
    }
    return stream_view(stream, shards) if shards else None
