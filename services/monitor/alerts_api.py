"""Alerts over HTTP: what has moved, what was told, where each alert stands; acknowledge, mute, unmute.

A change is an event like any other: it is written to its topic first and answered afterwards, so that a restart and
another process know it too.
"""

import asyncio
import uuid
from collections.abc import Callable
from typing import Annotated, Any, get_args

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.events import Alert, AlertsMuted, DriftKind
from headrace.errors import Transient, Unusable
from headrace.keys import Key
from headrace.web import Problem, require
from services.monitor.control import ALERTS_KEPT, ControlPlane
from services.monitor.domain.alerts import plain
from services.monitor.domain.life import MUTES_KEPT, Life, LifeState, Step

SENT_SECONDS = 15.0
LONGEST_MUTE_SECONDS = 60 * 24 * 3600
"""Shorter than its topic keeps a record."""

Why = Annotated[str, Field(max_length=500, pattern=r"^[^\r\n]*$", description="One line, for others.")]
Name = Annotated[str, Field(max_length=100)]


class Acknowledgement(BaseModel):
    """Why nobody else has to look."""

    model_config = ConfigDict(extra="forbid")

    why: Why = ""


class MuteWanted(BaseModel):
    """What is not told to people, for how long, and why. At least one of rule, stream, model, kind is given.

    id: the client's, so that asking again after a lost answer makes no second mute.
    """

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$", default_factory=lambda: uuid.uuid4().hex)]
    rule: Name = ""
    stream: Name = ""
    model: Name = ""
    kind: Name = ""
    seconds: Annotated[int, Field(ge=1, le=LONGEST_MUTE_SECONDS)]
    why: Why


def build_alert_routes(control: ControlPlane) -> APIRouter:
    """Routes over the control plane's alerts."""
    routes = APIRouter(prefix="/v1", tags=["alerts"])
    routes.include_router(_reading(control))
    routes.include_router(_acting(control))
    return routes


def _reading(control: ControlPlane) -> APIRouter:
    routes = APIRouter(dependencies=[Depends(require("reader"))])

    @routes.get("/drift")
    async def drift(
        stream: str | None = None,
        kind: Annotated[str | None, Query(pattern=f"^({'|'.join(get_args(DriftKind))})$")] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        below: Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the page before")] = None,
    ) -> dict[str, Any]:
        """What has moved, newest first."""
        found = []
        for offset, event in reversed(control.drifts):
            if (
                (below is None or offset < below)
                and (stream is None or event.stream == stream)
                and (kind is None or event.kind == kind)
            ):
                found.append((offset, event))
                if len(found) > limit:
                    break
        page = [
            {name: getattr(event, name) for name in event.__struct_fields__} for _, event in found[:limit]
        ]
        return {"drift": page, "next": found[limit - 1][0] if len(found) > limit else None}

    @routes.get("/alerts")
    async def alerts(
        stream: str | None = None,
        state: Annotated[str | None, Query(pattern="^(firing|acknowledged|escalated|resolved)$")] = None,
        limit: Annotated[int, Query(ge=1, le=ALERTS_KEPT)] = 100,
    ) -> dict[str, Any]:
        """Steps in the lives of alerts as they were told, newest first."""
        told = [
            alert
            for alert in reversed(control.alerts)
            if (stream is None or alert.stream == stream) and (state is None or alert.state == state)
        ]
        return {"alerts": [plain(alert) for alert in told[:limit]]}

    @routes.get("/alerts/current")
    async def current(
        stream: str | None = None,
        state: LifeState | None = None,
        limit: Annotated[int, Query(ge=1, le=ALERTS_KEPT)] = 100,
    ) -> dict[str, Any]:
        """Where each alert stands, newest first."""
        lives = [
            life
            for life in reversed(control.lives.all())
            if stream in (None, life.fired.alert.stream) and state in (None, life.state)
        ]
        return {"alerts": [_life(life) for life in lives[:limit]]}

    @routes.get("/alerts/current/{id}")
    async def one(id: str) -> dict[str, Any]:
        """One alert, with every step of its life."""
        life = _found(control, id)
        return {**_life(life), "steps": [_step(step) for step in life.steps]}

    @routes.get("/mutes")
    async def mutes() -> dict[str, Any]:
        """The mutes in force, the oldest first."""
        return {"mutes": [_mute(mute) for mute in control.mutes.active(control.now())]}

    return routes


def _acting(control: ControlPlane) -> APIRouter:
    routes = APIRouter()
    operator = Depends(require("operator"))

    @routes.post("/alerts/{id}/acknowledge")
    async def acknowledge(id: str, wanted: Acknowledgement, key: Annotated[Key, operator]) -> dict[str, Any]:
        """Say that somebody has seen it: it is not escalated. The first to say so counts."""
        life = _found(control, id)
        if life.acknowledged is None:
            await _sent(lambda done: control.acknowledge(life, key.name, wanted.why, done))
        return _life(life)

    @routes.post("/mutes", status_code=201)
    async def mute(wanted: MuteWanted, key: Annotated[Key, operator]) -> dict[str, Any]:
        """Do not tell people of alerts that fit, for a while. They are still told on the topic, and shown here."""
        about = {name: getattr(wanted, name) for name in ("rule", "stream", "model", "kind")}
        if not any(about.values()):
            raise Unusable("say which: at least one of rule, stream, model, kind")
        known = control.mutes.get(wanted.id)
        if known is not None:
            return _mute(known)
        now = control.now()
        if len(control.mutes.active(now)) >= MUTES_KEPT:
            raise Unusable(f"at most {MUTES_KEPT} mutes at a time: end some")
        made = AlertsMuted(wanted.id, now, now + wanted.seconds * 1000, key.name, wanted.why, **about)
        await _sent(lambda done: control.mute(made, done))
        return _mute(made)

    @routes.delete("/mutes/{id}")
    async def unmute(id: str, key: Annotated[Key, operator]) -> dict[str, Any]:
        """End a mute before its time."""
        mute = control.mutes.get(id)
        if mute is None:
            raise Problem(404, "Unknown mute", f"there is no mute {id!r}")
        if not mute.ended:
            mute = msgspec.structs.replace(mute, ended=control.now(), ended_by=key.name)
            ended = mute
            await _sent(lambda done: control.mute(ended, done))
        return _mute(mute)

    return routes


async def _sent(ask: Callable[[Callable[[], None]], None]) -> None:
    """Ask for a change, and wait until the broker has it."""
    done = asyncio.Event()
    ask(done.set)
    try:
        await asyncio.wait_for(done.wait(), SENT_SECONDS)
    except TimeoutError:
        raise Transient("Kafka has not confirmed it; it is still tried") from None


def _found(control: ControlPlane, id: str) -> Life:
    life = control.lives.get(id)
    if life is None:
        raise Problem(404, "Unknown alert", f"there is no alert {id!r}, or it is too old")
    return life


def _life(life: Life) -> dict[str, Any]:
    acknowledged, escalated, resolved = life.acknowledged, life.escalated, life.resolved
    return {
        **plain(life.fired.alert),
        "state": life.state,
        "severity": life.severity,
        "told_at": life.fired.told_at,
        "acknowledged": None
        if acknowledged is None
        else {"by": acknowledged.alert.by, "why": acknowledged.alert.why, "told_at": acknowledged.told_at},
        "escalated": None if escalated is None else {"told_at": escalated.told_at},
        "resolved": None
        if resolved is None
        else {"at": resolved.alert.at, "value": resolved.alert.value, "told_at": resolved.told_at},
    }


def _step(step: Step) -> dict[str, Any]:
    told: Alert = step.alert
    shown = ("id", "state", "severity", "at", "value", "reason", "by", "why")
    return {**{name: getattr(told, name) for name in shown}, "told_at": step.told_at}


def _mute(mute: AlertsMuted) -> dict[str, Any]:
    return {name: getattr(mute, name) for name in mute.__struct_fields__}
