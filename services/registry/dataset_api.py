"""Datasets over HTTP: make one, list them, look at one. No answer waits for a log to be read: that is done later."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, Path, Query, Response

from headrace.contracts.left_out import describe, parse
from headrace.errors import Unusable
from services.registry import dataset_views as views
from services.registry.api import After, ByOperator, Limit, Number, reader, told
from services.registry.catalog import Catalog, Link
from services.registry.datasets import dataset_version, reference_of
from services.registry.domain.datasets import Ranges
from services.registry.request import show as tell
from services.registry.route import RegistryRoute
from services.registry.tables import DatasetRow
from services.registry.views import RangeView, rfc3339

DatasetName = Annotated[str, Path(max_length=63, description="The dataset's name")]


def build_dataset_routes(catalog: Catalog) -> APIRouter:
    """All routes under `/v1/datasets`."""
    router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=RegistryRoute)
    store = catalog.store

    @router.post(
        "",
        status_code=201,
        responses={
            200: {"model": views.DatasetCreated, "description": "This reference is a version already"}
        },
        summary="Name records of a log as a version of a dataset",
    )
    def create(
        request: Annotated[views.DatasetRequest, Body()], response: Response, by: ByOperator
    ) -> views.DatasetCreated:
        with told():
            version, created = catalog.create(
                request.name,
                request.stream,
                _asked(request.ranges),
                parse(request.without),
                request.description,
                by,
            )
        response.status_code = 201 if created else 200
        response.headers["Location"] = f"/v1/datasets/{request.name}/versions/{version}"
        return views.DatasetCreated(name=request.name, version=version, created=created)

    @router.get("", dependencies=[Depends(reader)], summary="List datasets")
    def list_datasets(
        limit: Limit = 200,
        after: After = "",
        stream: Annotated[str, Query(max_length=63, description="Only datasets of this stream")] = "",
    ) -> views.Datasets:
        rows = store.latest(limit + 1, after, stream)
        return views.Datasets(
            datasets=[_summary(row) for row in rows[:limit]],
            next=rows[limit - 1].name if len(rows) > limit else None,
        )

    @router.get("/{name}", dependencies=[Depends(reader)], summary="Versions of a dataset, newest first")
    def list_versions(
        name: DatasetName,
        limit: Limit = 200,
        below: Annotated[int | None, Query(ge=1, description="`next` of the page before")] = None,
    ) -> views.DatasetVersions:
        with told():
            rows = store.versions(name, limit + 1, below)
        if rows and below is None:
            tell(dataset_version(rows[0]))
        return views.DatasetVersions(
            name=name,
            versions=[_summary(row) for row in rows[:limit]],
            next=rows[limit - 1].version if len(rows) > limit else None,
        )

    @router.get(
        "/{name}/versions/{version}", dependencies=[Depends(reader)], summary="Show a dataset's version"
    )
    def show(name: DatasetName, version: Number) -> views.DatasetDetail:
        with told():
            row = store.get(name, version)
            links = catalog.seen_by(row)
        measurement = store.measurement(name, version)
        return views.DatasetDetail(
            **_summary(row).model_dump(by_alias=True),
            measurement=None if measurement is None else msgspec.to_builtins(measurement),
            seen_by=[_seen_by(link) for link in links],
        )

    return router


def _asked(ranges: dict[str, views.AskedRange] | None) -> dict[int, tuple[int | None, int | None]] | None:
    if ranges is None:
        return None
    if not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in ranges):
        raise Unusable("a range goes by the number of its partition", where="ranges")
    return {int(part): (one.since, one.before) for part, one in ranges.items()}


def _summary(row: DatasetRow) -> views.DatasetSummary:
    reference = reference_of(row)
    fields: dict[str, Any] = {
        name: getattr(row, name)
        for name in (
            "name", "version", "stream", "contracts", "description", "created_by", "reason", "state", "failure",
            "digest", "records",
        )
    }  # fmt: skip
    return views.DatasetSummary(
        **fields,
        ranges=shown_ranges(reference.ranges),
        without=describe(reference.without),
        created_at=rfc3339(row.created_ms),
        measured_at=None if row.measured_ms is None else rfc3339(row.measured_ms),
    )


def _seen_by(link: Link) -> views.SeenBy:
    life = link.life
    return views.SeenBy(
        model=life.model,
        version=life.version,
        share=link.share,
        ranges=shown_ranges(link.ranges),
        without=bool(life.without),
        ended_at=None if life.ended is None else rfc3339(life.ended.made_ms),
    )


def shown_ranges(ranges: Ranges) -> dict[str, RangeView]:
    """Ranges as they are answered."""
    return {part: RangeView(since=start, before=end) for part, (start, end) in ranges.items()}
