"""Lineage over HTTP: what a version learnt from, and who learnt from a place in the log."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query

from services.registry import views
from services.registry.api import ModelName, Number, StreamName, reader, shown_place, shown_version, told
from services.registry.domain.lineage import Life
from services.registry.registry import Registry
from services.registry.rollout_api import shown_rollout


def build_lineage_routes(registry: Registry) -> APIRouter:
    """`/v1/models/{model}/versions/{version}/lineage` and `/v1/streams/{stream}/lives`."""
    router = APIRouter(prefix="/v1", tags=["lineage"], dependencies=[Depends(reader)])

    @router.get("/models/{model}/versions/{version}/lineage", summary="What a version is made of")
    def lineage(model: ModelName, version: Number) -> views.Lineage:
        with told():
            row = registry.store.version(model, version)
            found = registry.lives_of(model)
            rows = registry.rollouts.about(model, version)
        return views.Lineage(
            version=shown_version(row),
            lives=[_shown(stream, life) for stream, life in found if life.version == version],
            rollouts=[shown_rollout(one) for one in rows],
        )

    @router.get("/streams/{stream}/lives", summary="Which versions have learnt from a stream, and from what")
    def lives(
        stream: StreamName,
        partition: Annotated[
            int | None, Query(ge=0, description="With `offset`: only who learnt there")
        ] = None,
        offset: Annotated[int | None, Query(ge=0)] = None,
    ) -> views.Lives:
        with told():
            found = registry.lives(stream)
        if partition is not None and offset is not None:
            found = [life for life in found if _learnt(life, str(partition), offset)]
        return views.Lives(lives=[_shown(stream, life) for life in found])

    return router


def _learnt(life: Life, partition: str, offset: int) -> bool:
    """Whether an offset lies in what it learnt; what was left out of a rebuild is not looked at."""
    found = life.range(partition)
    return found is not None and found[0] <= offset and (found[1] is None or offset < found[1])


def _shown(stream: str, life: Life) -> views.LifeView:
    learnt = {}
    for partition in life.beginning.offsets or {}:
        since, before = life.range(partition) or (0, 0)
        learnt[partition] = views.LearntRange(since=since, before=before)
    left_out: list[Any] = [msgspec.to_builtins(without) for without in life.without]
    return views.LifeView(
        stream=stream,
        model=life.model,
        version=life.version,
        learnt=learnt,
        without=left_out,
        contracts=list(life.contracts),
        places=[shown_place(place.deployed, place.decision) for place in life.places],
        ended_at=None if life.ended is None else views.rfc3339(life.ended.made_ms),
    )
