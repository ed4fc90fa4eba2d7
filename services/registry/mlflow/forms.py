"""What MLflow's clients send and are answered, and how it is made from what the registry holds.

Everything here is in MLflow's words: names of fields, versions as text, times in milliseconds, error codes.
"""

import re
from collections.abc import Collection, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from headrace.keys import Key
from headrace.web import Problem
from services.registry.api import reader
from services.registry.dialects import refused, spoken
from services.registry.domain.aliases import Aliases
from services.registry.registry import Registry
from services.registry.tables import VersionRow

PREFIX = "/api/2.0/mlflow"
MOST_RESULTS = 500
"""Longest page, whatever was asked for; the rest is behind `next_page_token`."""

_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    422: "INVALID_PARAMETER_VALUE",
    503: "TEMPORARILY_UNAVAILABLE",
}
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def _translated(problem: Problem) -> Problem:
    if "error_code" not in problem.extra:
        problem.extra["error_code"] = _CODES.get(problem.status, "BAD_REQUEST")
        if problem.status == 422:  # MLflow's status for it
            problem.status = problem.status_code = 400
    return problem


ROUTE = spoken(_translated)

Name = Annotated[str, Query(max_length=63, description="The registered model")]
Version = Annotated[str, Query(max_length=10, description="A version's number")]
Filter = Annotated[
    str, Query(max_length=1000, description="`name = '...'`, `name LIKE '...'`, joined by AND")
]
MaxResults = Annotated[int, Query(ge=1, description=f"At most so many, and never more than {MOST_RESULTS}")]
Words = Annotated[list[str], Query(default_factory=list, max_length=5)]
PageToken = Annotated[str, Query(max_length=200, description="`next_page_token` of the page before")]
Reader = Annotated[Key, Depends(reader)]


class Tag(BaseModel):
    """A tag."""

    key: str
    value: str


class Alias(BaseModel):
    """An alias and the version that it means."""

    alias: str
    version: str


class ModelVersion(BaseModel):
    """A version of a registered model."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str
    current_stage: str = "None"
    description: str
    source: str
    run_id: str = ""
    status: str = "READY"
    tags: list[Tag]
    aliases: list[str]


class RegisteredModel(BaseModel):
    """A registered model; latest_versions: its newest, which is also where its description comes from."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str
    latest_versions: list[ModelVersion]
    tags: list[Tag]
    aliases: list[Alias]


class ModelVersionAnswer(BaseModel):
    """One version."""

    model_version: ModelVersion


class ModelVersionsAnswer(BaseModel):
    """A page of versions, newest first."""

    model_versions: list[ModelVersion]
    next_page_token: str = ""


class RegisteredModelAnswer(BaseModel):
    """One registered model."""

    registered_model: RegisteredModel


class RegisteredModelsAnswer(BaseModel):
    """A page of registered models, by name."""

    registered_models: list[RegisteredModel]
    next_page_token: str = ""


class ModelKey(BaseModel):
    """A tag of a model."""

    name: str
    key: str


class ModelTag(ModelKey):
    """A tag of a model, to be set."""

    value: str


class VersionKey(ModelKey):
    """A tag of a version."""

    version: str


class VersionTag(VersionKey):
    """A tag of a version, to be set."""

    value: str


class Showing:
    """Rows of the registry in MLflow's forms; several at once cost as many queries as one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def versions(
        self, rows: Sequence[VersionRow], key: Key, aliases: Aliases | None = None
    ) -> list[ModelVersion]:
        """Versions with their tags and aliases. Why a version was made is told to operators, as the trail is."""
        models = {row.model for row in rows}
        if aliases is None:
            aliases = self._registry.aliases(*models)
        reasons = self._registry.trail.reasons(models) if key.allows("operator") else {}
        noted = self._registry.store.notes.tags([(row.model, row.version) for row in rows])
        return [
            ModelVersion(
                name=row.model,
                version=str(row.version),
                creation_timestamp=row.created_ms,
                last_updated_timestamp=row.created_ms,
                user_id=row.created_by,
                description=row.description,
                source=f"headrace:{row.model}@{row.version}",
                tags=_tags(
                    _known(row, reasons.get((row.model, row.version), ""))
                    | noted.get((row.model, row.version), {})
                ),
                aliases=sorted(
                    alias for alias, version in aliases.get(row.model, {}).items() if version == row.version
                ),
            )
            for row in rows
        ]

    def models(self, rows: Sequence[VersionRow], key: Key) -> list[RegisteredModel]:
        """Registered models, from the newest version of each."""
        names = [row.model for row in rows]
        aliases = self._registry.aliases(*names)
        latest = self.versions(rows, key, aliases)
        created = self._registry.store.notes.created(names)
        noted = self._registry.store.notes.tags([(name, 0) for name in names])
        return [
            RegisteredModel(
                name=row.model,
                creation_timestamp=created[row.model],
                last_updated_timestamp=row.created_ms,
                description=row.description,
                latest_versions=[shown],
                tags=_tags(noted.get((row.model, 0), {})),
                aliases=[
                    Alias(alias=alias, version=str(version))
                    for alias, version in sorted(aliases.get(row.model, {}).items())
                ],
            )
            for row, shown in zip(rows, latest, strict=True)
        ]


def _known(row: VersionRow, reason: str) -> dict[str, str]:
    """What the registry itself knows of a version, as tags."""
    return {
        "headrace.author": row.created_by,
        "headrace.digest": row.digest,
        **({"headrace.parent": str(row.parent)} if row.parent is not None else {}),
        **({"headrace.reason": reason} if reason else {}),
    }


def _tags(tags: dict[str, str]) -> list[Tag]:
    return [Tag(key=key, value=value) for key, value in tags.items()]


def number(version: str) -> int:
    """A version's number from its text."""
    if not _VERSION.fullmatch(version):
        raise refused(
            400, "INVALID_PARAMETER_VALUE", f"A version is a number from 1 on, not {version!r:.40}."
        )
    return int(version)


def in_order(order_by: Sequence[str], only: Collection[str], words: str) -> None:
    """Refuse every order but the one there is."""
    if [" ".join(part.lower().split()).removesuffix(" asc") for part in order_by] not in ([], list(only)):
        raise refused(400, "INVALID_PARAMETER_VALUE", f"There is one order: {words}; leave order_by out.")


def add_refusal(router: APIRouter, method: str, path: str, message: str) -> None:
    """A route of MLflow's that does nothing here but say what to do instead."""

    def refuse() -> None:
        raise refused(501, "NOT_IMPLEMENTED", message)

    router.add_api_route(
        path, refuse, methods=[method], include_in_schema=False, dependencies=[Depends(reader)], name=path
    )
