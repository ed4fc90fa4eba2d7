"""The rules of a partition's chain: what an entry says, what it is called, and which entry may follow which.

Pure, so that the rules can be read in one place and tested without a store. What would break: an entry whose name did
not follow from its start alone could be created twice for one range, by an archiver and its zombie.
"""

import hashlib
import re
from typing import NamedTuple

import msgspec

import headrace
from headrace.errors import Unusable

CODE = f"headrace {headrace.__version__}"

ENTRIES = "entries"
SEGMENTS = "segments"

_ENTRY_NAME = re.compile(r"(\d{20})\.json")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One link: the records with start <= offset < end that were committed, all of them.

    first: the oldest offset held; above `start` only in the chain's root, if older ones were gone when the archive
    began. records, bytes: of this segment. segment: sha256 of its bytes. written_at: ms since 1970, by the archiver's
    clock. previous: sha256 of the entry before, "" in the root. number, all_records, all_bytes: links, records and
    bytes up to and with this one. code: what wrote it.
    """

    start: int
    end: int
    first: int
    records: int
    bytes: int
    segment: str
    written_at: int
    previous: str
    number: int
    all_records: int
    all_bytes: int
    code: str = CODE


class Segment(NamedTuple):
    """The records with first <= offset < end, encoded, not yet in a chain. digest: sha256 of data."""

    first: int
    end: int
    records: int
    data: bytes
    digest: str


class Link(NamedTuple):
    """An entry and the sha256 of its bytes, which the next one must name."""

    entry: Entry
    digest: str


_decode = msgspec.json.Decoder(Entry).decode


def digest_of(data: bytes) -> str:
    """sha256, as the archive writes digests."""
    return hashlib.sha256(data).hexdigest()


def entry_path(start: int) -> str:
    """The name of the entry whose range starts there; sorts as the numbers do."""
    return f"{ENTRIES}/{start:020d}.json"


def start_of(name: str) -> int | None:
    """The start that a file name in `entries` stands for; None if it is none of ours."""
    match = _ENTRY_NAME.fullmatch(name)
    return int(match[1]) if match else None


def segment_path(entry: Entry) -> str:
    """Where an entry's segment lies: found by its offset, addressed by its content."""
    return f"{SEGMENTS}/{entry.start:020d}-{entry.segment}.parquet"


def following(last: Link | None, segment: Segment, written_at: int) -> Entry:
    """The entry that puts `segment` behind `last` (None: it is the chain's root)."""
    before = last.entry if last else None
    start = before.end if before else 0
    if segment.first < start or (before and segment.first > start) or segment.end <= segment.first:
        raise ValueError(f"a segment of offsets {segment.first} to {segment.end} cannot follow {start}")
    return Entry(
        start=start,
        end=segment.end,
        first=segment.first,
        records=segment.records,
        bytes=len(segment.data),
        segment=segment.digest,
        written_at=written_at,
        previous=last.digest if last else "",
        number=before.number + 1 if before else 1,
        all_records=segment.records + (before.all_records if before else 0),
        all_bytes=len(segment.data) + (before.all_bytes if before else 0),
    )


def checked(where: str, start: int, data: bytes, before: Link | None) -> Link:
    """The link that `data` is, found under the name for `start`.

    before: the one it must follow; None if that is not looked at.
    Raises `Unusable` naming `where` if it is damaged, contradicts itself, or does not follow.
    """
    try:
        entry = _decode(data)
    except msgspec.MsgspecError as error:
        raise Unusable(f"archive entry {where} is damaged: {error}") from None
    if entry.start != start or not entry.start <= entry.first < entry.end or entry.records < 1:
        raise Unusable(f"archive entry {where} is damaged: it contradicts itself or its name")
    if start not in (0, entry.first):
        raise Unusable(f"archive entry {where} is damaged: only the first one may begin late")
    if (start == 0) != (entry.previous == "") or (start == 0) != (entry.number == 1):
        raise Unusable(f"archive entry {where} is damaged: only the first one has none before it")
    if before is not None:
        if before.entry.end != start:
            raise Unusable(
                f"archive entry {where} does not follow the one before it, which ends at {before.entry.end}: "
                f"an entry is missing"
            )
        if (
            entry.previous != before.digest
            or entry.number != before.entry.number + 1
            or entry.all_records != before.entry.all_records + entry.records
            or entry.all_bytes != before.entry.all_bytes + entry.bytes
        ):
            raise Unusable(
                f"archive entry {where} was not written after the entry that lies before it: "
                f"one of the two was replaced"
            )
    return Link(entry, digest_of(data))
