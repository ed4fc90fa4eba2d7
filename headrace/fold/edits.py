"""Edits: what a replay changes of a log before it is folded."""

from collections.abc import Callable, Sequence

from headrace.contracts.events import Control, Label, LogRecord, Observation
from headrace.contracts.left_out import Below

Edit = Callable[[Sequence[LogRecord], Sequence[int]], tuple[Sequence[LogRecord], Sequence[int]]]
"""Changes records and their offsets, a run at a time. Must not depend on where runs end: the same log gives the same
edited log however it is cut."""


def leaving_out(below: Sequence[Below], partition: int) -> Edit:
    """The log without some of its observations and labels."""

    def is_kept(record: LogRecord, offset: int) -> bool:
        if not isinstance(record, Observation | Label):
            return True
        return not any(
            (end is None or offset < end) and left_out.covers(record, partition, offset)
            for left_out, end in below
        )

    return lambda records, offsets: _only(records, offsets, is_kept)


def controlling(control: Callable[[Control, int], LogRecord | None]) -> Edit:
    """The log with other control records: `control` is asked about each and its offset; None drops it."""

    def edit(
        records: Sequence[LogRecord], offsets: Sequence[int]
    ) -> tuple[Sequence[LogRecord], Sequence[int]]:
        if all(type(record) is Observation or type(record) is Label for record in records):
            return records, offsets
        kept: list[LogRecord] = []
        where: list[int] = []
        for record, offset in zip(records, offsets, strict=True):
            made = record if isinstance(record, Observation | Label) else control(record, offset)
            if made is not None:
                kept.append(made)
                where.append(offset)
        return kept, where

    return edit


def both(first: Edit, second: Edit) -> Edit:
    """One edit after the other."""
    return lambda records, offsets: second(*first(records, offsets))


def _only(
    records: Sequence[LogRecord], offsets: Sequence[int], is_kept: Callable[[LogRecord, int], bool]
) -> tuple[Sequence[LogRecord], Sequence[int]]:
    kept = [
        (record, offset) for record, offset in zip(records, offsets, strict=True) if is_kept(record, offset)
    ]
    return [record for record, _ in kept], [offset for _, offset in kept]
