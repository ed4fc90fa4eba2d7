"""Errors for clients that were written for somebody else's server.

They are problems like all others, with two members more: `error_code` and `message`, by which such a client knows what
happened and tells its user.
"""

from collections.abc import Callable

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from headrace.errors import Fatal, HeadraceError
from headrace.web import Problem, problem_of
from services.registry.route import Handler, RegistryRoute


def spoken(translated: Callable[[Problem], Problem]) -> type[RegistryRoute]:
    """A class of routes whose problems are `translated`: given an `error_code`, and the status that goes with it."""

    class Route(RegistryRoute):
        def own_handler(self) -> Handler:
            handle = super().own_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handle(request)
                except Fatal:
                    raise
                except (HTTPException, RequestValidationError, HeadraceError) as error:
                    problem = translated(problem_of(error))
                    where = problem.extra.get("errors", [{}])[0].get(
                        "where", ""
                    )  # which parameter it is about
                    said = problem.detail or problem.title
                    problem.extra["message"] = f"{where}: {said}" if where else said
                    raise problem from None

            return answer

    return Route


def refused(status: int, code: int | str, message: str) -> Problem:
    """A problem with an `error_code` of its own."""
    return Problem(status, detail=message, extra={"error_code": code})
