"""The control plane without its transport: tables, rules, told alerts, and alerts that wait to be sent.

Everything here belongs to the event loop's thread. Told alerts are part of the state: a scope goes on from its last
one, so after a restart `recover` reads the statistics and the alerts topic to their ends before anything is judged.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
import structlog

from headrace.contracts.events import Alert
from services.monitor.domain.rules import Rule
from services.monitor.domain.tables import Tables
from services.monitor.domain.watch import Watch

log = structlog.get_logger("headrace.monitor")

ALERTS_KEPT = 1_000

_decode_alert = msgspec.json.Decoder(Alert).decode


class ControlPlane:
    """Takes summaries in, gives alerts out.

    silent_seconds: partitions quiet for so long on `clock` (monotonic seconds) do not hold windows back.
    """

    def __init__(
        self, tables: Tables, *, silent_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tables = tables
        self.watch = Watch(tables)
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_KEPT)
        """The last alerts told, oldest first."""
        self.outbox: deque[Alert] = deque()
        """Alerts decided and not yet acknowledged by the broker; nothing is judged while there are any."""
        self.received = 0
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._began = clock()
        self._heard: dict[tuple[str, int], float] = {}
        self._changed: set[str] = set()

    def recover(self, statistics: Iterable[bytes | None], alerts: Iterable[bytes | None]) -> None:
        """Rebuild from the topics, each read from its start to its end."""
        for value in statistics:
            self.tables.apply(value)
        for value in alerts:
            try:
                told = _decode_alert(value)  # type: ignore[arg-type]  # None raises TypeError
            except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
                continue
            self.watch.remember(told)
            self.alerts.append(told)
        self._changed = set(self.tables.streams)
        log.info("recovered", streams=len(self.tables.streams), alerts=len(self.alerts))

    def use(self, rules: list[Rule]) -> None:
        """Put these rules in force."""
        self.watch.use(rules)

    def receive(self, value: bytes | None) -> None:
        """Merge one record of the statistics topic."""
        self.received += 1
        applied = self.tables.apply(value)
        if applied is None:
            return
        if applied.kind == "outcomes":
            self._heard[applied.stream, applied.partition] = self._clock()
        self._changed.add(applied.stream)
        self.watch.changed(applied)

    def judge(self) -> None:
        """Hold the rules against what has closed; what follows waits in `outbox`."""
        if self.outbox:
            return
        for stream in list(self.tables.streams):
            self.outbox.extend(self.watch.due(stream, self._silent(stream)))

    def sent(self, told: Alert) -> None:
        """The broker has the alert."""
        if self.outbox and self.outbox[0] is told:
            self.outbox.popleft()
        self.alerts.append(told)

    def take_changed(self) -> set[str]:
        """Streams whose tables changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def _silent(self, stream: str) -> set[int]:
        """Partitions of a stream's outcomes that nobody waits for."""
        table = self.tables.streams[stream]
        contract = table.contract
        partitions = {partition for kind, partition in table.totals if kind == "outcomes"}
        partitions |= set(range(contract.partitions if contract is not None else 0))
        before = self._clock() - self._silent_seconds
        return {place for place in partitions if self._heard.get((stream, place), self._began) < before}
