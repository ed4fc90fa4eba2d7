"""The past over HTTP: who stood on a stream when, what a version learnt from, who learnt from a place in the log."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query

from headrace.contracts.times import parse_ms
from headrace.errors import Unusable
from services.registry import views
from services.registry.api import ModelName, Number, StreamName, reader, shown_version, told
from services.registry.catalog import Catalog
from services.registry.dataset_api import shown_ranges
from services.registry.domain.history import Decision
from services.registry.domain.lifecycle import Deployed
from services.registry.domain.lineage import Life
from services.registry.registry import Registry, now_ms
from services.registry.rollout_api import shown_rollout
from services.registry.route import RegistryRoute


def build_past_routes(registry: Registry, catalog: Catalog) -> APIRouter:
    """`/v1/streams/{stream}/live` and `lives`, `/v1/models/{model}/versions/{version}/lineage`."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(reader)], route_class=RegistryRoute)

    @router.get(
        "/streams/{stream}/live",
        tags=["deployments"],
        summary="Which model was live at any time",
    )
    def live(
        stream: StreamName,
        at: Annotated[str, Query(max_length=40, description="RFC 3339; left out: now")] = "",
    ) -> views.LineUpThen:
        with told():
            moment = _moment(at)
            then = registry.live(stream, moment)
        models = [_stood(placed, then.decided[placed.model]) for placed in then.line_up.values()]
        return views.LineUpThen(
            stream=stream,
            at=views.rfc3339(moment),
            champion=next((one for one in models if one.role == "champion"), None),
            previous=None
            if then.previous is None
            else views.VersionName(model=then.previous[0], version=then.previous[1]),
            models=models,
        )

    @router.get(
        "/models/{model}/versions/{version}/lineage", tags=["lineage"], summary="What a version is made of"
    )
    def lineage(model: ModelName, version: Number) -> views.Lineage:
        with told():
            row = registry.store.version(model, version)
            found = registry.lives_of(model)
            rows = registry.rollouts.about(model, version)
            lives = [_shown(stream, life, catalog) for stream, life in found if life.version == version]
        return views.Lineage(
            version=shown_version(row),
            lives=lives,
            rollouts=[shown_rollout(one) for one in rows],
        )

    @router.get(
        "/streams/{stream}/lives",
        tags=["lineage"],
        summary="Which versions have learnt from a stream, and from what",
    )
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


def _shown(stream: str, life: Life, catalog: Catalog | None = None) -> views.LifeView:
    """A life as it is answered; with the datasets that it saw, if there is a catalog to look into."""
    learnt = {}
    for partition in life.beginning.offsets or {}:
        since, before = life.range(partition) or (0, 0)
        learnt[partition] = views.LearntRange(since=since, before=before)
    left_out = [{**msgspec.to_builtins(left.what), "below": left.below.offsets} for left in life.without]
    saw = [] if catalog is None else catalog.seen(stream, life)
    return views.LifeView(
        stream=stream,
        model=life.model,
        version=life.version,
        learnt=learnt,
        without=left_out,
        contracts=list(life.contracts),
        places=[_place(place.deployed, place.decision) for place in life.places],
        ended_at=None if life.ended is None else views.rfc3339(life.ended.made_ms),
        datasets=[
            views.SawDataset(
                name=link.dataset.name,
                version=link.dataset.version,
                share=link.share,
                ranges=shown_ranges(link.ranges),
            )
            for link in saw
        ],
    )


def _moment(text: str) -> int:
    try:
        return parse_ms(text) if text else now_ms()
    except ValueError as error:
        raise Unusable(str(error), where="at") from None


def _stood(placed: Deployed, decision: Decision) -> views.Stood:
    place = _place(placed, decision)
    return views.Stood(model=placed.model, version=placed.version, **place.model_dump())


def _place(placed: Deployed, decision: Decision) -> views.PlaceView:
    """How a model stood from a decision on, as it is answered."""
    return views.PlaceView(
        role=placed.role,
        share=placed.share,
        frozen=placed.frozen,
        decision=decision.control.id,
        decided_at=views.rfc3339(decision.made_ms),
        decided_by=decision.made_by,
        offsets=decision.offsets,
    )
