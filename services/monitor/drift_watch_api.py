"""What is watched for drift, over HTTP: what people have said of a stream, and how far each watch is."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Depends

from headrace.contracts.events import StreamAnnounced
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, topic
from headrace.web import Problem, require
from services.monitor.domain.tolerance import Tolerance, Tolerances
from services.monitor.watchboard import Watchboard

Streams = Callable[[], Mapping[str, StreamAnnounced]]


def build_watch_routes(streams: Streams, tolerances: Tolerances, board: Watchboard) -> APIRouter:
    """Routes over what is watched. streams: that the registry knows."""
    routes = APIRouter(prefix="/v1", tags=["drift"], dependencies=[Depends(require("reader"))])

    @routes.get("/drift/watches")
    def watches(stream: str | None = None) -> dict[str, Any]:
        """What holds for each stream, and what its partitions in this process watch.

        threshold: a watch's share of the budget, in records of its partition; ready: its reference is whole.
        """
        known = streams()
        if stream is not None and stream not in known:
            raise Problem(404, "Unknown stream", f"there is no stream {stream!r}")
        names = [stream] if stream is not None else sorted(known)
        return {
            "streams": [
                {
                    "stream": name,
                    **_said(tolerances.of(name, known[name].partitions)),
                    "watches": [
                        {
                            "topic": noted.topic,
                            "partition": noted.partition,
                            **{field: getattr(one, field) for field in one.__struct_fields__},
                        }
                        for kind in (LOG, PREDICTIONS, OUTCOMES)
                        for noted in board.noted(topic(kind, name))
                        for one in noted.watched
                    ],
                }
                for name in names
            ]
        }

    return routes


def _said(tolerance: Tolerance) -> dict[str, Any]:
    return {
        "false_alarms": tolerance.false_alarms,
        "weights": tolerance.weights,
        "retrain_labels": tolerance.retrain_labels,
        "leave_out": list(tolerance.leave_out),
        "reference": {
            "records": tolerance.reference.records,
            "labels": tolerance.reference.labels,
            "from": tolerance.reference.since,
        },
        "mix": tolerance.mix,
        "signals": msgspec.to_builtins(tolerance.signals),
    }
