"""Reads a dataset's records again and holds them against what was measured.

What lies in the archive and in Kafka both is read from both: that the one is right says nothing about the other.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from headrace.archive.history import ArchiveFirst
from headrace.contracts.topics import LOG, topic
from headrace.datasets.digest import PartitionDigest, compare
from headrace.datasets.measure import archived
from headrace.datasets.measurement import Measurement, Stretch
from headrace.datasets.source import Source, belonging
from headrace.errors import Unusable
from headrace.history import History


class Wrong(NamedTuple):
    """Something that is not as it was measured. partition: of the log; says: what, and where, for people."""

    partition: int
    says: str


def verify(
    source: Source,
    stream: str,
    stretches: Sequence[Stretch],
    measured: Measurement,
    told: Callable[[int], None] = lambda _: None,
) -> list[Wrong]:
    """Everything that is wrong, at most three things a partition; empty: the records are those that were measured.

    Raises `Transient` while a keeper of the log is away.
    """
    name = topic(LOG, stream)
    by_partition = {stretch.partition: stretch for stretch in stretches}
    wrong: list[Wrong] = []
    done = 0
    for part in measured.partitions:
        stretch = by_partition[part.partition]
        for keeper, history in _readings(source, name, part):
            fault = _again(history, name, stretch, part)
            if fault:
                wrong.append(Wrong(part.partition, f"read from {keeper}: {fault}" if keeper else fault))
        done += part.end - part.start
        told(done)
    for known in measured.archived:
        stretch = Stretch(known.partition, known.start, known.end)
        try:
            found = archived(source, name, stretch) if source.archive is not None else known
        except Unusable as error:
            wrong.append(Wrong(known.partition, str(error)))
            continue
        if found is None or (found.entry, found.end) != (known.entry, known.end):
            wrong.append(
                Wrong(
                    known.partition, f"the archive of {name}/{known.partition} is another than was measured"
                )
            )
    return wrong


def _readings(source: Source, name: str, part: PartitionDigest) -> Iterator[tuple[str, History]]:
    """Ways to read the range that take a record from different keepers; named if there are two."""
    held = source.archive.bounds(name, part.partition) if source.archive is not None else None
    end = 0 if held is None else min(held.end, part.end)
    twice = (
        held is not None and max(held.first, part.start, source.live.bounds(name, part.partition).first) < end
    )
    yield ("Kafka" if twice else "", source.history)
    if twice and source.archive is not None:
        yield "the archive", ArchiveFirst(source.live, source.archive)


def _again(history: History, name: str, stretch: Stretch, part: PartitionDigest) -> str:
    """What is wrong with the records of a partition; "": nothing."""
    try:
        batches = history.read(name, part.partition, part.start, part.end)
        fault = compare(part, belonging(batches, stretch.left_out, part.partition))
    except Unusable as error:
        return str(error)
    if fault is None:
        return ""
    return f"{name}/{part.partition}: what lies in offsets {fault.first} to {fault.last} is not what was measured"
