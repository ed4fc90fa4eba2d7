"""Takes steps off the alerts topic and has every channel told: at least once, also over restarts and long outages.

One thread reads the topic and notes, for each channel, what it is to be told; each channel has a thread that sends what
is due, so one that hangs holds up nobody else. What was not taken is tried again, after five seconds and then twice as
long each time (up to an hour, with jitter) until `give_up_seconds`. Steps of one alert are sent in their order.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from headrace.contracts.events import Alert, AlertsMuted
from headrace.contracts.topics import ALERTS
from headrace.errors import Transient
from headrace.kafka.admin import end_offsets
from headrace.kafka.tail import Tail, TailRecord
from services.monitor.delivery.channels import Channel
from services.monitor.delivery.guard import Refused
from services.monitor.delivery.log import Delivery, DeliveryLog, Status
from services.monitor.delivery.webhook import NotTaken
from services.monitor.domain import alerts
from services.monitor.domain.life import muted_by

log = structlog.get_logger("headrace.monitor.delivery")

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 3600.0
READ_RECORDS = 500
IDLE_SECONDS = 0.5
AWAY_SECONDS = 1.0
STOP_SECONDS = 3.0


class Outlet(NamedTuple):
    """A channel and what tells it; that raises when a step was not taken."""

    channel: Channel
    tell: Callable[[Alert], None]


class Deliverer:
    """All channels. mutes: those in force now. counted: called with channel and status after each attempt."""

    def __init__(
        self,
        bootstrap: str,
        log_file: DeliveryLog,
        outlets: Sequence[Outlet],
        mutes: Callable[[], Sequence[AlertsMuted]],
        *,
        give_up_seconds: float,
        counted: Callable[[str, Status], None] = lambda _channel, _status: None,
        fail: Callable[[str], None] = lambda _reason: None,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._bootstrap = bootstrap
        self.log = log_file
        self._outlets = outlets
        self._mutes = mutes
        self._give_up_ms = int(give_up_seconds * 1000)
        self._counted = counted
        self._fail = fail
        self._first_pause = first_pause_seconds
        self._wall = wall
        self._random = random.Random()
        self._stopping = threading.Event()
        self._woken = {outlet.channel.name: threading.Event() for outlet in outlets}
        self._threads: list[threading.Thread] = []

    @property
    def channels(self) -> list[Channel]:
        """All channels."""
        return [outlet.channel for outlet in self._outlets]

    def start(self) -> None:
        """Begin; a channel that is new begins at the topic's present end. Raises `Transient`."""
        if not self._outlets:
            return
        end = end_offsets(self._bootstrap, ALERTS.name).get(0, 0)
        for outlet in self._outlets:
            self.log.begin(outlet.channel.name, end)
        places = self.log.places()
        start = min(places[outlet.channel.name] for outlet in self._outlets)
        tail = Tail(self._bootstrap, ALERTS.name, start={0: start}, client_id="headrace-delivery")
        work = [("reader", partial(self._read, tail, places))]
        work += [(outlet.channel.name, partial(self._serve, outlet)) for outlet in self._outlets]
        for name, run in work:
            thread = threading.Thread(target=self._guarded, args=(run,), name=f"deliver-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End; what is on its way may be sent again after a restart."""
        self._stopping.set()
        for event in self._woken.values():
            event.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def take(self, record: TailRecord, places: dict[str, int]) -> None:
        """Note what one record of the alerts topic means for each channel."""
        step = alerts.read(record.value)
        muted = step is not None and muted_by(step, self._mutes()) is not None
        for channel, _ in self._outlets:
            if record.offset < places[channel.name]:
                continue
            wanted = step
            if step is not None and not channel.begins(step) and not self.log.knows(channel.name, step.fired):
                wanted = None
            places[channel.name] = record.offset + 1
            self.log.note(
                channel.name, record.offset + 1, wanted, "muted" if muted else "waiting", self._now()
            )
            self._woken[channel.name].set()

    def attempt(self, outlet: Outlet, delivery: Delivery) -> None:
        """Send one, and note what came of it."""
        error, for_good = told(outlet, delivery.alert)
        now = self._now()
        if not error:
            status: Status = "delivered"
        elif for_good or now - delivery.since >= self._give_up_ms:
            status = "given_up"
        else:
            status = "waiting"
        self.log.attempted(delivery.number, status, now, due=now + self._pause_ms(delivery), error=error)
        self._counted(outlet.channel.name, status)
        if error:
            log.warning(
                "not delivered", channel=outlet.channel.name, step=delivery.alert.id, error=error,
                attempt=delivery.attempts + 1, given_up=status == "given_up",
            )  # fmt: skip

    def test(self, name: str, alert: Alert) -> str:
        """Tell one channel of this at once; what went wrong, or "". Raises `KeyError` if there is no such channel."""
        return told({outlet.channel.name: outlet for outlet in self._outlets}[name], alert)[0]

    def _pause_ms(self, delivery: Delivery) -> int:
        pause = min(self._first_pause * 2.0 ** min(delivery.attempts, 30), LONGEST_PAUSE_SECONDS)
        return int(1000 * pause * self._random.uniform(0.75, 1.25))

    def _read(self, tail: Tail, places: dict[str, int]) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    records = tail.read(READ_RECORDS, IDLE_SECONDS)
                except Transient as error:
                    log.warning("alerts cannot be read for now", error=str(error))
                    self._stopping.wait(AWAY_SECONDS)
                    continue
                for record in records:
                    self.take(record, places)
        finally:
            tail.close()

    def _serve(self, outlet: Outlet) -> None:
        name = outlet.channel.name
        woken = self._woken[name]
        while not self._stopping.is_set():
            woken.clear()
            delivery = self.log.next_due(name, self._now())
            if delivery is None:
                woken.wait(IDLE_SECONDS)
            else:
                self.attempt(outlet, delivery)

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            if not self._stopping.is_set():
                log.exception("deliveries stop")
                self._fail(f"alerts cannot be delivered: {error}")

    def _now(self) -> int:
        return int(self._wall() * 1000)


def told(outlet: Outlet, alert: Alert) -> tuple[str, bool]:
    """Tell a channel; why it was not taken (without secrets; "": it was), and whether it never will be."""
    try:
        outlet.tell(alert)
    except NotTaken as refusal:
        return str(refusal), refusal.for_good
    except Refused as refusal:
        return str(refusal), False
    except TimeoutError:
        return "it did not answer in time", False
    except Exception as failure:  # its text may hold the URL, and that a secret
        return type(failure).__name__, False
    return "", False
