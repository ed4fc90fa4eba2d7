"""The rules over HTTP: read them, replace them, and ask how often one would have fired."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request

from headrace.errors import Unusable
from headrace.web import Problem, require
from services.monitor import rulebook
from services.monitor.api import FIRST, LAST, read_time
from services.monitor.control import ControlPlane
from services.monitor.domain import trial as trials
from services.monitor.domain.alerts import plain
from services.monitor.domain.figures import kind_of
from services.monitor.domain.rules import ANY_STREAM, Rule, read_rules


def build_rule_routes(control: ControlPlane, save: Callable[[list[Rule]], None]) -> APIRouter:
    """Routes over the rules; `save` keeps them over restarts (it may block)."""
    routes = APIRouter(prefix="/v1/rules", tags=["rules"])
    reader, operator = Depends(require("reader")), Depends(require("operator"))
    writing, trying = asyncio.Lock(), asyncio.Lock()

    @routes.get("", dependencies=[reader])
    async def rules() -> dict[str, Any]:
        """The rules in force."""
        return {"rules": msgspec.to_builtins(control.rules)}

    @routes.put("", dependencies=[operator])
    async def put_rules(request: Request) -> dict[str, Any]:
        """Replace all rules by those of the body: YAML or JSON, as in the rules file.

        A rule that is new and has no `since` looks only at what closes, or moves, from now on.
        """
        text = await _text(request)
        async with writing:
            known = {rule.name for rule in control.rules}
            wanted = [
                rule if rule.name in known or rule.since is not None else _from_now(rule, control)
                for rule in rulebook.parse(text)
            ]
            await asyncio.to_thread(save, wanted)
            control.use(wanted)
        return {"rules": msgspec.to_builtins(wanted)}

    @routes.post("/try", dependencies=[reader])
    async def try_rule(request: Request) -> dict[str, Any]:
        """How often a rule would have fired: `rule`, and optionally `from` and `to` (RFC 3339 or ms); YAML or JSON.

        Judged on the windows, or the drift, that are kept; nobody is told of anything.
        """
        if trying.locked():
            raise Problem(429, "Busy", "a rule is being tried already", headers={"Retry-After": "1"})
        rule, start, end = _asked(await _text(request))
        async with trying:
            trial = trials.Trial()
            drifts = [seen.drift for seen in control.drifts]
            for so_far in trials.try_rule(rule, control.tables, drifts, start, end):
                trial = so_far
                await asyncio.sleep(0)  # events come first
        return {
            "rule": msgspec.to_builtins(rule),
            **{
                name: getattr(trial, name)
                for name in ("looked_at", "judged", "fired", "resolved", "kept_from")
            },
            "alerts": [plain(alert) for alert in trial.alerts],
        }

    return routes


def _asked(text: str) -> tuple[Rule, int, int]:
    document = rulebook.document(text)
    if not isinstance(document, dict) or not document.keys() <= {"rule", "from", "to"}:
        raise Unusable("an object with `rule`, and perhaps `from` and `to`, is expected")
    rule = document.get("rule")
    if isinstance(rule, dict):
        rule = {"name": "tried", "stream": ANY_STREAM} | rule
    [read] = read_rules([rule])
    start, end = (None if document.get(name) is None else str(document[name]) for name in ("from", "to"))
    return read, read_time(start, "from", FIRST), read_time(end, "to", LAST)


async def _text(request: Request) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Unusable(f"the body is not UTF-8: {error.reason}") from None


def _from_now(rule: Rule, control: ControlPlane) -> Rule:
    """The rule, looking only at what has not closed yet, or moved, on the streams it is about."""
    if rule.drift:
        marks: list[int | None] = [
            seen.drift.at + 1 for seen in control.drifts if rule.stream in (seen.drift.stream, ANY_STREAM)
        ]
    else:
        marks = [
            table.final_before(kind_of(rule.metric))
            for name, table in control.tables.streams.items()
            if rule.stream in (name, ANY_STREAM)
        ]
    newest = max((mark for mark in marks if mark is not None), default=None)
    return rule if newest is None else msgspec.structs.replace(rule, since=newest)
