"""What many windows hold together, over HTTP: fields, quality by segment, bias."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from headrace.web import Problem, require
from services.monitor.api import FIRST, LAST, read_time
from services.monitor.control import ControlPlane
from services.monitor.domain import details
from services.monitor.domain.tables import StreamTable

ADDED_UP_AT_ONCE = 400
"""Most windows of one answer: adding them up holds up the event loop, a millisecond or so each."""

View = Callable[[StreamTable, Sequence[int]], dict[str, Any]]

From = Annotated[str | None, Query(alias="from", description="RFC 3339 or ms; inclusive")]
To = Annotated[str | None, Query(alias="to", description="RFC 3339 or ms; exclusive")]
Limit = Annotated[int, Query(ge=1, le=ADDED_UP_AT_ONCE, description="the newest windows are taken")]


def build_detail_routes(control: ControlPlane) -> APIRouter:
    """Routes over the control plane's tables."""
    routes = APIRouter(
        prefix="/v1/streams/{stream}", tags=["monitor"], dependencies=[Depends(require("reader"))]
    )

    def shown(view: View, stream: str, start: str | None, end: str | None, limit: int) -> dict[str, Any]:
        table = control.tables.streams.get(stream)
        if table is None:
            raise Problem(404, "Unknown stream", f"nothing has been counted of {stream!r} yet")
        starts = table.between(read_time(start, "from", FIRST), read_time(end, "to", LAST))
        return {"stream": stream, **view(table, starts[-limit:])}

    @routes.get("/fields")
    async def fields(stream: str, start: From = None, end: To = None, limit: Limit = 24) -> dict[str, Any]:
        """The values of every field, over the windows that start in [from, to), at most `limit` of the newest."""
        return shown(details.fields_view, stream, start, end, limit)

    @routes.get("/quality")
    async def quality(stream: str, start: From = None, end: To = None, limit: Limit = 24) -> dict[str, Any]:
        """Every model's quality, calibration and confusion, and its quality by segment, likewise."""
        return shown(details.quality_view, stream, start, end, limit)

    @routes.get("/fairness")
    async def fairness(stream: str, start: From = None, end: To = None, limit: Limit = 24) -> dict[str, Any]:
        """How alike every model treats the groups of every sensitive field, likewise."""
        return shown(details.fairness_view, stream, start, end, limit)

    return routes
