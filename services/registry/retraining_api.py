"""Retrainings over HTTP: begin one, watch it, cancel it."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Body, Depends, Query

from headrace.errors import Unusable
from headrace.web import Problem
from services.registry.api import ByOperator, Limit, Number, StreamName, reader, told
from services.registry.asking import Asking
from services.registry.domain import retraining as rules
from services.registry.domain.race import Limits
from services.registry.domain.retraining import Ask, Policy
from services.registry.domain.rollouts import Plan
from services.registry.domain.search import Search
from services.registry.policies import policy_version
from services.registry.request import show
from services.registry.retraining_views import (
    PolicyRequest,
    RetrainingRequest,
    Retrainings,
    RetrainingView,
    shown,
    shown_policy,
)
from services.registry.retrainings import retraining_version
from services.registry.route import RegistryRoute
from services.registry.tables import RetrainingRow


def build_retraining_routes(asking: Asking) -> APIRouter:
    """All routes under `/v1/streams/{stream}/retrainings`, and the stream's policy."""
    router = APIRouter(prefix="/v1/streams/{stream}", tags=["retrainings"], route_class=RegistryRoute)
    store = asking.store

    @router.post(
        "/retrainings",
        status_code=201,
        summary="Let specifications race over the log, for the champion's place",
    )
    def begin(
        stream: StreamName, request: Annotated[RetrainingRequest, Body()], by: ByOperator
    ) -> RetrainingView:
        with told():
            number = asking.begin(stream, _asked(request), by)
            return _shown(store.get(stream, number))

    @router.get(
        "/retrainings", dependencies=[Depends(reader)], summary="Retrainings of a stream, newest first"
    )
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

    @router.get("/retrainings/{number}", dependencies=[Depends(reader)], summary="Show a retraining")
    def show_retraining(stream: StreamName, number: Number) -> RetrainingView:
        with told():
            return _shown(store.get(stream, number))

    @router.post("/retrainings/{number}/cancel", summary="Give a retraining up")
    def cancel(stream: StreamName, number: Number, by: ByOperator) -> RetrainingView:
        with told():
            store.cancel(stream, number, by)
            return _shown(store.get(stream, number))

    @router.get(
        "/retraining-policy", dependencies=[Depends(reader)], summary="When it is retrained by itself"
    )
    def policy(stream: StreamName) -> PolicyRequest:
        with told():
            found = asking.policies.get(stream)
        if found is None:
            raise Problem(404, detail=f"{stream} has no retraining policy.")
        show(policy_version(stream, found))
        return shown_policy(found)

    @router.put("/retraining-policy", summary="Let a stream be retrained by itself")
    def set_policy(
        stream: StreamName, request: Annotated[PolicyRequest, Body()], by: ByOperator
    ) -> PolicyRequest:
        with told():
            asking.policies.set(stream, rules.check_policy(_policy(request)), by)
        return request

    @router.delete("/retraining-policy", status_code=204, summary="Let it no longer be")
    def remove_policy(stream: StreamName, by: ByOperator) -> None:
        with told():
            asking.policies.set(stream, None, by)

    return router


def _shown(row: RetrainingRow) -> RetrainingView:
    show(retraining_version(row))
    return shown(row)


def _policy(request: PolicyRequest) -> Policy:
    return Policy(
        _asked(request.ask),
        request.every_seconds,
        request.on_events,
        request.cool_down_seconds,
        request.approval,
        request.expires_seconds,
    )


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
        horizon_decisions=request.horizon_decisions,
        limits=msgspec.convert(request.limits.model_dump(), Limits),
    )
