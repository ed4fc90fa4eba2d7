"""`model-versions`: versions, their tags and descriptions."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel

from services.registry.api import ByOperator, told
from services.registry.dialects import refused
from services.registry.domain.filters import patterns
from services.registry.mlflow.forms import (
    MOST_RESULTS,
    Filter,
    MaxResults,
    ModelVersionAnswer,
    ModelVersionsAnswer,
    Name,
    PageToken,
    Reader,
    Showing,
    Version,
    VersionKey,
    VersionTag,
    Words,
    add_refusal,
    in_order,
    number,
)
from services.registry.mlflow.registered_models import NO_STAGES
from services.registry.registry import Registry
from services.registry.tables import VersionRow

REFUSED = {
    ("POST", "create"): "A version is a specification, not an artifact: nothing can be uploaded here. "
    "`headrace model deploy STREAM FILE`, or POST /v1/models, makes one; it learns where it is deployed.",
    ("DELETE", "delete"): "Nothing is deleted here: what a log's models were must stay known. "
    "`headrace model retire` takes a model off a stream.",
    ("POST", "transition-stage"): NO_STAGES,
    ("GET", "get-download-uri"): "There is no artifact to download: a version is what the log makes of its "
    "specification. Ask it through ingest (`?wait=prediction`), or fold it again: `headrace rebuild MODEL@VERSION`.",
}
_TOKEN = re.compile(r"([0-9]{1,18})\.([a-z][a-z0-9_-]{0,62})\.([1-9][0-9]{0,8})")


class Description(BaseModel):
    """A version's new description."""

    name: str
    version: str
    description: str = ""


def add_version_routes(router: APIRouter, registry: Registry, showing: Showing) -> None:
    """Routes under `/model-versions`."""
    store = registry.store

    @router.get("/model-versions/get", summary="A version of a registered model")
    def get_version(name: Name, version: Version, key: Reader) -> ModelVersionAnswer:
        with told():
            row = store.version(name, number(version))
        return ModelVersionAnswer(model_version=showing.versions([row], key)[0])

    @router.get("/model-versions/search", summary="Versions of all models, newest first")
    def search_versions(
        key: Reader,
        order_by: Words,
        filter: Filter = "",
        max_results: MaxResults = MOST_RESULTS,
        page_token: PageToken = "",
    ) -> ModelVersionsAnswer:
        in_order(order_by, [], "newest first")
        like, limit = patterns(filter), min(max_results, MOST_RESULTS)
        rows = [] if like is None else store.newest(limit + 1, _place(page_token), like)
        return ModelVersionsAnswer(
            model_versions=showing.versions(rows[:limit], key),
            next_page_token=_token(rows[limit - 1]) if len(rows) > limit else "",
        )

    @router.patch("/model-versions/update", summary="Describe a version")
    def update(request: Annotated[Description, Body()], by: ByOperator, key: Reader) -> ModelVersionAnswer:
        with told():
            registry.describe(request.name, number(request.version), request.description, by)
            row = store.version(request.name, number(request.version))
        return ModelVersionAnswer(model_version=showing.versions([row], key)[0])

    @router.post("/model-versions/set-tag", summary="Set a tag of a version")
    def set_tag(tag: Annotated[VersionTag, Body()], by: ByOperator) -> dict[str, Any]:
        with told():
            registry.tag((tag.name, number(tag.version)), tag.key, tag.value, by)
        return {}

    @router.delete("/model-versions/delete-tag", summary="Delete a tag of a version")
    def delete_tag(tag: Annotated[VersionKey, Body()], by: ByOperator) -> dict[str, Any]:
        with told():
            registry.tag((tag.name, number(tag.version)), tag.key, None, by)
        return {}

    for (method, path), message in REFUSED.items():
        add_refusal(router, method, f"/model-versions/{path}", message)


def _token(row: VersionRow) -> str:
    return f"{row.created_ms}.{row.model}.{row.version}"


def _place(token: str) -> tuple[int, str, int] | None:
    if not token:
        return None
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise refused(400, "INVALID_PARAMETER_VALUE", "page_token is none that was given here.")
    return int(found[1]), found[2], int(found[3])
