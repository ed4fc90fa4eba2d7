"""Ingest over HTTP: observations and labels, one or many a request.

The routes check what concerns the request as a whole (stream, pressure, type, size, idempotency) before any of its
lines is taken; the lines are the intake's. Bodies are read by hand, chunk by chunk, because that is where the bounds
are: bytes a body, bytes over all requests in flight, seconds a body may take. Answers are written with msgspec, as a
batch's thousand ids through pydantic would cost more than writing its events.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.requests import ClientDisconnect

from headrace.keys import Key
from headrace.web import Problem, require
from services.ingest import metrics
from services.ingest.domain.bodies import (
    FORMS,
    BodyBuffer,
    Form,
    MalformedBody,
    TooLarge,
    UnsupportedBody,
    form_of,
    lines_of,
)
from services.ingest.domain.idempotency import IdempotencyStore, KeyReused
from services.ingest.domain.ids import keyed_ids
from services.ingest.domain.lines import EventCleanser, Kind
from services.ingest.intake import Intake, Parcel, Receipt, Unacknowledged
from services.ingest.streams import Streams
from services.ingest.waiting import TooManyWaiting

if TYPE_CHECKING:
    from headrace.traces import Traces

KEY_LENGTH = 255
RETRY_SECONDS = {"Retry-After": "1"}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on bodies: bytes and lines of one, seconds one may take to arrive, bytes of all in flight."""

    body_bytes: int
    body_lines: int
    body_seconds: float
    flight_bytes: int


class Reply(NamedTuple):
    """An answer that can be given twice."""

    status: int
    content: bytes
    media_type: str = "application/json"


Answers = IdempotencyStore["asyncio.Task[Reply]"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: who (name of the API key), what, and how the answer is wanted."""

    who: str
    stream: str
    kind: Kind
    cleanser: EventCleanser
    wait_seconds: float | None
    idempotency_key: str | None
    traceparent: str = ""


class Door:
    """What all routes do; holds the count of bytes in flight."""

    def __init__(
        self,
        intake: Intake,
        streams: Streams,
        answers: Answers,
        fresh_id: Callable[[], str],
        clock_ms: Callable[[], int],
        limits: Limits,
        traces: "Traces | None" = None,
    ) -> None:
        self._traces = traces
        self._intake = intake
        self._streams = streams
        self._answers = answers
        self._fresh_id = fresh_id
        self._clock_ms = clock_ms
        self._limits = limits
        self._flight_bytes = 0

    def cleanser(self, stream: str) -> EventCleanser:
        """The stream's cleanser. Raises the 404."""
        cleanser = self._streams.find(stream)
        if cleanser is None:
            raise Problem(404, "Unknown stream", f"there is no stream {stream[:80]!r}")
        return cleanser

    async def admit(self, request: Request, asked: Asked) -> Response:
        """Answer one request, and trace it if that is wanted and it is sampled."""
        if self._traces is None:
            return await self._admit(request, asked)
        name = f"POST {request.scope['route'].path}"
        with self._traces.request(
            name, request.headers.get("traceparent"), {"stream": asked.stream}
        ) as traced:
            try:
                response = await self._admit(request, replace(asked, traceparent=traced.traceparent))
            except Problem as problem:
                traced.answered(problem.status)
                raise
            traced.answered(response.status_code)
            return response

    async def _admit(self, request: Request, asked: Asked) -> Response:
        if self._intake.busy() or self._flight_bytes >= self._limits.flight_bytes:
            raise _busy("the broker is behind; nothing of this request was taken")
        held = _Held()
        try:
            body = await self._read(request, held)
            metrics.BODY_BYTES.labels(asked.stream).inc(len(body))
            reply, replayed = await self._answer(request.headers.get("content-type"), body, asked)
        except (TooLarge, UnsupportedBody, MalformedBody, KeyReused, TooManyWaiting, Unacknowledged) as error:
            raise _problem(error) from error
        finally:
            self._flight_bytes -= held.bytes
            metrics.FLIGHT_BYTES.set(self._flight_bytes)
        headers = {"Idempotency-Replayed": "true"} if replayed else {}
        return Response(reply.content, reply.status, headers, reply.media_type)

    async def _read(self, request: Request, held: "_Held") -> bytes:
        form_of(request.headers.get("content-type"))
        buffer = BodyBuffer(request.headers.get("content-encoding"), self._limits.body_bytes)
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise TooLarge(f"the body is larger than {self._limits.body_bytes} bytes; send it in parts")
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.stream():
                    grown = buffer.feed(chunk)
                    held.bytes += grown
                    self._flight_bytes += grown
                    if self._flight_bytes > self._limits.flight_bytes:
                        raise _busy("too many bytes are in flight; nothing of this request was taken")
        except TimeoutError:
            raise Problem(
                408, "Request timeout", f"the body took over {self._limits.body_seconds:g} s"
            ) from None
        except ClientDisconnect:
            raise Problem(400, "Incomplete body", "the client went away before the body's end") from None
        metrics.FLIGHT_BYTES.set(self._flight_bytes)
        return buffer.finish()

    async def _answer(self, content_type: str | None, body: bytes, asked: Asked) -> tuple[Reply, bool]:
        """The reply, and whether it is one given before."""
        form = form_of(content_type)
        if asked.idempotency_key is None:
            parcel = self._parcel(form, body, asked, lambda _: self._fresh_id())
            return await self._work(parcel, asked), False
        if not 1 <= len(asked.idempotency_key) <= KEY_LENGTH:
            raise Problem(422, "Unusable Idempotency-Key", f"it must have 1 to {KEY_LENGTH} characters")
        fingerprint = hashlib.sha256(
            f"{asked.kind}\x00{form}\x00{asked.wait_seconds}\x00".encode() + body
        ).digest()
        key = (asked.who, asked.stream, asked.idempotency_key)
        task = self._answers.find(key, fingerprint, self._clock_ms())
        if task is not None:
            return await asyncio.shield(task), True
        new_id = keyed_ids(f"{asked.who}\x00{asked.stream}", asked.idempotency_key, fingerprint)
        parcel = self._parcel(form, body, asked, new_id)
        task = asyncio.ensure_future(self._work(parcel, asked))
        self._answers.begin(key, fingerprint, task, self._clock_ms())
        task.add_done_callback(partial(self._settle, key))
        return await asyncio.shield(task), False

    def _settle(self, key: tuple[str, str, str], task: "asyncio.Task[Reply]") -> None:
        """Only an answer that would be the same again is worth remembering."""
        if task.cancelled() or task.exception() is not None:
            self._answers.forget(key)
        else:
            self._answers.settle(key, len(task.result().content))

    def _parcel(self, form: Form, body: bytes, asked: Asked, new_id: Callable[[int], str]) -> Parcel:
        lines = lines_of(form, body, self._limits.body_lines)
        enveloped = form.startswith("cloudevent")
        return Parcel(asked.stream, asked.kind, asked.cleanser, lines, enveloped, new_id, asked.traceparent)

    async def _work(self, parcel: Parcel, asked: Asked) -> Reply:
        if asked.wait_seconds is None:
            receipt = await self._intake.take(parcel)
        else:
            if sum(1 for line in parcel.lines if line.strip()) != 1:
                raise MalformedBody("wait=prediction takes exactly one observation", rule="wait")
            receipt, prediction = await self._intake.take_and_wait(parcel, asked.wait_seconds)
            if prediction is not None:
                return Reply(200, prediction)
        if receipt.accepted:
            return Reply(202, _encode(receipt))
        return Reply(422, _refused(receipt), "application/problem+json")


class _Held:
    """Bytes of one request that count as in flight."""

    def __init__(self) -> None:
        self.bytes = 0


def build_routes(
    intake: Intake,
    streams: Streams,
    answers: Answers,
    fresh_id: Callable[[], str],
    clock_ms: Callable[[], int],
    limits: Limits,
    traces: "Traces | None" = None,
) -> APIRouter:
    """The three routes. fresh_id: makes ids for observations without one. clock_ms: milliseconds since 1970 UTC."""
    routes = APIRouter(prefix="/v1", tags=["ingest"])
    door = Door(intake, streams, answers, fresh_id, clock_ms, limits, traces)
    key_header = Header(
        alias="Idempotency-Key", description="The same key with the same body gets the same answer."
    )

    @routes.post("/streams/{stream}/observations", status_code=202, openapi_extra=_BODY, responses=_RESPONSES)
    async def observations(
        request: Request,
        stream: str,
        caller: Annotated[Key, Depends(require("producer"))],
        wait: Annotated[Literal["prediction"] | None, Query(description="answer with the prediction")] = None,
        timeout_ms: Annotated[int, Query(ge=1, le=30_000, description="longest wait for it")] = 2000,
        idempotency_key: Annotated[str | None, key_header] = None,
    ) -> Response:
        """Write observations to the stream's log; answers once the broker has acknowledged them."""
        seconds = timeout_ms / 1000 if wait else None
        cleanser = door.cleanser(stream)
        asked = Asked(caller.name, stream, "observation", cleanser, seconds, idempotency_key)
        return await door.admit(request, asked)

    @routes.post("/streams/{stream}/labels", status_code=202, openapi_extra=_BODY, responses=_RESPONSES)
    async def labels(
        request: Request,
        stream: str,
        caller: Annotated[Key, Depends(require("producer"))],
        idempotency_key: Annotated[str | None, key_header] = None,
    ) -> Response:
        """Write labels to the stream's log; answers once the broker has acknowledged them."""
        cleanser = door.cleanser(stream)
        return await door.admit(request, Asked(caller.name, stream, "label", cleanser, None, idempotency_key))

    @routes.post("/streams/{stream}/events", status_code=202, openapi_extra=_BODY, responses=_RESPONSES)
    async def events(
        request: Request,
        stream: str,
        caller: Annotated[Key, Depends(require("producer"))],
        idempotency_key: Annotated[str | None, key_header] = None,
    ) -> Response:
        """Write observations and labels, mixed, in the order of the body; each line is told apart as in the inbox."""
        cleanser = door.cleanser(stream)
        return await door.admit(request, Asked(caller.name, stream, "event", cleanser, None, idempotency_key))

    return routes


def _busy(detail: str) -> Problem:
    metrics.REFUSED.labels("429").inc()
    return Problem(429, "Too busy", detail, headers=RETRY_SECONDS)


def _problem(error: Exception) -> Problem:
    """The HTTP answer to what was wrong with a request as a whole."""
    text = str(error)
    match error:
        case TooLarge():
            problem = Problem(413, "Too large", text)
        case UnsupportedBody():
            problem = Problem(415, "Unsupported body", text)
        case MalformedBody(rule=rule):
            problem = Problem(422, "Unusable body", text, extra={"rule": rule})
        case KeyReused():
            problem = Problem(422, "Idempotency-Key reused", text)
        case Unacknowledged(receipt=receipt):
            detail = f"{text}; send the whole again, what is in the log already is dropped by its id"
            extra = msgspec.to_builtins(receipt)
            problem = Problem(503, "Not acknowledged", detail, headers=RETRY_SECONDS, extra=extra)
        case _:
            problem = Problem(429, "Too busy", text, headers=RETRY_SECONDS)
    metrics.REFUSED.labels(str(problem.status)).inc()
    return problem


def _refused(receipt: Receipt) -> bytes:
    """The 422 when no line was accepted, as RFC 9457 has it."""
    return _encode(
        {
            "type": "about:blank",
            "title": "No event was accepted",
            "status": 422,
            "detail": "every line was refused; see `rejected`",
            "rejected": receipt.rejected,
        }
    )


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {media_type: {"schema": {}} for media_type in FORMS},
        "description": "One event, or one a line (NDJSON), or CloudEvents; `Content-Encoding: gzip` is read.",
    }
}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "wait=prediction: the prediction, as it stands in S.predictions"},
    202: {"description": "Acknowledged by the broker: accepted, rejected (line, rule, field, reason), ids"},
    404: {"description": "No such stream"},
    408: {"description": "The body took too long"},
    413: {"description": "Body too large, or too many lines"},
    415: {"description": "Content type, charset or encoding is not read here"},
    422: {
        "description": "No line was accepted, or the body is no batch of events, or an Idempotency-Key was reused"
    },
    429: {"description": "The broker is behind; see Retry-After"},
    503: {
        "description": "The broker did not acknowledge everything; the answer says what it did; see Retry-After"
    },
}
