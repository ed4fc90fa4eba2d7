"""Why something moved, and whether the budget of false alarms holds, over HTTP: looks at the past, on demand.

An explanation is JSON, or a drawing (SVG, no scripts) for `?format=svg` or a client that accepts only that. It shows
fields and groups as `/v1/streams/S/fields` and `/fairness` do, to the same readers.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response

from headrace.contracts.events import DriftDetected
from headrace.contracts.statistics import ContractFacts
from headrace.errors import Transient
from headrace.web import Problem, require
from services.monitor.control import ControlPlane
from services.monitor.domain.tolerance import Tolerance
from services.monitor.domain.why.explanation import Explanation
from services.monitor.past.drawing import draw
from services.monitor.past.looks import Looks

SVG = "image/svg+xml"
NOTE = (
    "Measured on the reference itself: that it holds all that the stream does cannot be checked so. What is rare or"
    " slow, and not in it, will look like drift."
)


def build_drift_routes(
    control: ControlPlane, looks: Looks, tolerance: Callable[[str, int], Tolerance]
) -> APIRouter:
    """Routes over the events of drift that are kept. tolerance: of a stream of so many partitions."""
    routes = APIRouter(prefix="/v1/drift", tags=["alerts"], dependencies=[Depends(require("reader"))])

    def facts_of(stream: str) -> ContractFacts | None:
        table = control.tables.streams.get(stream)
        return None if table is None else table.contract

    @routes.get("/check")
    async def check(
        stream: Annotated[str, Query(description="which stream")],
        partition: Annotated[int, Query(ge=0, le=100_000)] = 0,
    ) -> dict[str, Any]:
        """Promised and measured records for one false alarm, on the references of one partition.

        A reference begins after the newest alarm of its kind, or with the log. Takes some seconds; one look at a time.
        """
        facts = facts_of(stream)
        if facts is None:
            raise Problem(404, "Unknown stream", f"nothing has been counted of {stream!r} yet")
        if partition >= facts.partitions:
            raise Problem(404, "Unknown partition", f"{stream} has {facts.partitions} partition(s)")
        since = {
            "fields": _after_newest(control, stream, partition, "data"),
            "errors": _after_newest(control, stream, partition, "concept"),
        }
        borne = tolerance(stream, facts.partitions)
        found = await asyncio.to_thread(looks.check, stream, partition, facts, borne, since)
        promised = {"stream": stream, "partition": partition, "false_alarms": borne.false_alarms}
        return {**promised, **found, "note": NOTE}

    @routes.get("/{id}/why", responses={200: {"content": {SVG: {}}}}, response_model=None)
    async def why(
        id: str,
        format: Annotated[Literal["json", "svg"] | None, Query(description="json, or svg: a drawing")] = None,
        accept: Annotated[str, Header()] = "",
    ) -> Response | dict[str, Any]:
        """One event of drift explained from the records around it. Takes some seconds; one look at a time."""
        drift = next((seen.drift for seen in reversed(control.drifts) if seen.drift.id == id), None)
        if drift is None:
            raise Problem(404, "Unknown drift", f"there is no event of drift {id!r}, or it is too old")
        facts = facts_of(drift.stream)
        if facts is None:  # what has moved is heard of a moment before what was counted
            raise Transient(f"the contract of {drift.stream} is not known yet")
        found = await asyncio.to_thread(looks.why, drift, facts, *_neighbours(control, drift))
        if format == "svg" or (format is None and accept.startswith(SVG)):
            return Response(draw(found), media_type=SVG)
        return _plain(found)

    return routes


def _after_newest(control: ControlPlane, stream: str, partition: int, kind: str) -> int:
    """Where the references began that are in force since the newest alarm of a kind; 0: with the log."""
    for _, event in reversed(control.drifts):
        if (event.stream, event.partition, event.kind) == (stream, partition, kind):
            return event.offset + 1
    return 0


def _neighbours(control: ControlPlane, drift: DriftDetected) -> tuple[int, int | None]:
    """Where the like alarm before was decided, and where the next change began: what lies beyond is another story."""
    scope = _scope(drift)
    alike = [event for _, event in control.drifts if _scope(event) == scope]
    began = drift.since_offset if drift.since_offset >= 0 else drift.offset
    before = [event.offset for event in alike if event.offset < min(began, drift.offset)]
    later = [event.since_offset for event in alike if event.since_offset > drift.offset]
    return max(before, default=-1) + 1, min(later, default=None)


def _scope(drift: DriftDetected) -> tuple[object, ...]:
    """What begins a new reference together: all of a model's concept; of other kinds each subject by itself."""
    about = () if drift.kind == "concept" else (drift.subject, drift.group)
    return (drift.stream, drift.partition, drift.kind, drift.model, drift.version, *about)


def _plain(found: Explanation) -> dict[str, Any]:
    """All members, also those of the event that have their default value."""
    return {**msgspec.to_builtins(found), "drift": _event(found.drift)}


def _event(drift: DriftDetected) -> dict[str, Any]:
    return {name: getattr(drift, name) for name in drift.__struct_fields__}
