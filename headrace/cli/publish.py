"""Sending a file through the front door: observations, and the labels that are withheld from them.

The label column is taken out of each row and sent as a label of its own, later (`--label-delay`), in the order in which
it would have become known, because a model that sees the answer beside the question shows numbers that no live system
will ever reach. Ids come from a column, or from file name and row number: publishing a file again then changes nothing,
as the fold drops ids it knows. Event time comes from a column; without one, row n lies n milliseconds after a base
that is chosen so that the last row is not in the future.
"""

import heapq
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Protocol

import msgspec

from headrace.cli import files
from headrace.client import Client, Receipt, ServiceProblem
from headrace.contracts.infer import convert_label, convert_row
from headrace.contracts.stream import StreamContract
from headrace.contracts.times import parse_ms
from headrace.errors import Unusable

BODY_LINES = 4_000
BODY_BYTES = 2 * 1024 * 1024
PACED_SECONDS = 0.2
"""With `--speed`, how long a line may wait for company."""

TOLD_SECONDS = 0.25
UNKNOWN_STREAM_SECONDS = 15.0
MAX_WAITING_LABELS = 1_000_000
SHOWN_REFUSALS = 5

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DELAY = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|rows?)")


class Delay(NamedTuple):
    """How long after its observation a label becomes known: event time, or a number of rows."""

    ms: int = 0
    rows: int = 0


class Dated(Protocol):
    """A line with its event time in ms."""

    @property
    def at(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class Line(NamedTuple):
    """A JSON line for the stream, its event time in ms, and whether it is a label."""

    at: int
    body: bytes
    is_label: bool


class Columns(NamedTuple):
    """Which columns of the file play which part; "" = none does."""

    label: str
    id: str
    time: str


@dataclass(slots=True)
class Sent:
    """What became of what was sent."""

    rows: int = 0
    observations: int = 0
    labels: int = 0
    accepted: int = 0
    rejected: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        """Count an answer of ingest."""
        self.accepted += receipt.accepted
        self.rejected += len(receipt.rejected)
        for refusal in receipt.rejected:
            self.rules[refusal.rule] += 1
            if len(self.examples) < SHOWN_REFUSALS:
                where = f" {refusal.field}:" if refusal.field else ""
                self.examples.append(f"{refusal.rule}:{where} {refusal.reason}")


def parse_delay(text: str) -> Delay:
    """Read `0s`, `90s`, `15min`, `2h`, `3d` or `100rows`. Raises `Unusable`."""
    found = _DELAY.fullmatch(text.strip().lower())
    if not found:
        raise Unusable(
            f"--label-delay {text}: write a time (90s, 15min, 2h, 3d) or a number of rows (100rows)"
        )
    number, unit = found.groups()
    if unit.startswith("row"):
        return Delay(rows=int(float(number)))
    return Delay(ms=round(float(number) * _UNITS_MS[unit]))


def choose_columns(
    contract: StreamContract, present: list[str], *, label: str = "", id: str = "", time_column: str = ""
) -> Columns:
    """Settle which column plays which part: what was said, else what the contract calls so. Raises `Unusable`."""
    for option, name in (("--label-column", label), ("--id-column", id), ("--time-column", time_column)):
        if name and present and name not in present:
            raise Unusable(f"{option} {name}: the file has no such column; it has {', '.join(present)}")
    chosen = Columns(
        label or (contract.label.name if contract.label.name in present else ""),
        id
        or (contract.id if contract.id in present else "id" if "id" in present and not contract.id else ""),
        time_column or (contract.event_time if contract.event_time in present else ""),
    )
    if contract.event_time and not chosen.time:
        raise Unusable(
            f"the stream takes its event time from {contract.event_time!r} and the file has no such column; "
            "say which one it is with --time-column"
        )
    return chosen


class Reader:
    """Turns the rows of a file into lines, labels withheld and put where they belong.

    Values become the contract's types; what cannot is sent as it is, for ingest to refuse by name. now_ms: the clock,
    ms since 1970 UTC. total: at least the number of rows.
    """

    def __init__(
        self,
        contract: StreamContract,
        columns: Columns,
        delay: Delay,
        name: str,
        *,
        now_ms: int,
        total: int,
    ) -> None:
        self._contract = contract
        self._columns = columns
        self._delay = delay
        self._name = name
        self._now_ms = now_ms
        # Without a time column the last label, too, must not lie in the future.
        self._base_ms = now_ms - total - delay.ms
        self._encode = msgspec.json.Encoder().encode
        self._waiting: list[tuple[int, int, dict[str, Any]]] = []
        self._reached = 0
        self.rows = 0
        self.observations = 0
        self.labels = 0

    def lines(self, rows: Iterable[files.Row]) -> Iterator[Line]:
        """All lines in the order in which they became known; one time, labels first."""
        by_time = self._delay.ms > 0
        for number, row in enumerate(rows, 1):
            at, observation, label = self._take_apart(row, number)
            self._reached = max(self._reached, at)
            yield from self._due(self._reached if by_time else number - 1)
            self.rows = number
            self.observations += 1
            yield Line(at, self._encode(observation), False)
            if label is not None:
                self._park(at + self._delay.ms if by_time else number + self._delay.rows, number, label)
            if not by_time and not self._delay.rows:
                yield from self._due(number)
        yield from self._due(None)

    def _take_apart(self, row: files.Row, number: int) -> tuple[int, files.Row, files.Row | None]:
        """Event time, the observation and the label of a row."""
        columns, contract = self._columns, self._contract
        observation = convert_row(contract, row)
        if contract.id and columns.id == contract.id and contract.id in observation:
            identity = str(observation[contract.id])
        else:
            identity = (
                str(row.get(columns.id) or f"{self._name}:{number}")
                if columns.id
                else f"{self._name}:{number}"
            )
            observation["id"] = identity
        if columns.time:
            known_at = observation.get(columns.time, row.get(columns.time))
            at = _milliseconds(known_at, columns.time, number)
        else:
            at = self._base_ms + number
        observation[contract.event_time or "at"] = at
        value = convert_label(contract, row.get(columns.label)) if columns.label else None
        if value is None:
            return at, observation, None
        label = {"type": "label", "id": identity, "label": value, "at": at}
        if contract.entity and contract.entity in observation:
            label["entity"] = str(observation[contract.entity])
        return at, observation, label

    def _park(self, key: int, number: int, label: files.Row) -> None:
        if len(self._waiting) >= MAX_WAITING_LABELS:
            raise Unusable(
                f"over {MAX_WAITING_LABELS:,} labels wait for their time; use a shorter --label-delay"
            )
        heapq.heappush(self._waiting, (key, number, label))

    def _due(self, bound: int | None) -> Iterator[Line]:
        """Labels whose key is at most `bound` (None: all that are left)."""
        while self._waiting and (bound is None or self._waiting[0][0] <= bound):
            key, _, label = heapq.heappop(self._waiting)
            if self._delay.ms:
                # A live file: its last labels lie ahead of the clock, and nothing is known before its time.
                label["at"] = min(key, max(self._now_ms, label["at"]))
            else:
                label["at"] = max(self._reached, label["at"])
            self.labels += 1
            yield Line(key if self._delay.ms else self._reached, self._encode(label), True)


class Pace:
    """Event time against the clock: when the moment of an event comes, at `speed` times real time (None: now)."""

    def __init__(self, speed: float | None) -> None:
        if speed is not None and speed <= 0:
            raise Unusable("--speed must be above 0 (1 is real time)")
        self.speed = speed
        self._first: int | None = None
        self._started = 0.0

    def wait_seconds(self, at: int) -> float:
        """How long until then; 0 if it is time, or if there is no pace."""
        if self.speed is None:
            return 0.0
        if self._first is None:
            self._first, self._started = at, time.monotonic()
        due = self._started + (at - self._first) / 1000 / self.speed
        return max(0.0, due - time.monotonic())


def bodies(lines: Iterable[Dated], pace: Pace) -> Iterator[list[bytes]]:
    """Lines in bodies, one a request. With a pace no line goes early, nor waits over `PACED_SECONDS` for others."""
    body: list[bytes] = []
    held_bytes = 0
    opened = time.monotonic()
    for line in lines:
        wait = pace.wait_seconds(line.at)
        if body and wait > 0 and time.monotonic() + wait - opened > PACED_SECONDS:
            yield body
            body, held_bytes = [], 0
        if wait > 0:
            time.sleep(pace.wait_seconds(line.at))
        if not body:
            opened = time.monotonic()
        body.append(line.body)
        held_bytes += len(line.body)
        overdue = pace.speed is not None and time.monotonic() - opened > PACED_SECONDS
        if len(body) >= BODY_LINES or held_bytes >= BODY_BYTES or overdue:
            yield body
            body, held_bytes = [], 0
    if body:
        yield body


def send(
    client: Client, stream: str, bodies: Iterable[list[bytes]], *, told: Callable[[int], None], sent: Sent
) -> int:
    """Send bodies in order, each after the last was acknowledged; the next is made ready meanwhile.

    Order in the log is what models see, so there is never more than one on its way. `told` hears every so often how
    many lines are through. Returns their number.
    """
    done = size = 0
    flying: Future[Receipt] | None = None
    # Leaving the pool waits for the body on its way: after Ctrl-C it is in the log or it is not, never in between.
    with ThreadPoolExecutor(1, thread_name_prefix="publish") as pool:
        for body in chain(bodies, [None]):
            while flying is not None:
                try:
                    sent.add(flying.result(timeout=TOLD_SECONDS))
                    done += size
                    flying = None
                except TimeoutError:
                    pass
                told(done)
            if body is not None:
                flying, size = pool.submit(_publish, client, stream, body), len(body)
    return done


def _publish(client: Client, stream: str, body: list[bytes]) -> Receipt:
    """Publish; ingest hears of a new stream a moment after its creation, so its first 404 is not the last word."""
    deadline = time.monotonic() + UNKNOWN_STREAM_SECONDS
    while True:
        try:
            return client.publish(stream, body, "events")
        except ServiceProblem as problem:
            if problem.status != 404 or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _milliseconds(value: Any, column: str, number: int) -> int:
    """Event time as ms since 1970 UTC: RFC 3339 text (UTC if it names no zone), or a number of seconds or ms."""
    if isinstance(value, str):
        try:
            return parse_ms(value.strip())
        except ValueError:
            pass
        try:
            value = float(value)
        except ValueError:
            raise Unusable(
                f"row {number}: {column} = {value[:40]!r} is no time (RFC 3339, or seconds or ms)"
            ) from None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        # Seconds stay below 1e11 until the year 5138; milliseconds passed it in 1973.
        return round(value) if abs(value) >= 1e11 else round(value * 1000)
    raise Unusable(f"row {number}: {column} has no time, and every row needs one")
