"""Offsets for bounds that people give as a time: only reading the log tells where event time gets there."""

from collections.abc import Callable, Sequence

from headrace.contracts.events import Label, Observation
from headrace.fold.log import decode
from headrace.history import History
from headrace.replay.plan import Bound


def places(
    history: History,
    name: str,
    partition: int,
    bounds: Sequence[Bound],
    told: Callable[[int], None] = lambda _: None,
) -> list[int]:
    """For each bound the offset of the first observation or label that is not before it; the end if there is none.

    Event time may go back in a log: a range from one place to another has all records between, whatever their time.
    """
    first, end = history.bounds(name, partition)
    found = [bound.value if bound.by == "offset" else None for bound in bounds]
    if None not in found:
        return [place for place in found if place is not None]
    for batch in history.read(name, partition, first, end):
        records, offsets, _ = decode(batch.offsets, batch.values)
        for record, offset in zip(records, offsets, strict=True):
            if isinstance(record, Observation | Label):
                for number, bound in enumerate(bounds):
                    if found[number] is None and not bound.is_after(record.at, offset):
                        found[number] = offset
        if None not in found:
            break
        told(batch.offsets[-1] + 1)
    return [end if place is None else place for place in found]
