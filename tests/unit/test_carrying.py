"""Which outputs carry a sampled record's `traceparent`, and which records are looked at."""

from typing import Any

from headrace.kafka.carrying import Carrier, headers_of
from headrace.processor import Batch, Outputs
from headrace.step import Run

PREDICTIONS, STATISTICS, REJECTED = ("s.predictions", 0), ("headrace.statistics", 0), ("s.rejected", 0)


def header(number: int) -> str:
    return f"00-{number + 1:032x}-{1:016x}-01"


class Spans:
    """Stands in for `Traces`: what the outputs carry is told by the record's offset."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def batch(self, _topic: str, _partition: int, _records: int, sampled: dict[int, str], _began: int) -> Any:
        self.seen.append(sorted(sampled))
        return {offset: f"span of {offset}" for offset in sampled}


class Echo:
    """A prediction of each record, the last record's first; and what never carries anything."""

    def process(self, batch: Batch) -> Outputs:
        said: Any = [{"key": b"e", "value": value} for value in reversed(batch.values)]
        return {PREDICTIONS: said, STATISTICS: list(said), REJECTED: list(said)}


class Record:
    """A message as the client gives it."""

    def __init__(self, offset: int, headers: list[tuple[str, bytes]] | None) -> None:
        self._offset, self._headers = offset, headers

    def topic(self) -> str:
        return "s.log"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers


def batch(first: int, end: int) -> Batch:
    offsets = list(range(first, end))
    return Batch("s.log", 0, offsets, [b"e"] * len(offsets), [b'{"id":"o%d"}' % offset for offset in offsets])


def fold(run: Run, sampled: set[int]) -> tuple[Outputs, Spans]:
    spans = Spans()
    carrier = Carrier(spans, None)  # type: ignore[arg-type]
    carrier.look(
        Record(
            offset, [("other", b"x"), ("traceparent", header(offset).encode())] if offset in sampled else None
        )
        for offset in range(10)
    )
    return carrier.feed(run, batch(0, 10)), spans


def test_an_output_carries_what_its_record_carried_wherever_it_stands() -> None:
    outputs, spans = fold(Run(Echo(), position=0, silent_until=0), {2, 7})  # type: ignore[arg-type]
    assert headers_of(outputs, PREDICTIONS) == {7: "span of 2", 2: "span of 7"}
    assert (headers_of(outputs, STATISTICS), headers_of(outputs, REJECTED)) == ({}, {})
    assert spans.seen == [[2, 7]]


def test_relived_records_are_not_told_again() -> None:
    outputs, spans = fold(Run(Echo(), position=3, silent_until=6), {2, 4, 7})  # type: ignore[arg-type]
    assert spans.seen == [[7]]
    assert list(headers_of(outputs, PREDICTIONS).values()) == ["span of 7"]


def test_without_a_sampled_record_the_outputs_are_the_processors_own() -> None:
    outputs, spans = fold(Run(Echo(), position=0, silent_until=0), set())  # type: ignore[arg-type]
    assert type(outputs) is dict
    assert spans.seen == []


def test_what_was_noted_of_an_earlier_turn_is_forgotten() -> None:
    spans = Spans()
    carrier = Carrier(spans, None)  # type: ignore[arg-type]
    carrier.look([Record(1, [("traceparent", header(1).encode())])])  # its batch was never folded
    carrier.look([Record(offset, None) for offset in range(10)])
    carrier.feed(Run(Echo(), position=0, silent_until=0), batch(0, 10))  # type: ignore[arg-type]
    assert spans.seen == []
