"""What the models of this process cost: processor time and memory, measured beside the fold and told to the monitor.

The processor time of every stretch of records is known exactly (the thread's own clock, read at its ends). How it
divides between the models is looked at in every `EVERY`th only (their slots are given a clock for as long), and held
until the next look: timing every call would cost a light model too much. Nothing of this enters a snapshot, so a
process that dies takes with it what it had not told: at most `TELL_SECONDS` of work. What is folded again after a start
is work, and counts.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from headrace.contracts.topics import USAGE, stream_of
from headrace.contracts.usage import UsageReport, Used, decode_usage, encode_usage
from headrace.errors import HeadraceError
from headrace.fold.shard import Shard
from headrace.kafka.producer import LogProducer
from headrace.processor import Message

log = structlog.get_logger("headrace.scoring.usage")

EVERY = 23
"""Prime, so that what a model does now and then (every 4,000 examples a copy of itself) is not always missed."""
SIZING_PART = 200
"""A state is sized again after this many times the work that sizing it took: half a percent."""
TELL_SECONDS = 10.0
SEND_SECONDS = 30.0
WINDOWS_UNTOLD = 1_000
"""Windows of one shard that wait for the broker; beyond it the oldest is forgotten."""


class UsageMeter:
    """Measures one shard. Fed on the host's thread, asked on the teller's.

    length_seconds: of the event-time windows that amounts are charged to, each stretch to the one in which it ended.
    Before a shard has seen any event time, nothing is charged.
    """

    def __init__(self, stream: str, partition: int, length_seconds: int) -> None:
        self.stream = stream
        self.partition = partition
        self._length_seconds = length_seconds
        self._life = time.time_ns() // 1_000_000
        self._lock = threading.Lock()
        self._untold: dict[int, UsageReport] = {}
        self._present: UsageReport | None = None
        self._number = 0
        self._stretches = 0
        self._shares: dict[str, float] = {}
        self._bytes: dict[str, int] = {}
        self._worked_ns = 0
        self._size_at_ns = 0
        self._measured_at = time.monotonic()

    @contextmanager
    def measuring(self, shard: Shard, records: int) -> Iterator[None]:
        """Charge the models of a shard with what is done inside, to so many log records."""
        look = self._stretches % EVERY == 0 or list(self._shares) != _names(shard)
        self._stretches += 1
        slots = list(shard.slots.values()) if look else []
        for slot in slots:
            slot.clock = time.perf_counter_ns
        began, began_wall = time.thread_time_ns(), time.perf_counter_ns()
        try:
            yield
        finally:
            wall, cpu = time.perf_counter_ns() - began_wall, time.thread_time_ns() - began
            ticks = {f"{slot.model}@{slot.version}": slot.ticks for slot in slots}
            for slot in slots:
                slot.clock, slot.ticks = None, 0
        if look:
            self._shares = {name: min(1.0, spent / max(wall, 1)) for name, spent in ticks.items()}
        self._worked_ns += cpu
        if self._worked_ns >= self._size_at_ns:
            self._size(shard)
        self._charge(shard.watermark, records, cpu)

    def stored(self, shard: Shard) -> None:
        """A snapshot of the shard was taken: each model's state with it."""
        with self._lock:
            report = self._report(shard.watermark)
            if report is not None:
                for name, size in self._bytes.items():
                    report.models.setdefault(name, Used()).snapshot_bytes += size

    def untold(self) -> list[UsageReport]:
        """Copies of the reports that have changed since they were told, oldest window first."""
        with self._lock:
            self._number += 1
            for report in self._untold.values():
                report.number = self._number
            return [decode_usage(encode_usage(report)) for report in self._untold.values()]

    def told(self, reports: list[UsageReport]) -> None:
        """The broker has these; what has changed meanwhile is told again."""
        with self._lock:
            for report in reports:
                present = self._untold.get(report.start)
                if present == report:
                    del self._untold[report.start]

    def _charge(self, watermark: int, records: int, cpu_ns: int) -> None:
        now = time.monotonic()
        held, self._measured_at = now - self._measured_at, now
        with self._lock:
            report = self._report(watermark)
            if report is None:
                return
            report.records += records
            rest = cpu_ns
            for name, share in self._shares.items():
                used = report.models.setdefault(name, Used())
                part = int(cpu_ns * share)
                used.cpu_ns += part
                rest -= part
            report.shared.cpu_ns += rest
            for name, size in self._bytes.items():
                used = report.models.setdefault(name, Used())
                used.state_bytes = size
                used.byte_seconds += int(size * held)

    def _report(self, watermark: int) -> UsageReport | None:
        """The report on the window of an event time, to be changed; None before there is any."""
        if watermark <= 0:
            return None
        length = self._length_seconds * 1000
        start = watermark - watermark % length
        if self._present is None or self._present.start != start:
            self._present = UsageReport(
                self.stream, self.partition, self._length_seconds, start, self._life, self._number
            )
        if start not in self._untold:
            if len(self._untold) >= WINDOWS_UNTOLD:
                del self._untold[next(iter(self._untold))]
            self._untold[start] = self._present
        return self._present

    def _size(self, shard: Shard) -> None:
        began = time.thread_time_ns()
        sizes = [slot.state_bytes() for slot in shard.slots.values()]
        self._bytes = dict(zip(_names(shard), sizes, strict=True))
        self._size_at_ns = self._worked_ns + SIZING_PART * (time.thread_time_ns() - began)


class Usage:
    """The meters of a process, and the thread that tells what they have measured."""

    def __init__(self, bootstrap: str, instance: str, length_seconds: int) -> None:
        self._bootstrap = bootstrap
        self._instance = instance
        self._length_seconds = length_seconds
        self._meters: dict[tuple[str, int], UsageMeter] = {}
        self._ended: list[UsageMeter] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_round, name="usage", daemon=True)

    def meter(self, log_topic: str, partition: int) -> UsageMeter:
        """A meter for a shard that begins; one of the same partition before it is told once more and forgotten."""
        made = UsageMeter(stream_of(log_topic), partition, self._length_seconds)
        with self._lock:
            before = self._meters.get((log_topic, partition))
            if before is not None:
                self._ended.append(before)
            self._meters[log_topic, partition] = made
        return made

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Tell once more, and end."""
        self._stopping.set()
        self._thread.join(SEND_SECONDS)

    def _go_round(self) -> None:
        producer = LogProducer(self._bootstrap, client_id=f"headrace-usage-{self._instance}")
        try:
            while not self._stopping.wait(TELL_SECONDS):
                self._tell(producer)
            self._tell(producer)
        finally:
            producer.close(5.0)

    def _tell(self, producer: LogProducer) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
            meters = [*ended, *self._meters.values()]
        untold = [(meter, reports) for meter in meters if (reports := meter.untold())]
        messages: list[Message] = [
            {"key": report.key(), "value": encode_usage(report)}
            for _, reports in untold
            for report in reports
        ]
        try:
            producer.send(USAGE.name, messages, 0).result(SEND_SECONDS)
        except (HeadraceError, TimeoutError) as error:  # they are kept, and told with what comes
            log.warning("usage not told", reason=str(error))
            with self._lock:
                self._ended = [*ended, *self._ended]
            return
        for meter, reports in untold:
            meter.told(reports)


def _names(shard: Shard) -> list[str]:
    return [f"{slot.model}@{slot.version}" for slot in shard.slots.values()]
