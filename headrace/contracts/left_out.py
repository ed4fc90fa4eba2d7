"""What a fold of the log leaves out: subjects, sources, ranges of offsets or of event time.

The log itself never changes; undoing poisoned data or forgetting a person is the same fold without those records. Only
observations and labels can be left out: contracts and deployments say what the rest means. A label whose observation
was left out finds none and comes to nothing; an observation whose label was left out waits until it expires.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from headrace.contracts.times import parse_ms, to_text
from headrace.errors import Unusable


class Leavable(Protocol):
    """What an observation and a label have in common."""

    @property
    def entity(self) -> str:
        """Whose it is."""
        ...

    @property
    def source(self) -> str:
        """Where it came from."""
        ...

    @property
    def at(self) -> int:
        """Event time, milliseconds."""
        ...


class OffsetRange(NamedTuple):
    """Offsets start <= offset < end of one partition of the log."""

    partition: int
    start: int
    end: int


class TimeRange(NamedTuple):
    """Event times start <= at < end, in milliseconds since 1970 UTC."""

    start: int
    end: int


class LeftOut(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Records that are left out: those of any of these. Empty: nothing is."""

    entities: list[str] = []
    sources: list[str] = []
    offsets: list[OffsetRange] = []
    times: list[TimeRange] = []

    def __bool__(self) -> bool:
        return bool(self.entities or self.sources or self.offsets or self.times)

    def covers(self, record: Leavable, partition: int, offset: int) -> bool:
        """Whether this record is left out."""
        return (
            record.entity in self.entities
            or (bool(self.sources) and record.source in self.sources)
            or any(part.partition == partition and part.start <= offset < part.end for part in self.offsets)
            or any(span.start <= record.at < span.end for span in self.times)
        )


class Below(NamedTuple):
    """What is left out below an offset of the partition; None: wherever it stands."""

    left_out: LeftOut
    offset: int | None = None


FORMS = "entity:ID, source:NAME, offsets:PARTITION:FROM..TO or time:FROM..TO"


def parse(texts: list[str]) -> LeftOut:
    """Read what people write, each one of `FORMS`; FROM is included, TO is not. Raises `Unusable`."""
    entities: list[str] = []
    sources: list[str] = []
    offsets: list[OffsetRange] = []
    times: list[TimeRange] = []
    for text in texts:
        kind, _, what = text.partition(":")
        try:
            if kind == "entity" and what:
                entities.append(what)
            elif kind == "source" and what:
                sources.append(what)
            elif kind == "offsets":
                partition, _, span = what.partition(":")
                offsets.append(OffsetRange(int(partition), *_span(span, int)))
            elif kind == "time":
                times.append(TimeRange(*_span(what, parse_ms)))
            else:
                raise ValueError("it begins with none of these")
        except ValueError as error:
            raise Unusable(f"{text!r} does not say what to leave out ({error}); write {FORMS}") from None
    return LeftOut(entities, sources, offsets, times)


def describe(left_out: LeftOut) -> list[str]:
    """As `parse` reads it."""
    return [
        *(f"entity:{entity}" for entity in left_out.entities),
        *(f"source:{source}" for source in left_out.sources),
        *(f"offsets:{part.partition}:{part.start}..{part.end}" for part in left_out.offsets),
        *(f"time:{to_text(span.start)}..{to_text(span.end)}" for span in left_out.times),
    ]


def _span(text: str, read: Callable[[str], int]) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    if not dots:
        raise ValueError("a range is FROM..TO")
    start, end = read(first), read(last)
    if start >= end:
        raise ValueError("a range begins before it ends")
    return start, end
