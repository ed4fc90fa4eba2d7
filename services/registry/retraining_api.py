"""Retrainings over HTTP: begin one, watch it, cancel it."""

from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body, Depends, Query

from headrace.errors import Unusable
from services.registry.api import ByOperator, Limit, Number, StreamName, reader, told
from services.registry.domain import retraining as rules
from services.registry.domain.race import Limits
from services.registry.domain.rollouts import Plan
from services.registry.domain.search import Search
from services.registry.retraining_views import RetrainingRequest, Retrainings, RetrainingView, shown
from services.registry.training import Ask, Trainer


def build_retraining_routes(trainer: Trainer) -> APIRouter:
    """All routes under `/v1/streams/{stream}/retrainings`."""
    router = APIRouter(prefix="/v1/streams/{stream}/retrainings", tags=["retrainings"])
    store = trainer.store

    @router.post(
        "", status_code=201, summary="Let specifications race over the log, for the champion's place"
    )
    def begin(
        stream: StreamName, request: Annotated[RetrainingRequest, Body()], by: ByOperator
    ) -> RetrainingView:
        with told():
            number = trainer.begin(stream, _asked(request), by)
            return shown(store.get(stream, number))

    @router.get("", dependencies=[Depends(reader)], summary="Retrainings of a stream, newest first")
    def list_retrainings(
        stream: StreamName,
        limit: Limit = 20,
        below: Annotated[int | None, Query(ge=1, description="`next` of the page before")] = None,
    ) -> Retrainings:
        with told():
            rows = store.all(stream, limit + 1, below)
        return Retrainings(
            retrainings=[shown(row) for row in rows[:limit]],
            next=rows[limit - 1].number if len(rows) > limit else None,
        )

    @router.get("/{number}", dependencies=[Depends(reader)], summary="Show a retraining")
    def show(stream: StreamName, number: Number) -> RetrainingView:
        with told():
            return shown(store.get(stream, number))

    @router.post("/{number}/cancel", summary="Give a retraining up")
    def cancel(stream: StreamName, number: Number, by: ByOperator) -> RetrainingView:
        with told():
            store.turn(stream, number, partial(rules.cancelled, by=by.name), by)
            return shown(store.get(stream, number))

    return router


def _asked(request: RetrainingRequest) -> Ask:
    try:
        start = {int(part): offset for part, offset in request.start.items()}
    except ValueError:
        raise Unusable("offsets are given by partition, a number", where="start") from None
    return Ask(
        search=msgspec.convert(request.search.model_dump(), Search),
        model=request.model,
        start=start,
        last=request.last,
        plan=None if request.plan is None else msgspec.convert(request.plan.model_dump(), Plan),
        whatever=request.whatever,
        eta=request.eta,
        limits=msgspec.convert(request.limits.model_dump(), Limits),
    )
