"""Whether the states that scoring stored are those of a clean fold of the same log, model by model.

The one place here that uses Headrace's own code, as a fingerprint is Headrace's own notion: a fresh shard folds the
log in one go, with no crash and no snapshot, and stops at each pointer of `S.checkpoints` whose snapshot still lies
on the disk, to compare.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import Unusable
from headrace.processor import Batch
from headrace.snapshots import SnapshotStore
from services.scoring.processor import ScoringProcessor
from tests.chaos.follower import Logs, Record


class Compared(NamedTuple):
    """compared: states held against the clean fold. at_end: of those, at the log's end. findings: what differs."""

    compared: int
    at_end: int
    findings: list[str]


def compare(logs: Logs, stream: str, home: Path, group: str) -> Compared:
    """Compare every stored state that a pointer names and that is undamaged."""
    store = SnapshotStore(home / "snapshots", (home / "snapshot.key").read_bytes())
    total, at_end = 0, 0
    findings: list[str] = []
    for (topic, partition), records in sorted(logs.items()):
        if topic != f"{stream}.log":
            continue
        pointers = _pointers(logs, stream, partition, f"{group}/{topic}/{partition}")
        end = records[-1].offset + 1
        clean, at = ScoringProcessor(topic, partition), 0
        for offset, digest in sorted(pointers.items()):
            stored = ScoringProcessor(topic, partition)
            try:
                stored.restore(store.get(digest))
            except Unusable:
                continue  # dropped since, or damaged by a fault
            at = _fold(clean, topic, partition, records, at, offset)
            total += 1
            at_end += offset == end
            findings += _differences(f"partition {partition} before offset {offset}", stored, clean)
    return Compared(total, at_end, findings)


def _pointers(logs: Logs, stream: str, partition: int, key: str) -> Mapping[int, str]:
    found = {}
    for record in logs[f"{stream}.checkpoints", partition]:
        if record.key == key.encode() and record.value:
            pointer = json.loads(record.value)
            found[pointer["offset"]] = pointer["digest"]
    return found


def _fold(
    clean: ScoringProcessor, topic: str, partition: int, records: list[Record], at: int, until: int
) -> int:
    """Feed the records from number `at` on that lie below offset `until`; returns the next number."""
    end = at
    while end < len(records) and records[end].offset < until:
        end += 1
    part = records[at:end]
    if part:
        columns: Any = ([r.offset for r in part], [r.key for r in part], [r.value for r in part])
        clean.process(Batch(topic, partition, *columns))
    return end


def _differences(where: str, stored: ScoringProcessor, clean: ScoringProcessor) -> list[str]:
    lines = []
    if stored.shard.counters != clean.shard.counters:
        lines.append(f"{where}: counters {stored.shard.counters} where {clean.shard.counters} is right")
    mine, right = _fingerprints(stored), _fingerprints(clean)
    if mine != right:
        lines.append(f"{where}: fingerprints {mine} where {right} is right")
    return lines


def _fingerprints(processor: ScoringProcessor) -> dict[str, str]:
    return {name: slot.fingerprint() for name, slot in processor.shard.slots.items()}
