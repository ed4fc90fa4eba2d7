"""The registry over HTTP. Routes only read the request, ask the registry and shape the answer.

They are plain functions, which FastAPI runs on threads: the database and the wait for the broker block, and must not
block the event loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import ValidationError

from headrace.contracts import odcs
from headrace.contracts.left_out import parse
from headrace.contracts.stream import from_dict
from headrace.errors import Unusable
from headrace.keys import Key
from headrace.web import Problem, require
from services.registry import documents, views
from services.registry.decisions import Absent, contract_version, model_version, stream_version
from services.registry.domain.audit import LONGEST_REASON, By
from services.registry.domain.controls import Verb
from services.registry.domain.lifecycle import Conflict
from services.registry.registry import Registry
from services.registry.request import show
from services.registry.route import RegistryRoute
from services.registry.tables import DeploymentRow, StreamRow, VersionRow

reader = require("reader", "producer")
operator = require("operator")
admin = require("admin")

Reason = Annotated[
    str,
    Query(
        max_length=LONGEST_REASON, pattern=r"^[^\p{Cc}]*$", description="Why, for the audit trail; one line"
    ),
]


def _by_whom(role: Any) -> Any:
    def read(key: Annotated[Key, Depends(role)], reason: Reason = "") -> By:
        return By(key.name, reason)

    return Depends(read)


ByOperator = Annotated[By, _by_whom(operator)]
ByAdmin = Annotated[By, _by_whom(admin)]
StreamName = Annotated[str, Path(max_length=63, description="The stream's name")]
ModelName = Annotated[str, Path(max_length=63, description="The model's name")]
Number = Annotated[int, Path(ge=1, le=2**31)]
Limit = Annotated[int, Query(ge=1, le=500, description="At most so many")]
After = Annotated[str, Query(max_length=63, description="Begin after this name: `next` of the page before")]

_CONTRACT_BODY = {
    "requestBody": {
        "required": True,
        "description": "An ODCS 3.1 document, or `{contract: ...}` with the plain form",
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
_MODEL_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": views.ModelSubmission.model_json_schema()},
            "application/yaml": {"schema": views.ModelSubmission.model_json_schema()},
        },
    }
}


async def _body(request: Request) -> bytes:
    if not documents.understood(request.headers.get("content-type", "")):
        raise Problem(415, detail="Send application/json or application/yaml.")
    return await request.body()


RawBody = Annotated[bytes, Depends(_body)]


@contextmanager
def told() -> Iterator[None]:
    """Turns the registry's own errors into problems."""
    try:
        yield
    except Absent as error:
        raise Problem(404, detail=f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    except Conflict as error:
        extra = {"changes": error.changes} if error.changes else None
        raise Problem(409, "Contradicts what is", str(error), extra=extra) from None


def build_routes(registry: Registry) -> APIRouter:
    """All routes of the registry."""
    router = APIRouter(prefix="/v1", route_class=RegistryRoute)
    _stream_routes(router, registry)
    _model_routes(router, registry)
    _deployment_routes(router, registry)
    return router


def _stream_routes(router: APIRouter, registry: Registry) -> None:
    store = registry.store

    @router.post(
        "/streams",
        status_code=201,
        tags=["streams"],
        openapi_extra=_CONTRACT_BODY,
        responses={200: {"model": views.StreamCreated, "description": "This contract holds already"}},
        summary="Create a stream, or give it a compatible new contract",
    )
    def create_stream(
        request: Request, response: Response, body: RawBody, by: ByAdmin
    ) -> views.StreamCreated:
        with told():
            contract = documents.read_contract(body, request.headers.get("content-type", ""))
            version, created = registry.adopt(contract, by)
        response.status_code = 201 if created else 200
        return views.StreamCreated(
            stream=contract.name, version=version, partitions=contract.partitions, created=created
        )

    @router.get("/streams", tags=["streams"], dependencies=[Depends(reader)], summary="List streams")
    def list_streams(limit: Limit = 200, after: After = "") -> views.Streams:
        rows = store.streams(limit + 1, after)
        return views.Streams(
            streams=[_stream_summary(registry, row) for row in rows[:limit]],
            next=rows[limit - 1].name if len(rows) > limit else None,
        )

    @router.get(
        "/streams/{stream}", tags=["streams"], dependencies=[Depends(reader)], summary="Show a stream"
    )
    def show_stream(stream: StreamName) -> views.StreamDetail:
        with told():
            row, contract = store.stream(stream), store.contract(stream)
            show(stream_version(row))
            return views.StreamDetail(
                stream=stream,
                version=contract.version,
                partitions=row.partitions,
                contract=contract.document,
                deployments=_deployments(registry, stream),
                created_at=views.rfc3339(row.created_ms),
            )

    @router.get(
        "/streams/{stream}/contract",
        tags=["streams"],
        dependencies=[Depends(reader)],
        response_model=None,
        responses={
            200: {
                "description": "The contract: an ODCS 3.1 document in YAML, or the plain form in JSON",
                "content": {"application/yaml": {"schema": {"type": "string"}}},
            }
        },
        summary="A stream's contract, as a document",
    )
    def show_contract(
        stream: StreamName,
        format: Literal["odcs", "plain"] = "odcs",
        version: Annotated[int | None, Query(ge=1, le=2**31)] = None,
    ) -> Response | dict[str, Any]:
        with told():
            row = store.contract(stream, version)
            show(contract_version(row))
        if format == "plain":
            return row.document
        return Response(odcs.dump(from_dict(row.document)), media_type="application/yaml")


def _model_routes(router: APIRouter, registry: Registry) -> None:
    store = registry.store

    @router.post(
        "/models",
        status_code=201,
        tags=["models"],
        openapi_extra=_MODEL_BODY,
        responses={
            200: {"model": views.ModelCreated, "description": "This specification is registered already"}
        },
        summary="Register a model specification",
    )
    def create_model(
        request: Request, response: Response, body: RawBody, by: ByOperator
    ) -> views.ModelCreated:
        with told():
            submission = _submission(documents.read(body, request.headers.get("content-type", "")))
            document = documents.read_specification(submission.specification)
            version, digest, created = registry.submit(submission.name, document, submission.description, by)
        response.status_code = 201 if created else 200
        return views.ModelCreated(model=submission.name, version=version, digest=digest, created=created)

    @router.get("/models", tags=["models"], dependencies=[Depends(reader)], summary="List models")
    def list_models(limit: Limit = 200, after: After = "") -> views.Models:
        rows = store.models(limit + 1, after)
        return views.Models(
            models=[
                views.ModelSummary(
                    model=row.model,
                    version=row.version,
                    digest=row.digest,
                    description=row.description,
                    created_at=views.rfc3339(row.created_ms),
                )
                for row in rows[:limit]
            ],
            next=rows[limit - 1].model if len(rows) > limit else None,
        )

    @router.get("/models/{model}", tags=["models"], dependencies=[Depends(reader)], summary="Show a model")
    def show_model(model: ModelName) -> views.ModelDetail:
        with told():
            rows = store.versions(model)
        show(model_version(rows[-1]))
        return views.ModelDetail(
            model=model, version=rows[-1].version, versions=[shown_version(row) for row in rows]
        )

    @router.get(
        "/models/{model}/versions/{version}",
        tags=["models"],
        dependencies=[Depends(reader)],
        summary="A version of a model's specification",
    )
    def show_version(model: ModelName, version: Number) -> views.ModelVersion:
        with told():
            return shown_version(store.version(model, version))


def _deployment_routes(router: APIRouter, registry: Registry) -> None:
    store = registry.store

    @router.post(
        "/streams/{stream}/deployments",
        status_code=201,
        tags=["deployments"],
        responses={200: {"model": views.DeploymentMade, "description": "It is deployed so already"}},
        summary="Put a model on a stream",
    )
    def deploy(
        stream: StreamName,
        request: Annotated[views.DeploymentRequest, Body()],
        response: Response,
        by: ByOperator,
    ) -> views.DeploymentMade:
        with told():
            if request.payoff is not None:  # refused before anything is decided
                registry.read_payoff(stream, request.payoff)
            created = registry.deploy(
                stream, request.model, request.version, request.role, by, learnt=request.learnt
            )
            if request.payoff is not None:
                registry.set_payoff(stream, request.model, request.payoff, by)
            placed = _found(registry, stream, request.model)
        response.status_code = 201 if created else 200
        return views.DeploymentMade(
            stream=stream,
            model=placed.model,
            version=placed.version,
            role=placed.role,
            created=created,
            offsets=placed.offsets,
        )

    @router.get(
        "/streams/{stream}/deployments",
        tags=["deployments"],
        dependencies=[Depends(reader)],
        summary="Every model that is or was on a stream",
    )
    def list_deployments(stream: StreamName) -> views.Deployments:
        with told():
            show(stream_version(store.stream(stream)))
            return views.Deployments(deployments=_deployments(registry, stream))

    def add(verb: Verb, summary: str) -> None:
        @router.post(
            f"/streams/{{stream}}/deployments/{{model}}/{verb}",
            tags=["deployments"],
            summary=summary,
            name=verb,
        )
        def change(stream: StreamName, model: ModelName, by: ByOperator) -> views.Change:
            with told():
                changed, offsets = registry.change(stream, model, verb, by)
                present = _found(registry, stream, model)
            return _change(stream, present, changed=changed, offsets=offsets)

    @router.post(
        "/streams/{stream}/deployments/{model}/rebuild",
        tags=["deployments"],
        summary="Let a model go on as if some records had never been learnt",
    )
    def rebuild(
        stream: StreamName,
        model: ModelName,
        request: Annotated[views.RebuildRequest, Body()],
        by: ByOperator,
    ) -> views.Change:
        with told():
            _, offsets = registry.rebuild(stream, model, parse(request.without), by)
            present = _found(registry, stream, model)
        return _change(stream, present, changed=True, offsets=offsets)

    add("promote", "Make a deployed model the champion")
    add("retire", "Take a model off a stream")
    add("freeze", "Stop a model's learning; it goes on answering")
    add("unfreeze", "Resume a model's learning")


def _submission(document: dict[str, Any]) -> views.ModelSubmission:
    try:
        return views.ModelSubmission.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise Unusable(first["msg"], where=".".join(map(str, first["loc"]))) from None


def _found(registry: Registry, stream: str, model: str) -> views.Deployment:
    for found in _deployments(registry, stream):
        if found.model == model:
            return found
    raise Absent(f"{model} is not deployed on {stream}")


def _change(
    stream: str, present: views.Deployment, *, changed: bool, offsets: dict[str, int] | None
) -> views.Change:
    return views.Change(
        stream=stream,
        model=present.model,
        version=present.version,
        role=present.role,
        frozen=present.frozen,
        changed=changed,
        offsets=offsets,
    )


def _deployments(registry: Registry, stream: str) -> list[views.Deployment]:
    payoffs = registry.store.payoffs.of(stream)
    return [
        _deployment(row, offsets, payoffs.holds_for(row.model))
        for row, offsets in registry.store.deployments(stream)
    ]


def _deployment(
    row: DeploymentRow, offsets: dict[str, int] | None, payoff: dict[str, float] | None
) -> views.Deployment:
    return views.Deployment(
        stream=row.stream,
        model=row.model,
        version=row.version,
        role=cast(views.Standing, row.role),
        share=row.share,
        frozen=row.frozen,
        state="pending" if offsets is None else "effective",
        offsets=offsets,
        digest=row.digest,
        changed_at=views.rfc3339(row.changed_ms),
        payoff=payoff,
    )


def _stream_summary(registry: Registry, row: StreamRow) -> views.StreamSummary:
    contract = registry.store.contract(row.name)
    champions = [found.model for found, _ in registry.store.deployments(row.name) if found.role == "champion"]
    return views.StreamSummary(
        stream=row.name,
        version=contract.version,
        partitions=row.partitions,
        task=contract.document["task"],
        champion=champions[0] if champions else None,
        created_at=views.rfc3339(row.created_ms),
    )


def shown_version(row: VersionRow) -> views.ModelVersion:
    """A version as it is answered."""
    return views.ModelVersion(
        model=row.model,
        version=row.version,
        digest=row.digest,
        description=row.description,
        created_at=views.rfc3339(row.created_ms),
        created_by=row.created_by,
        specification=row.specification,
        parent=row.parent,
        without=row.without,
    )
