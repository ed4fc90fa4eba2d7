"""Deliveries over HTTP: the channels, what was told to each, and a test. Nothing of it shows a secret or a URL."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from headrace.contracts.events import Alert
from headrace.keys import Key
from headrace.web import Problem, require
from services.monitor.control import ControlPlane
from services.monitor.delivery.channels import Channel, is_reference
from services.monitor.delivery.deliverer import Deliverer
from services.monitor.delivery.log import Delivery, Status
from services.monitor.delivery.webhook import target


def build_delivery_routes(control: ControlPlane, deliverer: Deliverer) -> APIRouter:
    """Routes over the channels and their deliveries."""
    routes = APIRouter(prefix="/v1", tags=["deliveries"])
    reader, operator = Depends(require("reader")), Depends(require("operator"))

    @routes.get("/channels", dependencies=[reader])
    def list_channels() -> dict[str, Any]:
        """The channels, what they ask for, and how many steps wait to be told."""
        waiting = deliverer.log.waiting()
        return {
            "channels": [_channel(channel, waiting.get(channel.name, 0)) for channel in deliverer.channels]
        }

    @routes.post("/channels/{name}/test")
    def test(name: str, key: Annotated[Key, operator]) -> dict[str, Any]:
        """Tell a channel of an alert that is none, at once and once."""
        at = control.now()
        made_up = Alert(
            f"test-{at}", "test", "test", "info", "firing", "test", 0.0, 0.0, at, kind="test", by=key.name,
            reason="this is a test, asked for by a person",
        )  # fmt: skip
        try:
            error = deliverer.test(name, made_up)
        except KeyError:
            raise Problem(404, "Unknown channel", f"there is no channel {name!r}") from None
        return {"channel": name, "delivered": not error, "error": error}

    @routes.get("/deliveries", dependencies=[reader])
    def deliveries(
        channel: str = "",
        alert: Annotated[str, Query(description="id of the step that fired it")] = "",
        status: Status | None = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        below: Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the page before")] = None,
    ) -> dict[str, Any]:
        """What was told to whom, newest first."""
        found = deliverer.log.page(limit + 1, below, channel=channel, alert=alert, status=status or "")
        return {
            "deliveries": [_delivery(delivery) for delivery in found[:limit]],
            "next": found[limit - 1].number if len(found) > limit else None,
        }

    return routes


def _channel(channel: Channel, waiting: int) -> dict[str, Any]:
    host = "" if not channel.webhook or is_reference(channel.webhook) else target(channel.webhook).host
    return {
        "name": channel.name,
        "sort": "webhook" if channel.webhook else "apprise",
        "host": host,
        "waiting": waiting,
        **{name: getattr(channel, name) for name in ("severity", "kinds", "streams", "models", "group")},
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    step = delivery.alert
    return {
        "number": delivery.number,
        "channel": delivery.channel,
        "event": step.id,
        "alert": step.fired,
        **{name: getattr(step, name) for name in ("state", "rule", "stream", "model", "kind")},
        **{
            name: getattr(delivery, name)
            for name in ("status", "attempts", "since", "due", "changed", "error")
        },
    }
