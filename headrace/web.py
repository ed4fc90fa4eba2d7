"""The FastAPI factory every service uses: keys and roles, problems, health, metrics, access log, body limit.

One factory, so that the four services answer alike: every error is an RFC 9457 problem (`application/problem+json`),
every route but `/livez`, `/readyz` and `/metrics` needs a key with a role, no error tells internals. What would break:
FastAPI's own 404, 405, 413, 422 and 500 bodies are not problems, and its own body limit answers in plain text, which
is why the limit is kept here, at the edge, where it also counts bodies sent without a length.
"""

import json
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated, Any

import structlog
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.security import (
    APIKeyHeader,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
)
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.errors import Fatal, HeadraceError, Poison, Transient, Unusable
from headrace.keys import Key, KeyRing, Role
from headrace.metrics.service import Served
from headrace.openapi_page import PROBLEM_REFERENCE, PROBLEM_SCHEMA, render

PROBLEM = "application/problem+json"
OPEN_PATHS = ("/livez", "/readyz", "/metrics")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
RETRY_SECONDS = "1"

_log = structlog.stdlib.get_logger("headrace.web")

_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer hr_...`")
_header = APIKeyHeader(
    name="X-API-Key", auto_error=False, description="An API key, for clients without bearer"
)
_basic = HTTPBasic(
    auto_error=False, description="For browsers, documentation only: any user, the key as password"
)


class Problem(HTTPException):
    """An answer that is an error, as RFC 9457 has it. Raise it anywhere below a route.

    extra: members beside the standard ones (they must be JSON-able and must not be secrets). kind: a URI that names
    the kind of problem for programs; `about:blank` means that the status says it all.
    """

    def __init__(
        self,
        status: int,
        title: str = "",
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        kind: str = "about:blank",
    ) -> None:
        super().__init__(status_code=status, detail=detail, headers=dict(headers or {}))
        self.status = status
        self.title = title or HTTPStatus(status).phrase
        self.extra = dict(extra or {})
        self.kind = kind

    def response(self, instance: str) -> Response:
        """The problem as an HTTP response."""
        content = {"type": self.kind, "title": self.title, "status": self.status, "instance": instance}
        if self.detail:
            content["detail"] = self.detail
        body = json.dumps({**self.extra, **content}, default=str, ensure_ascii=False)
        return Response(body, status_code=self.status, headers=self.headers, media_type=PROBLEM)


def problem_of(error: Exception) -> Problem:
    """What a client is told about an error: all of ours are meant for people, of others only that they happened."""
    match error:
        case Problem():
            return error
        case HTTPException():
            detail = "" if error.detail == HTTPStatus(error.status_code).phrase else str(error.detail)
            return Problem(error.status_code, detail=detail, headers=error.headers)
        case RequestValidationError():
            errors = [{"where": ".".join(map(str, e["loc"])), "reason": e["msg"]} for e in error.errors()]
            return Problem(422, "The request is not valid", errors[0]["reason"], extra={"errors": errors})
        case Unusable():
            return Problem(
                422, "Not usable", error.reason, extra={"where": error.where} if error.where else None
            )
        case Poison():
            return Problem(422, "Rejected", error.reason, extra={"rule": error.rule, "field": error.field})
        case Transient():
            return Problem(503, "Try again", str(error), headers={"Retry-After": RETRY_SECONDS})
        case _:
            return Problem(500, "Internal error", "The service failed; its log has the details.")


class RequireRole:
    """A FastAPI dependency: the caller's key, if it has one of `roles`; else 401 or 403. See `require`."""

    def __init__(self, *roles: Role) -> None:
        self.roles = roles

    async def __call__(
        self,
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        header: Annotated[str | None, Depends(_header)],
    ) -> Key:
        """Check the key given as a bearer or in `X-API-Key`."""
        return _admit(request, bearer.credentials if bearer else header, self.roles, "Bearer")

    async def admit(self, request: Request) -> Key:
        """The same, for whoever has to know the caller before the route runs."""
        bearer = await _bearer(request)
        secret = bearer.credentials if bearer else await _header(request)
        return _admit(request, secret, self.roles, "Bearer")


class RequireForDocs(RequireRole):
    """As `RequireRole`, but a browser may give the key as the password it asks for (reading only: no forged posts)."""

    async def __call__(  # type: ignore[override]
        self,
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        header: Annotated[str | None, Depends(_header)],
        basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)],
    ) -> Key:
        """Check the key given in any of three ways."""
        secret = bearer.credentials if bearer else header or (basic.password if basic else None)
        return _admit(request, secret, self.roles, 'Basic realm="headrace", charset="UTF-8"')


def require(*roles: Role) -> Any:
    """`Depends(require("producer"))`: the caller's `Key` if it has one of the roles (admin has all)."""
    return RequireRole(*roles)


def _admit(request: Request, secret: str | None, roles: tuple[Role, ...], challenge: str) -> Key:
    keys: KeyRing = request.app.state.keys
    if not secret:
        raise Problem(
            401,
            "A key is needed",
            "Send an API key: Authorization: Bearer hr_...",
            headers={"WWW-Authenticate": challenge},
        )
    key = keys.find(secret)
    if key is None:
        raise Problem(401, "The key is not known", headers={"WWW-Authenticate": challenge})
    structlog.contextvars.bind_contextvars(caller=key.name)
    if not any(key.allows(role) for role in roles):
        raise Problem(403, "The key does not allow this", f"It needs the role {' or '.join(roles)}.")
    return key


def create_app(
    *,
    service: str,
    keys: KeyRing,
    ready: Callable[[], Mapping[str, bool]],
    lifespan: Any = None,
    version: str = "",
    description: str = "",
    metrics: CollectorRegistry | None = None,
    home: Path | None = None,
    max_body_bytes: int = 1024 * 1024,
) -> FastAPI:
    """A FastAPI application with everything but the service's own routes.

    ready: what must be true before traffic is welcome, by name; it is called often and must be quick.
    metrics: where `/metrics` reads; a service's own metrics go to the same registry (`app.state.metrics`).
    home: the folder whose disk is shown there.
    max_body_bytes: larger request bodies are answered with 413; a compressed body counts as sent.
    """
    version = version or _installed_version()
    app = FastAPI(
        title=f"Headrace {service}",
        version=version,
        description=description,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        responses={"4XX": {"description": "A problem", "content": {PROBLEM: {"schema": PROBLEM_REFERENCE}}}},
        separate_input_output_schemas=False,
    )
    app.state.keys = keys
    app.state.metrics = metrics or CollectorRegistry()
    for kind in (HTTPException, RequestValidationError, HeadraceError):
        app.add_exception_handler(kind, _answer)
    served = Served(service, version, app.state.metrics, home)
    app.add_middleware(_Edge, served=served, max_body_bytes=max_body_bytes)
    _add_open_routes(app, ready)
    _add_documentation(app)
    return app


def _add_open_routes(app: FastAPI, ready: Callable[[], Mapping[str, bool]]) -> None:
    @app.get("/livez", tags=["operations"], summary="Whether the process answers at all")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", tags=["operations"], summary="Whether traffic is welcome; 503 says what is missing")
    def readyz() -> dict[str, bool]:  # on a thread: what is asked may have to wait for a database
        state = dict(ready())
        if not all(state.values()):
            missing = sorted(name for name, fulfilled in state.items() if not fulfilled)
            headers = {"Retry-After": RETRY_SECONDS}
            raise Problem(
                503, "Not ready", f"missing: {', '.join(missing)}", headers=headers, extra={"ready": state}
            )
        return state

    @app.get("/metrics", tags=["operations"], summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(app.state.metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _add_documentation(app: FastAPI) -> None:
    document = app.openapi

    def openapi() -> dict[str, Any]:
        schema = document()
        schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    anybody = Depends(RequireForDocs("reader", "producer"))

    @app.get("/openapi.json", include_in_schema=False, dependencies=[anybody])
    async def openapi_document() -> Response:
        return Response(json.dumps(app.openapi()), media_type="application/json")

    @app.get("/docs", include_in_schema=False, dependencies=[anybody])
    async def documentation() -> Response:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(render(app.openapi()), headers=policy)


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, Fatal):
        _log.error("fatal error while serving", error=str(error))
    return problem_of(error).response(request.url.path)


class _Edge:
    """The outermost layer: request id, body limit, what went wrong unforeseen, access log, request metrics."""

    def __init__(self, app: ASGIApp, served: Served, max_body_bytes: int) -> None:
        self._app = app
        self._served = served
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (or pass on what is not HTTP)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if _declared_length(headers) > self._max_body_bytes:
                await _too_large(self._max_body_bytes).response(scope["path"])(scope, receive, send_noting)
            else:
                await self._app(scope, self._limited(receive), send_noting)
        except Exception as error:
            _log.exception("a request failed", path=scope["path"])
            if status:
                raise  # the answer has begun: all that is left is to cut the connection
            await problem_of(error).response(scope["path"])(scope, receive, send_noting)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _limited(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        taken = 0

        async def receive_limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body_bytes:
                raise _too_large(self._max_body_bytes)
            return message

        return receive_limited

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"]
        route = getattr(scope.get("route"), "path", "unmatched")
        self._served.answered(method, route, status, seconds)
        if route in OPEN_PATHS and status < 400:
            return
        _log.info(
            "request", method=method, path=scope["path"], status=status, milliseconds=round(seconds * 1e3, 2)
        )


def _declared_length(headers: Mapping[bytes, bytes]) -> int:
    try:
        return int(headers.get(b"content-length", b"0"))
    except ValueError:
        return 0


def _too_large(limit: int) -> Problem:
    # The rest of the body is not read, so the connection cannot be used again.
    return Problem(
        413, detail=f"At most {limit} bytes.", headers={"Connection": "close"}, extra={"limit_bytes": limit}
    )


def _installed_version() -> str:
    try:
        return distribution_version("headrace")
    except PackageNotFoundError:
        return "unknown"


class _Server(uvicorn.Server):
    """A server that also ends when `stop` is set, by whichever thread."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    async def on_tick(self, counter: int) -> bool:
        return self._stop.is_set() or await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket for `serve`. Raises `Fatal` if there can be none there."""
    try:
        return socket.create_server((host, port), family=_family(host), backlog=2048, reuse_port=False)
    except OSError as error:
        raise Fatal(f"cannot listen on {host}:{port}: {error.strerror}") from None


def serve(
    app: FastAPI, *, listener: socket.socket, stop_seconds: float = 5.0, stop: threading.Event | None = None
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`, end what is under way, close `listener`. `Fatal` if it cannot start."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, int(stop_seconds)),
    )
    server = _Server(config, stop or threading.Event())

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again once it has stopped, which would end the process with -15 rather than 0.
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    except SystemExit:
        raise Fatal("the service could not start; the log above says why") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
