"""What every route of the registry does beside its own: a changing request once, a condition on it, a tag on an answer.

A route class and not a middleware, because a caller is only known by a route's role, and an answer that was kept must
not be given to another. The tag of an answer (`ETag`) is strong: it changes with every byte. Its first part stands for
what was decided of the thing that is shown (`request.show`), and `If-Match` compares that part only, as an offset or a
label that has come meanwhile is nothing that whoever decides could overlook. Answers below 500 are kept, as they say
what was decided; of the others nobody knows.
"""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from hashlib import sha256
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from headrace.errors import Transient
from headrace.web import Problem, RequireRole, problem_of
from services.registry.answers import CLAIM_SECONDS, Answer, Answers, Reused, UnderWay
from services.registry.request import Asked, Unmatched, asking

LONGEST_KEY = 255
READING = frozenset({"GET", "HEAD"})
LEFT_OUT = frozenset({"content-length"})
"""Headers that are made anew."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class RegistryRoute(APIRoute):
    """A route of the registry. Needs `app.state.answers` (`Answers`)."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        reads = READING.issuperset(options.get("methods") or ("GET",))
        options["openapi_extra"] = _documented(options.get("openapi_extra") or {}, reads=reads)
        super().__init__(path, endpoint, **options)

    def own_handler(self) -> Handler:
        """What is special to the route. Override it to have something closer to it than what all have in common."""
        return super().get_route_handler()

    def get_route_handler(self) -> Handler:
        """The route's own handler, and all of the above around it."""
        handle, role = self.own_handler(), _role(self.dependant)

        async def read(request: Request) -> Response:
            asked = Asked()
            with asking(asked):
                response = await handle(request)
            if response.status_code != 200:
                return response
            tag, known = _tagged(response, asked), _tags(request, "if-none-match")
            return Response(status_code=304, headers={"ETag": tag}) if {tag, "*"} & {*known} else response

        async def change(request: Request) -> Response:
            asked = Asked(matching=_tags(request, "if-match"), absent=_tags(request, "if-none-match"))
            key = _key(request)
            if key is None:
                return await _asked(handle, request, asked)
            assert role is not None
            asked.claim = (await role.admit(request)).name, key
            return await _once(handle, request, asked)

        if READING.issuperset(self.methods or ()):
            return read
        assert role is not None, f"{self.path} changes something and is open to anybody"
        return change


async def _asked(handle: Handler, request: Request, asked: Asked) -> Response:
    try:
        with asking(asked):
            response = await handle(request)
    except Unmatched as error:
        raise Problem(412, "Has changed", f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    if asked.shown and response.status_code in (200, 201):  # it shows what has become of what was changed
        _tagged(response, asked)
    return response


async def _once(handle: Handler, request: Request, asked: Asked) -> Response:
    """Carry out a request under its key, or give the answer that there is."""
    answers: Answers = request.app.state.answers
    assert asked.claim is not None
    try:
        known = await run_in_threadpool(answers.claim, *asked.claim, await _fingerprint(request))
    except Reused:
        raise Problem(
            422,
            "Idempotency-Key reused",
            "It came with another request before: take a new key for a new request.",
        ) from None
    except UnderWay:
        raise Problem(
            409,
            "Under way",
            f"The first request with this key is not answered yet; it has at most {CLAIM_SECONDS:g} s.",
            headers={"Retry-After": "1"},
        ) from None
    if known is not None:
        return Response(known.body, known.status, {**dict(known.headers), "Idempotency-Replayed": "true"})
    try:
        response = await _asked(handle, request, asked)
    except Exception as error:
        problem = problem_of(error)
        if problem.status >= 500:
            with suppress(Transient):  # what cannot be released will lapse
                await run_in_threadpool(answers.release, *asked.claim)
            raise
        response = problem.response(request.url.path)
    headers = [(name, value) for name, value in response.headers.items() if name not in LEFT_OUT]
    with suppress(Transient):  # it is decided; who asks again is answered from what was decided
        answer = Answer(response.status_code, headers, bytes(response.body))
        await run_in_threadpool(answers.keep, *asked.claim, answer)
    return response


def _tagged(response: Response, asked: Asked) -> str:
    """Give a good answer its tag, and say it."""
    digest = sha256(response.body).hexdigest()[:16]
    tag = f'"{asked.shown}-{digest}"' if asked.shown else f'"{digest}"'
    response.headers["ETag"] = tag
    return tag


def _tags(request: Request, name: str) -> tuple[str, ...]:
    """The tags of a header, as they came. Where something is read, a weak one will do; else it equals none."""
    given = [tag.strip() for text in request.headers.getlist(name) for tag in text.split(",")]
    return tuple(tag.removeprefix("W/") for tag in given) if request.method in READING else tuple(given)


def _key(request: Request) -> str | None:
    """The request's Idempotency-Key: a string in quotes, as the draft has it, or the same without them."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if not 1 <= len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise Problem(
            422, "Unusable Idempotency-Key", f"It has 1 to {LONGEST_KEY} printable ASCII characters."
        )
    return key


async def _fingerprint(request: Request) -> str:
    """What makes two requests the same: all that says what is to be done."""
    says = [request.method, request.url.path, request.url.query]
    says += [request.headers.get(name, "") for name in ("content-type", "if-match", "if-none-match")]
    return sha256("\x00".join(says).encode() + b"\x00" + await request.body()).hexdigest()


def _role(dependant: Dependant) -> RequireRole | None:
    """The role that a route asks for."""
    if isinstance(dependant.call, RequireRole):
        return dependant.call
    return next((role for inner in dependant.dependencies if (role := _role(inner))), None)


def _documented(extra: dict[str, Any], *, reads: bool) -> dict[str, Any]:
    told = _READING if reads else _CHANGING
    parameters = [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": says}
        for name, says in told.items()
    ]
    return {**extra, "parameters": [*extra.get("parameters", []), *parameters]}


_READING = {"If-None-Match": "An `ETag`; 304 if the answer is still that one"}
_CHANGING = {
    "Idempotency-Key": "Sent again with this key, the request decides nothing again and is answered as before",
    "If-Match": "The `ETag` of what is changed, as it was read; 412 if something was decided about it since",
    "If-None-Match": "`*`: only if it is not there yet; 412 if it is",
}
