"""The monitor's Faust app: reads statistics and drift, feeds the control plane, sends what it decides to tell.

Faust is at-least-once here and reads uncommitted records, which the idempotent merge forgives. Its own tables are not
used (windowed ones do not survive recovery, and each update would cost a record): the compacted statistics topic is
the table's changelog already, and is read to its end before Faust starts. Rules that were learnt the hard way: one
worker a topic (concurrency 1), raw bytes, no web server, short session, an agent never raises, because an event whose
agent raised is acknowledged and gone. Alerts and mutes are heard by an ordinary reader (`hearing.py`), as others write
them compressed, which Faust's client cannot read. One topic serves all streams, as Faust cannot subscribe to a new one
at run time.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import faust
import structlog
from faust.types import AppT, StreamT

from headrace.contracts.codec import encode
from headrace.contracts.events import Alert, AlertsMuted
from headrace.contracts.topics import ALERTS, DRIFT, MUTES, STATISTICS
from headrace.errors import Transient
from headrace.kafka.admin import end_offsets
from headrace.kafka.tail import Tail
from services.monitor.control import ControlPlane, Kept

log = structlog.get_logger("headrace.monitor.agents")

JUDGE_SECONDS = 1.0
SEND_SECONDS = 30.0
WATCH_SECONDS = 10.0
STUCK_CHECKS = 3
"""Checks in a row at which there was something to read and nothing was read, until Faust counts as stuck."""
RECOVER_SECONDS = 120.0


def build_app(bootstrap: str, group: str, control: ControlPlane) -> AppT:
    """A Faust app that feeds `control`; start and stop it as a service of the running event loop."""
    for noisy in ("faust", "mode", "aiokafka"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    app = faust.App(
        group,
        broker=[f"kafka://{address}" for address in bootstrap.split(",")],
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=8.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=2.0,
        producer_acks=-1,
        stream_wait_empty=False,
    )
    statistics = app.topic(STATISTICS.name, key_serializer="raw", value_serializer="raw")
    drifts = app.topic(DRIFT.name, key_serializer="raw", value_serializer="raw")
    alerts = app.topic(ALERTS.name, key_serializer="raw", value_serializer="raw")
    mutes = app.topic(MUTES.name, key_serializer="raw", value_serializer="raw")

    @app.agent(statistics, name="merge", concurrency=1)
    async def merge(summaries: StreamT[bytes]) -> None:
        async for value in summaries:
            try:
                control.receive(value)
            except Exception:  # an agent that raises loses the event and says nothing
                log.exception("a summary could not be merged")

    @app.agent(drifts, name="moved", concurrency=1)
    async def moved(events: StreamT[bytes]) -> None:
        async for event in events.events():
            try:
                control.receive_drift(
                    Kept(event.value, event.message.offset, int(event.message.timestamp * 1000))
                )
            except Exception:
                log.exception("an event of drift could not be taken in")

    @app.timer(JUDGE_SECONDS, name="judge")
    async def judge() -> None:
        try:
            control.judge()
            while control.outbox:
                told = control.outbox[0]
                topic, key = (alerts, alert_key(told)) if isinstance(told, Alert) else (mutes, told.id)
                sending = await topic.send(key=key.encode(), value=encode(told))
                written = await asyncio.wait_for(sending, SEND_SECONDS)
                control.sent(told, None if written.timestamp is None else int(written.timestamp))
                log.info("told", **told_in_short(told))
        except Exception:  # it stays in the outbox and is sent at the next turn, under the same id
            log.exception("alerts could not be judged or sent")

    return app


def alert_key(told: Alert) -> str:
    """The key of an alert's record."""
    return f"{told.stream}/{told.rule}"


def told_in_short(told: Alert | AlertsMuted) -> dict[str, str]:
    """What the log says of it."""
    short = {"id": told.id, "rule": told.rule, "stream": told.stream, "model": told.model}
    return short | ({"state": told.state} if isinstance(told, Alert) else {"muted_by": told.by})


def recover(bootstrap: str, control: ControlPlane) -> None:
    """Read statistics, drift, alerts and mutes to their ends. Blocks; `Transient` if that takes too long."""
    control.recover(
        (record.value for record in _read_all(bootstrap, STATISTICS.name)),
        *(_read_all(bootstrap, kind.name) for kind in (ALERTS, DRIFT, MUTES)),
    )


def _read_all(bootstrap: str, topic: str) -> Iterator[Kept]:
    tail = Tail(bootstrap, topic, start="earliest", client_id="headrace-monitor")
    try:
        patience = RECOVER_SECONDS
        while not tail.caught_up():
            records = tail.read(10_000, 0.5)
            patience = RECOVER_SECONDS if records else patience - 0.5
            if patience <= 0:
                raise Transient(
                    f"{topic} could not be read to its end: the broker has said nothing for too long"
                )
            yield from (Kept(record.value, record.offset, record.timestamp_ms) for record in records)
    finally:
        tail.close()


async def failures(bootstrap: str, app: AppT, control: ControlPlane) -> AsyncIterator[str]:
    """Watches Faust from outside, as its consumers have been seen to die silently. Yields why it must be restarted."""
    seen, ended, stuck = -1, -1, 0
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        if app.crashed:
            yield f"Faust has crashed: {app.crash_reason!r}"
            return
        try:
            end = sum((await asyncio.to_thread(end_offsets, bootstrap, STATISTICS.name)).values())
        except Transient:
            continue  # the broker is away: nothing to read is no fault of Faust's
        stuck = stuck + 1 if end > ended >= 0 and control.received == seen else 0
        seen, ended = control.received, end
        if stuck >= STUCK_CHECKS:
            yield f"Faust has read nothing for {STUCK_CHECKS * WATCH_SECONDS:g} s while there was something to read"
            return
