"""Measures ranges of a log: their digest, what is in them, how good it is. One pass, bounded memory.

Rejected records never enter the log, so they are found by time: those that were written to `S.rejected` from when the
range's first record was written until the first one behind it was. Kafka alone knows those times, and only of records
that it still has; where it has not, the answer is that it cannot be told, and why.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from headrace.contracts.topics import LOG, REJECTED, topic
from headrace.datasets.digest import PartitionDigest, RecordDigest, most_marks, whole
from headrace.datasets.measurement import Archived, Measurement, Rejections, Stretch, bounded
from headrace.datasets.profiler import Profiler
from headrace.datasets.source import Source, Written, belonging
from headrace.errors import Unusable
from headrace.history import chunks
from headrace.processor import Batch

MOST_RULES = 100
OTHER = "other"


class _Refused(msgspec.Struct, gc=False):
    """What is counted of a rejected record."""

    rule: str
    origin: str = ""


_decode_refused = msgspec.json.Decoder(_Refused).decode

Told = Callable[[int], None]
"""Told how many offsets have been read so far."""


def measure(
    source: Source,
    stream: str,
    stretches: Sequence[Stretch],
    made_ms: int,
    told: Told = lambda _: None,
) -> Measurement:
    """Measure stretches of a stream's log, at most one a partition.

    made_ms: rejected records written later do not count. Raises `Unusable` if records are gone, damaged or not there
    yet, `Transient` while their keeper is away.
    """
    name = topic(LOG, stream)
    profiler = Profiler()
    parts: list[PartitionDigest] = []
    left_out = done = 0

    def leave_out(count: int) -> None:
        nonlocal left_out
        left_out += count

    for stretch in sorted(stretches, key=lambda one: one.partition):
        end = source.history.bounds(name, stretch.partition).end
        if stretch.end > end:
            raise Unusable(f"{name}/{stretch.partition} ends at offset {end}, before {stretch.end}")
        digest = RecordDigest(most=most_marks(len(stretches)))
        profiler.begin(stretch.contract)
        batches = source.history.read(name, stretch.partition, stretch.start, stretch.end)
        kept = belonging(batches, stretch.left_out, stretch.partition, leave_out)
        for offsets, values in chunks(_hashed(kept, digest)):
            profiler.feed(offsets, values)
            told(done + offsets[-1] + 1 - stretch.start)
        done += stretch.end - stretch.start
        profiler.end()
        parts.append(digest.part(stretch.partition, stretch.start, stretch.end))
    quality = profiler.quality(left_out)
    rejected = _share(_rejections(source.written, stream, stretches, made_ms), quality.sent)
    return bounded(
        Measurement(
            whole(parts),
            parts,
            msgspec.structs.replace(quality, rejected=rejected),
            profiler.profile(),
            [found for one in stretches if (found := archived(source, name, one)) is not None],
        )
    )


def archived(source: Source, name: str, stretch: Stretch) -> Archived | None:
    """What the archive has of a stretch; None: nothing. Raises `Unusable` if its chain is damaged there."""
    held = source.archive.bounds(name, stretch.partition) if source.archive else None
    if source.archive is None or held is None:
        return None
    start, end = max(stretch.start, held.first), min(stretch.end, held.end)
    if start >= end:
        return None
    for entries, link in enumerate(source.archive.links(name, stretch.partition, start), start=1):
        if link.entry.end >= end:
            return Archived(stretch.partition, start, end, entries, link.digest)
    raise Unusable(
        f"archive of {name}/{stretch.partition}: the entry that reaches to offset {end} is missing"
    )


def _hashed(batches: Iterator[Batch], digest: RecordDigest) -> Iterator[Batch]:
    for batch in batches:
        digest.update(batch)
        yield batch


def _share(found: Rejections, sent: int) -> Rejections:
    if found.records is None or not found.records + sent:
        return found
    return msgspec.structs.replace(found, share=found.records / (found.records + sent))


def _rejections(
    written: Written | None, stream: str, stretches: Sequence[Stretch], made_ms: int
) -> Rejections:
    log, name = topic(LOG, stream), topic(REJECTED, stream)
    if written is None:
        return Rejections(untold="when the records were written is not known")
    if len(stretches) < written.partitions(log):
        return Rejections(untold="a rejected record belongs to no partition, and the range leaves some out")
    sinces, untils = [], []
    for one in stretches:
        if written.bounds(log, one.partition).first > one.start:
            return Rejections(untold=f"Kafka no longer has all of {log}/{one.partition}")
        since = written.written_ms(log, one.partition, one.start)
        behind = written.written_ms(log, one.partition, one.end)
        sinces.append(0 if one.start == 0 or since is None else since)
        untils.append(made_ms if behind is None else min(behind, made_ms))
    since, until = min(sinces), max(untils)
    rules: dict[str, int] = {}
    for partition in range(written.partitions(name)):
        first, end = written.bounds(name, partition)
        start = written.place_at(name, partition, since) if since else first
        if first and start <= first:
            return Rejections(untold=f"{name}/{partition} no longer reaches back to where the range begins")
        end = min(end, written.place_at(name, partition, until))
        _count(rules, written.read(name, partition, start, end), f"{log}/")
    return Rejections(sum(rules.values()), None, dict(sorted(rules.items())))


def _count(rules: dict[str, int], batches: Iterator[Batch], log: str) -> None:
    """Count rejected records by rule; those that were in the log are counted as refused."""
    for batch in batches:
        for value in batch.values:
            try:
                refused = _decode_refused(value or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if not refused.origin.startswith(log):
                rule = refused.rule if refused.rule in rules or len(rules) < MOST_RULES else OTHER
                rules[rule] = rules.get(rule, 0) + 1
