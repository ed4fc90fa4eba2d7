"""Contracts as Confluent's clients know schemas: a subset of the Schema Registry's REST API (docs/fits-in.md).

An adapter and nothing more. Subject `S.inbox-value` holds the JSON Schema of what ingest takes from `S.inbox`, one
version for each version of the stream's contract, made from the contract whenever it is asked for. A schema's id counts
the contracts of the whole registry; its GUID is the beginning of the contract's digest. Nothing is written here: a
contract says more than a schema can (the task, the label's policy, who decides the partition), so that no schema can be
turned back into one. What is compatible is told by `domain.containment`.
"""

import json
import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import BaseModel, Field

from headrace.contracts import topics
from headrace.contracts.documents import DOCUMENT_BYTES
from headrace.contracts.json_schema import Schema, json_schema
from headrace.contracts.stream import from_dict
from headrace.errors import Unusable
from headrace.web import Problem
from services.registry import documents
from services.registry.api import reader
from services.registry.decisions import Absent
from services.registry.dialects import refused, spoken
from services.registry.domain.containment import narrower
from services.registry.registry import Registry
from services.registry.tables import ContractRow

SUFFIX = f".{topics.INBOX.name}-value"
LEVEL = "BACKWARD_TRANSITIVE"
"""Every contract takes what all contracts of its stream before it took."""
MOST_SUBJECTS = 1_000
"""Longest list of subjects; `offset` leads to the rest."""
READ_ONLY = (
    "A stream's schema is made from its contract, and a contract is adopted by `headrace stream create FILE`, or POST "
    "/v1/streams: nothing can be written here."
)
_VERSION = re.compile(r"latest|-1|[1-9][0-9]{0,8}")
_CHANGES = (
    ("PUT", "/config"),
    ("PUT", "/config/{subject}"),
    ("DELETE", "/config"),
    ("DELETE", "/config/{subject}"),
    ("PUT", "/mode"),
    ("PUT", "/mode/{subject}"),
    ("DELETE", "/subjects/{subject}"),
    ("DELETE", "/subjects/{subject}/versions/{version}"),
)

Subject = Annotated[str, Path(max_length=200, description=f"`S{SUFFIX}`")]
Version = Annotated[str, Path(max_length=10, description="A number, or `latest`")]
Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
Offset = Annotated[int, Query(ge=0, le=2**31)]
Most = Annotated[
    int, Query(ge=-1, le=2**31, description=f"-1, as all above {MOST_SUBJECTS}: {MOST_SUBJECTS}")
]


class SchemaText(BaseModel):
    """A schema as text. guid: of the contract that it was made from."""

    schema_text: str = Field(alias="schema", max_length=DOCUMENT_BYTES)
    schemaType: str = "AVRO"  # noqa: N815  # the wire's name, and its default
    guid: str | None = None


class SubjectVersion(BaseModel):
    """A version of a subject."""

    subject: str
    version: int


class Registered(SubjectVersion):
    """A version of a subject with its schema."""

    id: int
    guid: str
    schemaType: str = "JSON"  # noqa: N815  # the wire's name
    schema_text: str = Field(alias="schema")


class Compatibility(BaseModel):
    """Whether a schema takes all that the subject's does; messages: why not."""

    is_compatible: bool
    messages: list[str] = []


def _translated(problem: Problem) -> Problem:
    problem.extra.setdefault("error_code", problem.status)
    return problem


def build_schema_routes(registry: Registry) -> APIRouter:
    """`/subjects`, `/schemas`, `/compatibility`, `/config`, `/mode`."""
    router = APIRouter(route_class=spoken(_translated), tags=["schemas"], dependencies=[Depends(reader)])
    _subject_routes(router, registry)
    _schema_routes(router, registry)
    _compatibility_routes(router, registry)
    return router


def _subject_routes(router: APIRouter, registry: Registry) -> None:
    @router.get("/subjects", summary="Subjects: the inbox of every stream")
    def list_subjects(
        subjectPrefix: Annotated[str, Query(max_length=200)] = "",  # noqa: N803  # the wire's name
        offset: Offset = 0,
        limit: Most = -1,
    ) -> list[str]:
        subjects = [f"{stream}{SUFFIX}" for stream, _ in registry.shapes()]
        found = [subject for subject in subjects if subject.startswith(subjectPrefix)]
        return found[offset : offset + (MOST_SUBJECTS if limit < 0 else min(limit, MOST_SUBJECTS))]

    @router.get("/subjects/{subject}/versions", summary="Versions of a subject: of the stream's contract")
    def list_versions(subject: Subject) -> list[int]:
        return [row.version for row in _contracts(registry, subject)]

    @router.get("/subjects/{subject}/versions/{version}", summary="A subject's schema")
    def show_version(subject: Subject, version: Version) -> Registered:
        return _registered(_contract(registry, subject, version))

    @router.get("/subjects/{subject}/versions/{version}/schema", summary="A subject's schema, alone")
    def show_schema(subject: Subject, version: Version) -> dict[str, Any]:
        return _schema(_contract(registry, subject, version))

    @router.post("/subjects/{subject}", summary="Which version a schema is")
    def look_up(subject: Subject, asked: Annotated[SchemaText, Body()]) -> Registered:
        rows, wanted = _contracts(registry, subject), _read(asked)
        for row in reversed(rows):
            if _schema(row) == wanted:
                return _registered(row)
        raise refused(404, 40403, f"Schema not found: it is none that {subject} has.")

    @router.post("/subjects/{subject}/versions", include_in_schema=False)
    def register(subject: Subject) -> None:
        raise refused(422, 42201, f"No schema can be registered under {subject}. {READ_ONLY}")

    def unchanged() -> None:
        raise refused(422, 42205, READ_ONLY)

    for method, path in _CHANGES:
        router.add_api_route(path, unchanged, methods=[method], include_in_schema=False)


def _schema_routes(router: APIRouter, registry: Registry) -> None:
    @router.get("/schemas/types", summary="Types of schemas that there are")
    def list_types() -> list[str]:
        return ["JSON"]

    @router.get("/schemas/ids/{id}", summary="A schema by its id")
    def show_by_id(id: Id) -> Registered:
        return _registered(_numbered(registry, id))

    @router.get("/schemas/ids/{id}/versions", summary="Which version of which subject has this id")
    def list_by_id(id: Id) -> list[SubjectVersion]:
        row = _numbered(registry, id)
        return [SubjectVersion(subject=f"{row.stream}{SUFFIX}", version=row.version)]

    @router.get("/schemas/ids/{id}/subjects", summary="Which subject has this id")
    def subjects_by_id(id: Id) -> list[str]:
        return [f"{_numbered(registry, id).stream}{SUFFIX}"]

    @router.get("/schemas/guids/{guid}", summary="A schema by its GUID")
    def show_by_guid(guid: uuid.UUID) -> Registered:
        try:
            return _registered(registry.store.fingerprinted(guid.hex))
        except Absent:
            raise refused(404, 40403, f"Schema {guid} not found.") from None


def _compatibility_routes(router: APIRouter, registry: Registry) -> None:
    @router.post(
        "/compatibility/subjects/{subject}/versions/{version}",
        summary="Whether a schema takes all that a version takes",
    )
    def compare(subject: Subject, version: Version, asked: Annotated[SchemaText, Body()]) -> Compatibility:
        return _compared([_contract(registry, subject, version)], _read(asked))

    @router.post(
        "/compatibility/subjects/{subject}/versions", summary="Whether a schema takes all that was ever taken"
    )
    def compare_all(subject: Subject, asked: Annotated[SchemaText, Body()]) -> Compatibility:
        # Each contract takes what those before it took: the newest stands for all.
        return _compared([_contract(registry, subject, "latest")], _read(asked))

    @router.get("/config", summary="How contracts may change")
    def show_config() -> dict[str, str]:
        return {"compatibilityLevel": LEVEL}

    @router.get("/config/{subject}", summary="How the contract of a subject's stream may change")
    def show_config_of(subject: Subject) -> dict[str, str]:
        _contract(registry, subject, "latest")
        return {"compatibilityLevel": LEVEL}

    @router.get("/mode", summary="READONLY: see POST /v1/streams")
    def show_mode() -> dict[str, str]:
        return {"mode": "READONLY"}


def _compared(rows: list[ContractRow], wanted: Schema) -> Compatibility:
    reasons = [reason for row in rows for reason in narrower(_schema(row), wanted)]
    return Compatibility(is_compatible=not reasons, messages=reasons)


def _stream(subject: str) -> str:
    stream = subject.removesuffix(SUFFIX)
    if stream == subject or not topics.STREAM_NAME.fullmatch(stream):
        raise _no_subject(subject)
    return stream


def _contracts(registry: Registry, subject: str) -> list[ContractRow]:
    try:
        return registry.store.contracts(_stream(subject))
    except Absent:
        raise _no_subject(subject) from None


def _contract(registry: Registry, subject: str, version: str) -> ContractRow:
    stream = _stream(subject)
    if not _VERSION.fullmatch(version):
        raise refused(422, 42202, f"A version is a number from 1 on, or latest, not {version!r}.")
    try:
        registry.store.stream(stream)
    except Absent:
        raise _no_subject(subject) from None
    try:
        return registry.store.contract(stream, None if version in ("latest", "-1") else int(version))
    except Absent:
        raise refused(404, 40402, f"Version {version} of {subject} not found.") from None


def _numbered(registry: Registry, id: int) -> ContractRow:
    try:
        return registry.store.numbered(id)
    except Absent:
        raise refused(404, 40403, f"Schema {id} not found.") from None


def _no_subject(subject: str) -> Problem:
    return refused(404, 40401, f"Subject {subject!r:.100} not found: subjects are called S{SUFFIX}.")


def _schema(row: ContractRow) -> Schema:
    return json_schema(from_dict(row.document))


def _read(asked: SchemaText) -> Schema:
    if asked.schemaType != "JSON":
        raise refused(422, 42201, f"There are JSON schemas only, no {asked.schemaType!r:.20}.")
    try:
        return documents.read(asked.schema_text.encode(), "application/json")
    except Unusable as error:
        raise refused(422, 42201, f"The schema {error.reason}.") from None


def _registered(row: ContractRow) -> Registered:
    return Registered(
        subject=f"{row.stream}{SUFFIX}",
        version=row.version,
        id=row.number,
        guid=str(uuid.UUID(row.digest[:32])),
        schema=json.dumps(_schema(row), ensure_ascii=False),
    )
