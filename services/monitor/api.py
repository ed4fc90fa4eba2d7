"""The monitor over HTTP: windows and totals of streams."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query

from headrace.errors import Unusable
from headrace.web import Problem, require
from services.monitor.control import ControlPlane
from services.monitor.domain.tables import StreamTable
from services.monitor.domain.views import total_view, window_view

WINDOWS_AT_ONCE = 1_000
FIRST, LAST = -(1 << 62), 1 << 62


def build_routes(control: ControlPlane) -> APIRouter:
    """Routes over the control plane's tables."""
    routes = APIRouter(prefix="/v1", tags=["monitor"])
    reader = Depends(require("reader"))

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

    return routes


def read_time(given: str | None, where: str, default: int) -> int:
    """A time from a query or a body. Raises `Unusable`."""
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
