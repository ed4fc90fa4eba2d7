"""The control plane without its transport: tables, rules, the lives of alerts, and what waits to be sent.

Everything here belongs to the event loop's thread. What was told is part of the state: a scope goes on from its last
alert, so after a restart `recover` reads statistics, drift, alerts and mutes to their ends before anything is judged.
Alerts and mutes are also heard from the topics (`hear`), as other processes tell some too; each id counts once.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog

from headrace.contracts.codec import decode_drift, decode_mute
from headrace.contracts.events import Alert, AlertsMuted, DriftDetected
from headrace.contracts.statistics import Kind
from services.monitor.domain import alerts
from services.monitor.domain.drifts import DriftWatch
from services.monitor.domain.life import Life, Lives, Mutes
from services.monitor.domain.rules import Rule
from services.monitor.domain.tables import Tables
from services.monitor.domain.watch import JUDGED, Watch

log = structlog.get_logger("headrace.monitor")

ALERTS_KEPT = 1_000
DRIFT_KEPT = 10_000

_BAD = (msgspec.MsgspecError, UnicodeDecodeError, TypeError)

Told = Alert | AlertsMuted


class Kept(NamedTuple):
    """A record of a topic: its value, and where and when (wall time, ms) it was written."""

    value: bytes | None
    offset: int
    written_at: int


class SeenDrift(NamedTuple):
    """An event of drift, and its place in the topic."""

    offset: int
    drift: DriftDetected


class ControlPlane:
    """Takes summaries and drift in, gives alerts out.

    silent_seconds: partitions quiet for so long on `clock` (monotonic seconds) do not hold windows back. wall: seconds
    since 1970, for what people wait for: escalation and mutes. champions: by stream, (model, version).
    """

    def __init__(
        self,
        tables: Tables,
        *,
        silent_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        champions: Callable[[], Mapping[str, tuple[str, int]]] = dict,
    ) -> None:
        self.tables = tables
        self.watch = Watch(tables)
        self.drift_watch = DriftWatch()
        self.rules: list[Rule] = []
        """The rules in force, in their order."""
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_KEPT)
        """The last steps told, oldest first."""
        self.lives = Lives()
        self.mutes = Mutes()
        self.drifts: deque[SeenDrift] = deque(maxlen=DRIFT_KEPT)
        """The last events of drift, oldest first."""
        self.outbox: deque[Told] = deque()
        """What is decided and not yet acknowledged by the broker; nothing is judged while there is any."""
        self.received = 0
        self.on_told: list[Callable[[Alert], None]] = []
        """Called with each step that is told, once, in their order."""
        self._on_sent: dict[int, Callable[[], None]] = {}
        self._drift_ids: set[str] = set()
        self._moved: deque[DriftDetected] = deque()
        self._uncounted: Counter[tuple[str, str]] = Counter()
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._wall = wall
        self._champions = champions
        self._began = clock()
        self._heard: dict[tuple[str, Kind, int], float] = {}
        self._changed: set[str] = set()

    def recover(
        self,
        statistics: Iterable[bytes | None],
        alerts: Iterable[Kept],
        drifts: Iterable[Kept] = (),
        mutes: Iterable[Kept] = (),
    ) -> None:
        """Rebuild from the topics, each read from its start to its end."""
        for value in statistics:
            self.tables.apply(value)
        for record in alerts:
            told = self.hear(record)
            if told is not None:
                (self.drift_watch if told.drift else self.watch).remember(told)
        for record in mutes:
            self.hear_mute(record)
        for record in drifts:
            self.receive_drift(record)
        self._uncounted.clear()  # they were counted in an earlier life
        self._changed = set(self.tables.streams)
        log.info("recovered", streams=len(self.tables.streams), alerts=len(self.alerts))

    def use(self, rules: list[Rule]) -> None:
        """Put these rules in force. One on drift that says something new looks at all drift that is kept."""
        if {rule.digest() for rule in rules if rule.drift} - {rule.digest() for rule in self.rules}:
            self._moved = deque(seen.drift for seen in self.drifts)
        self.rules = list(rules)
        self.watch.use(rules)
        self.drift_watch.use(rules)

    def receive(self, value: bytes | None) -> None:
        """Merge one record of the statistics topic."""
        self.received += 1
        applied = self.tables.apply(value)
        if applied is None:
            return
        self._heard[applied.stream, applied.kind, applied.partition] = self._clock()
        self._changed.add(applied.stream)
        self.watch.changed(applied)

    def receive_drift(self, record: Kept) -> None:
        """Take in one record of the drift topic, which has one partition; each record and each id counts once."""
        try:
            drift = decode_drift(record.value)  # type: ignore[arg-type]  # None raises TypeError
        except _BAD:
            return
        before = self.drifts[-1].offset if self.drifts else -1
        if record.offset <= before or drift.id in self._drift_ids:
            return
        if len(self.drifts) == DRIFT_KEPT:
            self._drift_ids.discard(self.drifts[0].drift.id)
        self.drifts.append(SeenDrift(record.offset, drift))
        self._drift_ids.add(drift.id)
        self._moved.append(drift)
        self._uncounted[drift.stream, drift.kind] += 1
        if len(self._moved) > DRIFT_KEPT:  # the oldest are long out of what is kept
            self._moved.popleft()

    def hear(self, record: Kept) -> Alert | None:
        """One record of the alerts topic; the alert, if it is a new one."""
        told = alerts.read(record.value)
        return told if told is not None and self._told(told, record.written_at) else None

    def hear_mute(self, record: Kept) -> None:
        """One record of the mutes topic."""
        try:
            self.mutes.tell(decode_mute(record.value))  # type: ignore[arg-type]  # None raises TypeError
        except _BAD:
            return

    def judge(self) -> None:
        """Hold the rules against what has closed and moved; what follows waits in `outbox`."""
        if self.outbox:
            return
        while self._moved:
            self.outbox.extend(self.drift_watch.meet(self._moved.popleft()))
        champions = self._champions()
        for stream, table in list(self.tables.streams.items()):
            self.outbox.extend(self.watch.due(stream, {kind: self._silent(stream, kind) for kind in JUDGED}))
            now = table.watermark()
            if now is not None:
                self.outbox.extend(self.drift_watch.passed(stream, now))
                if stream in champions:
                    self.outbox.extend(self.drift_watch.succeeded(stream, champions[stream], now))
        rules = {rule.name: rule for rule in self.rules}
        self.outbox.extend(self.lives.escalations(rules, self.now()))

    def acknowledge(self, life: Life, by: str, why: str, on_sent: Callable[[], None]) -> None:
        """Somebody has seen an alert."""
        self._enqueue(alerts.acknowledged(life.fired.alert, by, why), on_sent)

    def mute(self, mute: AlertsMuted, on_sent: Callable[[], None]) -> None:
        """A mute is made, or ended."""
        self._enqueue(mute, on_sent)

    def sent(self, told: Told, written_at: int | None = None) -> None:
        """The broker has it; written_at: since when, as everybody will read it (wall time, ms; None: now)."""
        if self.outbox and self.outbox[0] is told:
            self.outbox.popleft()
        if isinstance(told, Alert):
            self._told(told, self.now() if written_at is None else written_at)
        else:
            self.mutes.tell(told)
        on_sent = self._on_sent.pop(id(told), None)
        if on_sent is not None:
            on_sent()

    def now(self) -> int:
        """Wall time in milliseconds."""
        return int(self._wall() * 1000)

    def take_changed(self) -> set[str]:
        """Streams whose tables changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def take_drifted(self) -> Mapping[tuple[str, str], int]:
        """How often what has moved, by (stream, kind), since the last call."""
        drifted, self._uncounted = self._uncounted, Counter()
        return drifted

    def _enqueue(self, event: Told, on_sent: Callable[[], None]) -> None:
        self.outbox.append(event)
        self._on_sent[id(event)] = on_sent

    def _told(self, told: Alert, at: int) -> bool:
        if not self.lives.tell(told, at):
            return False
        self.alerts.append(told)
        for listener in self.on_told:
            listener(told)
        return True

    def _silent(self, stream: str, kind: Kind) -> set[int]:
        """Partitions of a kind of a stream's topics that nobody waits for."""
        table = self.tables.streams[stream]
        contract = table.contract
        partitions = {partition for of, partition in table.totals if of == kind}
        partitions |= set(range(contract.partitions if contract is not None else 0))
        before = self._clock() - self._silent_seconds
        return {place for place in partitions if self._heard.get((stream, kind, place), self._began) < before}
