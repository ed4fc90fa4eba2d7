"""Payoffs over HTTP: what the answers on a stream are worth, for all models or for one."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel, Field

from services.registry.api import ByOperator, ModelName, StreamName, reader, told
from services.registry.payoffs import OF_STREAM, payoffs_version
from services.registry.registry import Registry
from services.registry.request import show
from services.registry.route import RegistryRoute

PayoffBody = Annotated[
    dict[str, float],
    Body(
        description="binary: tp, fp, tn, fn; multiclass: right, wrong; regression: constant, absolute, squared",
        examples=[{"tp": 5.0, "fp": -1.0, "tn": 0.0, "fn": -20.0}],
    ),
]


class PayoffsView(BaseModel):
    """What answers on a stream are worth. payoff: of every model that `models` does not name; None: nobody has said."""

    stream: str
    payoff: dict[str, float] | None
    models: dict[str, dict[str, float]] = Field(description="Payoffs of models that have one of their own")


def build_payoff_routes(registry: Registry) -> APIRouter:
    """All routes of payoffs, under `/v1/streams/{stream}`."""
    router = APIRouter(prefix="/v1/streams/{stream}", tags=["payoffs"], route_class=RegistryRoute)

    def shown(stream: str) -> PayoffsView:
        found = registry.store.payoffs.of(stream)
        show(payoffs_version(stream, found))
        own = {model: payoff for model, payoff in found.items() if model != OF_STREAM}
        return PayoffsView(stream=stream, payoff=found.get(OF_STREAM), models=own)

    def change(stream: str, model: str, document: Any, by: ByOperator) -> PayoffsView:
        with told():
            registry.set_payoff(stream, model, document, by)
            return shown(stream)

    @router.get("/payoff", dependencies=[Depends(reader)], summary="What answers on a stream are worth")
    def payoff(stream: StreamName) -> PayoffsView:
        with told():
            return shown(stream)

    @router.put("/payoff", summary="Say what answers on a stream are worth")
    def set_payoff(stream: StreamName, request: PayoffBody, by: ByOperator) -> PayoffsView:
        return change(stream, OF_STREAM, request, by)

    @router.delete("/payoff", summary="Let nobody have said it")
    def remove_payoff(stream: StreamName, by: ByOperator) -> PayoffsView:
        return change(stream, OF_STREAM, None, by)

    @router.put("/deployments/{model}/payoff", summary="Say what one model's answers are worth")
    def set_own(stream: StreamName, model: ModelName, request: PayoffBody, by: ByOperator) -> PayoffsView:
        return change(stream, model, request, by)

    @router.delete("/deployments/{model}/payoff", summary="Let the stream's payoff hold for it")
    def remove_own(stream: StreamName, model: ModelName, by: ByOperator) -> PayoffsView:
        return change(stream, model, None, by)

    return router
