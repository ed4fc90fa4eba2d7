"""The monitor over HTTP: windows and totals of streams, alerts, and the rules."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from headrace.errors import Unusable
from headrace.web import Problem, require
from services.monitor import rulebook
from services.monitor.control import ControlPlane
from services.monitor.domain.rules import ANY_STREAM, Rule
from services.monitor.domain.tables import StreamTable
from services.monitor.domain.views import total_view, window_view

WINDOWS_AT_ONCE = 1_000
FIRST, LAST = -(1 << 62), 1 << 62


def build_routes(control: ControlPlane, save: Callable[[list[Rule]], None]) -> APIRouter:
    """Routes over the control plane; `save` keeps rules over restarts (it may block)."""
    routes = APIRouter(prefix="/v1", tags=["monitor"])
    reader, operator = Depends(require("reader")), Depends(require("operator"))
    writing = asyncio.Lock()

    def table_of(stream: str) -> StreamTable:
        table = control.tables.streams.get(stream)
        if table is None:
            raise Problem(404, "Unknown stream", f"nothing has been counted of {stream!r} yet")
        return table

    @routes.get("/streams", dependencies=[reader])
    async def streams() -> dict[str, list[str]]:
        """Streams of which something has been counted."""
        return {"streams": sorted(control.tables.streams)}

    @routes.get("/streams/{stream}/windows", dependencies=[reader])
    async def windows(
        stream: str,
        start: Annotated[str | None, Query(alias="from", description="RFC 3339 or ms; inclusive")] = None,
        end: Annotated[str | None, Query(alias="to", description="RFC 3339 or ms; exclusive")] = None,
        limit: Annotated[int, Query(ge=1, le=WINDOWS_AT_ONCE, description="the newest are given")] = 100,
    ) -> dict[str, Any]:
        """Windows with a start in [from, to), oldest first, at most `limit` of the newest."""
        table = table_of(stream)
        starts = table.between(read_time(start, "from", FIRST), read_time(end, "to", LAST))
        return {
            "stream": stream,
            "window_seconds": table.length_seconds,
            "kept": len(table.starts),
            "matching": len(starts),
            "windows": [window_view(table, begin) for begin in starts[-limit:]],
        }

    @routes.get("/streams/{stream}/summary", dependencies=[reader])
    async def summary(stream: str) -> dict[str, Any]:
        """Totals since the logs began, and the newest window."""
        table = table_of(stream)
        contract = table.contract
        return {
            "stream": stream,
            "window_seconds": table.length_seconds,
            "contract": None if contract is None else msgspec.to_builtins(contract),
            "total": total_view(table),
            "latest": window_view(table, table.starts[-1]) if table.starts else None,
        }

    @routes.get("/alerts", dependencies=[reader])
    async def alerts(
        stream: str | None = None,
        state: Annotated[str | None, Query(pattern="^(firing|resolved)$")] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> dict[str, Any]:
        """Alerts that were told, newest first."""
        told = [
            alert
            for alert in reversed(control.alerts)
            if (stream is None or alert.stream == stream) and (state is None or alert.state == state)
        ]
        return {"alerts": [_plain_alert(alert) for alert in told[:limit]]}

    @routes.get("/rules", dependencies=[reader])
    async def rules() -> dict[str, Any]:
        """The rules in force."""
        return {"rules": msgspec.to_builtins(control.watch.rules)}

    @routes.put("/rules", dependencies=[operator])
    async def put_rules(request: Request) -> dict[str, Any]:
        """Replace all rules by those of the body: YAML or JSON, as in the rules file.

        A rule that is new and has no `since` looks only at windows that close from now on.
        """
        try:
            text = (await request.body()).decode()
        except UnicodeDecodeError as error:
            raise Unusable(f"the body is not UTF-8: {error.reason}") from None
        async with writing:
            known = {rule.name for rule in control.watch.rules}
            wanted = [
                rule if rule.name in known or rule.since is not None else _from_now(rule, control)
                for rule in rulebook.parse(text)
            ]
            await asyncio.to_thread(save, wanted)
            control.use(wanted)
        return {"rules": msgspec.to_builtins(wanted)}

    return routes


def _from_now(rule: Rule, control: ControlPlane) -> Rule:
    """The rule, looking only at what has not closed yet on the streams it is about."""
    edges = [
        table.final_before("outcomes")
        for name, table in control.tables.streams.items()
        if rule.stream in (name, ANY_STREAM)
    ]
    newest = max((edge for edge in edges if edge is not None), default=None)
    return rule if newest is None else msgspec.structs.replace(rule, since=newest)


def _plain_alert(alert: Any) -> dict[str, Any]:
    """All members, also those that have their default value (the wire leaves them out)."""
    return {name: getattr(alert, name) for name in alert.__struct_fields__}


def read_time(given: str | None, where: str, default: int) -> int:
    """Milliseconds since 1970 from a parameter; `default` if it was not given. Raises `Unusable`."""
    if given is None or not given:
        return default
    try:
        return int(given)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise Unusable(
            "a time is RFC 3339 (2013-01-01T00:00:00Z) or milliseconds since 1970", where=where
        ) from None
    if at.tzinfo is None:
        raise Unusable("a time needs its offset (Z for UTC)", where=where)
    return int(at.timestamp() * 1000)
