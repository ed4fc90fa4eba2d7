"""`registered-models`: models, their tags, and the aliases that follow from where their versions stand."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel

from services.registry.api import ByOperator, told
from services.registry.dialects import refused
from services.registry.domain.aliases import ROLES
from services.registry.domain.filters import patterns
from services.registry.domain.lifecycle import MODEL_NAME
from services.registry.mlflow.forms import (
    MOST_RESULTS,
    Filter,
    MaxResults,
    ModelKey,
    ModelTag,
    ModelVersionAnswer,
    ModelVersionsAnswer,
    Name,
    PageToken,
    Reader,
    RegisteredModelAnswer,
    RegisteredModelsAnswer,
    Showing,
    Words,
    add_refusal,
    in_order,
)
from services.registry.registry import Registry
from services.registry.tables import VersionRow

REFUSED = {
    (
        "POST",
        "create",
    ): "A model begins with its first specification: "
    "`headrace model deploy STREAM FILE`, or POST /v1/models.",
    ("PATCH", "update"): "A model is described by its newest version: update that version's description.",
    ("POST", "rename"): "A model keeps its name: the log's records bear it. Register it under another one.",
    ("DELETE", "delete"): "Nothing is deleted here: what a log's models were must stay known. "
    "`headrace model retire` takes a model off a stream.",
    ("POST", "alias"): "An alias says where a version stands; to put it there is a decision about a stream. "
    "For champion: `headrace model promote STREAM MODEL`, or `headrace model deploy STREAM MODEL`.",
    (
        "DELETE",
        "alias",
    ): "An alias says where a version stands: `headrace model retire STREAM MODEL` takes it away.",
}


class LatestAsked(BaseModel):
    """Whose latest versions are asked for. stages: there is one, None."""

    name: str
    stages: list[str] = []


def add_model_routes(router: APIRouter, registry: Registry, showing: Showing) -> None:
    """Routes under `/registered-models`."""
    store = registry.store

    @router.get("/registered-models/get", summary="A registered model")
    def get_model(name: Name, key: Reader) -> RegisteredModelAnswer:
        with told():
            row = store.version(name)
        return RegisteredModelAnswer(registered_model=showing.models([row], key)[0])

    @router.get("/registered-models/search", summary="Registered models, by name")
    def search_models(
        key: Reader,
        order_by: Words,
        filter: Filter = "",
        max_results: MaxResults = 100,
        page_token: PageToken = "",
    ) -> RegisteredModelsAnswer:
        in_order(order_by, ["name"], "by name")
        if page_token and not MODEL_NAME.fullmatch(page_token):
            raise refused(400, "INVALID_PARAMETER_VALUE", "page_token is none that was given here.")
        like, limit = patterns(filter), min(max_results, MOST_RESULTS)
        rows = [] if like is None else store.models(limit + 1, page_token, like)
        return RegisteredModelsAnswer(
            registered_models=showing.models(rows[:limit], key),
            next_page_token=rows[limit - 1].model if len(rows) > limit else "",
        )

    @router.get("/registered-models/alias", summary="The version that an alias means")
    def get_by_alias(
        name: Name, alias: Annotated[str, Query(max_length=255)], key: Reader
    ) -> ModelVersionAnswer:
        with told():
            row = _meant(registry, name, alias)
        return ModelVersionAnswer(model_version=showing.versions([row], key)[0])

    def latest(name: str, stages: list[str], key: Reader) -> ModelVersionsAnswer:
        if any(stage.lower() != "none" for stage in stages):
            raise refused(400, "INVALID_PARAMETER_VALUE", NO_STAGES)
        with told():
            row = store.version(name)
        return ModelVersionsAnswer(model_versions=showing.versions([row], key))

    @router.post("/registered-models/get-latest-versions", summary="A model's newest version")
    def post_latest(asked: Annotated[LatestAsked, Body()], key: Reader) -> ModelVersionsAnswer:
        return latest(asked.name, asked.stages, key)

    @router.get("/registered-models/get-latest-versions", summary="A model's newest version")
    def get_latest(name: Name, key: Reader, stages: Words) -> ModelVersionsAnswer:
        return latest(name, stages, key)

    @router.post("/registered-models/set-tag", summary="Set a tag of a model")
    def set_tag(tag: Annotated[ModelTag, Body()], by: ByOperator) -> dict[str, Any]:
        with told():
            registry.tag((tag.name, 0), tag.key, tag.value, by)
        return {}

    @router.delete("/registered-models/delete-tag", summary="Delete a tag of a model")
    def delete_tag(tag: Annotated[ModelKey, Body()], by: ByOperator) -> dict[str, Any]:
        with told():
            registry.tag((tag.name, 0), tag.key, None, by)
        return {}

    for (method, path), message in REFUSED.items():
        add_refusal(router, method, f"/registered-models/{path}", message)


NO_STAGES = (
    "There are no stages, which MLflow deprecates too: where a version stands is an alias, "
    "such as champion or champion-STREAM; `headrace model promote STREAM MODEL` makes it so."
)


def _meant(registry: Registry, name: str, alias: str) -> VersionRow:
    newest = registry.store.version(name)
    if alias.lower() == "latest":
        return newest
    known = registry.aliases(name).get(name, {})
    if alias in known:
        return registry.store.version(name, known[alias])
    streams = [one for one in known if alias in ROLES and one.startswith(f"{alias}-")]
    if streams:
        raise refused(
            400,
            "INVALID_PARAMETER_VALUE",
            f"Alias {alias} of {name} is another version on each stream: ask for {' or '.join(sorted(streams))}.",
        )
    raise refused(400, "INVALID_PARAMETER_VALUE", f"Registered model alias {alias} not found.")
