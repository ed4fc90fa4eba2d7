"""Bounded stretches of a partition's log, predictions and outcomes, found without an index.

Predictions and outcomes are written in the order of the log, so that where the answers to an offset begin is found by
bisection: a dozen short reads, whatever the topic's length. What retention has removed is not there to be compared; how
much was read stands in the answer.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from headrace.contracts.events import DriftDetected
from headrace.contracts.statistics import ContractFacts
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, topic
from headrace.errors import Unusable
from headrace.history import History
from headrace.processor import Batch
from services.monitor.domain.columns import LogColumns, OutcomeColumns, PredictionColumns
from services.monitor.domain.reading import LogReader, read_outcomes, read_predictions
from services.monitor.domain.why.stretch import Stretch, join

SIDE = 20_000
"""Most records of the log on each side of the change: observations and labels."""
MORE = 2_000
"""Records behind the one that decided, as far as there are any."""
OUTCOMES_READ = 60_000
"""Most outcomes: labels come later than what they are of, and others come between."""
NEAR = 2_000
"""A bisection ends when so many records are left: they are read."""
BY_OUTCOMES = ("concept", "bias", "delay")
"""Kinds that are decided by a label, which may have come long after its observation."""


class Range(NamedTuple):
    """Offsets of the log: of the observations (start to end), and from which on their outcomes are looked for."""

    start: int
    end: int
    resolved_from: int


class _Placed(msgspec.Struct):
    offset: int


_decode_place = msgspec.json.Decoder(_Placed).decode


def around(drift: DriftDetected, first: int, latest: int | None) -> Range:
    """The stretch around an alarm.

    first: the oldest offset of the log that can be read, or that is to be compared. latest: where the next such change
    began, None if there was none yet.
    """
    since = began(drift)
    start = max(first, since - SIDE)
    end = min(max(drift.offset, since) + MORE, since + SIDE)
    if latest is not None:
        end = min(end, max(latest, drift.offset + 1))
    late = drift.offset + MORE - OUTCOMES_READ if drift.kind in BY_OUTCOMES else start
    return Range(start, end, max(start, late))


def began(drift: DriftDetected) -> int:
    """With which offset of the log the change began, as far as is known."""
    return drift.since_offset if drift.since_offset >= 0 else drift.offset


def read(
    history: History, stream: str, partition: int, facts: ContractFacts, wanted: Range, since: int
) -> tuple[Stretch, bool]:
    """The stretch, and whether all of it is there by now, labels included.

    Raises `Unusable` if no observation of one of the sides can be read, `Transient` while Kafka is away.
    """
    log = topic(LOG, stream)
    ended = history.bounds(log, partition).end >= wanted.end
    stretch = join(
        facts,
        _log(history, log, partition, wanted, facts),
        _predictions(history, topic(PREDICTIONS, stream), partition, wanted),
        _outcomes(history, topic(OUTCOMES, stream), partition, wanted),
        since,
    )
    return stretch, ended and bool(stretch.resolved[stretch.cut :].all())


def both_sides(stretch: Stretch) -> Stretch:
    """The stretch. Raises `Unusable` if one of its sides is empty."""
    if not 0 < stretch.cut < len(stretch.offsets):
        where = "before" if stretch.cut == 0 else "after"
        raise Unusable(f"no observation {where} the change can be read: nothing can be compared")
    return stretch


def locate(
    history: History, name: str, partition: int, wanted: int, place_of: Callable[[bytes | None], int | None]
) -> int:
    """An offset of a topic, not after its first record whose place in the log is `wanted` or later, and near to it.

    place_of: of a record; None if it has none.
    """
    low, high = history.bounds(name, partition)
    while high - low > NEAR:
        middle = (low + high) // 2
        found = _first(history, name, partition, middle, high, place_of)
        if found is None or found >= wanted:
            high = middle
        else:
            low = middle
    return low


def _first(
    history: History, name: str, partition: int, start: int, end: int,
    place_of: Callable[[bytes | None], int | None],
) -> int | None:  # fmt: skip
    for batch in history.read(name, partition, start, end):
        for value in batch.values:
            place = place_of(value)
            if place is not None:
                return place
    return None


def place_of(value: bytes | None) -> int | None:
    """Where in the log a prediction, or the record that resolved an outcome, is; None if it is no such record."""
    try:
        return _decode_place(value).offset  # type: ignore[arg-type]  # None raises TypeError
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return None


def _log(
    history: History, name: str, partition: int, wanted: Range, facts: ContractFacts
) -> Iterator[LogColumns]:
    reader = LogReader()
    reader.resume(facts, {})
    for batch in history.read(name, partition, wanted.start, wanted.end):
        yield from reader.read(batch.offsets, batch.values)


def _predictions(history: History, name: str, partition: int, wanted: Range) -> Iterator[PredictionColumns]:
    begin = locate(history, name, partition, wanted.start, place_of)
    for batch in _bounded(history, name, partition, begin, wanted.end - wanted.start + NEAR):
        columns = read_predictions(batch.offsets, batch.values)
        yield columns
        if any(one is not None and one.offset >= wanted.end for one in columns.records[-1:]):
            return


def _outcomes(history: History, name: str, partition: int, wanted: Range) -> Iterator[OutcomeColumns]:
    begin = locate(history, name, partition, wanted.resolved_from, place_of)
    for batch in _bounded(history, name, partition, begin, OUTCOMES_READ + NEAR):
        yield read_outcomes(batch.offsets, batch.values)


def _bounded(history: History, name: str, partition: int, begin: int, most: int) -> Iterator[Batch]:
    """Batches, up to so many records."""
    left = most
    for batch in history.read(name, partition, begin, history.bounds(name, partition).end):
        yield batch
        left -= len(batch.values)
        if left <= 0:
            return
