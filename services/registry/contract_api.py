"""Versions of a stream's contract over HTTP: who gave it which, when, from which offsets on, and what that changed."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from headrace.contracts.differences import differences
from headrace.contracts.stream import from_dict
from services.registry import contract_views as views
from services.registry.api import Limit, Number, StreamName, reader, told
from services.registry.registry import Registry
from services.registry.route import RegistryRoute
from services.registry.tables import ContractRow
from services.registry.views import rfc3339


def build_contract_routes(registry: Registry) -> APIRouter:
    """All routes under `/v1/streams/{stream}/versions`."""
    router = APIRouter(
        prefix="/v1/streams/{stream}/versions",
        tags=["streams"],
        dependencies=[Depends(reader)],
        route_class=RegistryRoute,
    )
    store = registry.store

    @router.get("", summary="Versions of a stream's contract, oldest first")
    def list_versions(
        stream: StreamName,
        limit: Limit = 200,
        after: Annotated[int, Query(ge=0, le=2**31, description="`next` of the page before")] = 0,
    ) -> views.ContractVersions:
        with told():
            before = store.contract(stream, after) if after else None
            rows = store.contracts(stream, limit + 1, after)
            offsets = _offsets(registry, stream)
        shown = rows[:limit]
        return views.ContractVersions(
            stream=stream,
            versions=[
                _shown(row, previous, offsets) for row, previous in zip(shown, [before, *shown], strict=False)
            ],
            next=rows[limit - 1].version if len(rows) > limit else None,
        )

    @router.get("/{version}", summary="A version of a stream's contract")
    def show(stream: StreamName, version: Number) -> views.ContractVersion:
        with told():
            row = store.contract(stream, version)
            before = store.contract(stream, version - 1) if version > 1 else None
            return _shown(row, before, _offsets(registry, stream))

    return router


def _offsets(registry: Registry, stream: str) -> dict[int, Mapping[str, int] | None]:
    return {one.version: one.offsets for one in registry.adoptions(stream)}


def _shown(
    row: ContractRow, before: ContractRow | None, offsets: Mapping[int, Mapping[str, int] | None]
) -> views.ContractVersion:
    changes = [] if before is None else differences(from_dict(before.document), from_dict(row.document))
    where = offsets.get(row.version)
    return views.ContractVersion(
        version=row.version,
        digest=row.digest,
        created_at=rfc3339(row.created_ms),
        created_by=row.created_by,
        offsets=None if where is None else dict(where),
        changes=[views.ContractChange(**change._asdict()) for change in changes],
        contract=row.document,
    )
