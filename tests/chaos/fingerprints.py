"""Whether the states that scoring stored are those of a clean fold of the same log, model by model.

The one place here that uses Headrace's own code, as a fingerprint is Headrace's own notion: a fresh shard folds the
log in one go, with no crash and no snapshot, and stops at each pointer of `S.checkpoints` to compare the fingerprints
that the pointer carries; snapshots that still lie on the disk are restored and compared too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import Unusable
from headrace.processor import Batch
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.scoring.processor import ScoringProcessor
from tests.chaos.follower import Logs, Record


class Compared(NamedTuple):
    """compared: fingerprints held against the clean fold. restored: of those states, how many still lay on the disk
    and were compared whole. at_end: states stored at the log's end. findings: what differs.
    """

    compared: int
    restored: int
    at_end: int
    findings: list[str]


def compare(logs: Logs, stream: str, home: Path, group: str) -> Compared:
    """Compare every state that was ever announced."""
    total, restored, at_end = 0, 0, 0
    findings: list[str] = []
    for (topic, partition), records in sorted(logs.items()):
        if topic != f"{stream}.log":
            continue
        folder = f"{group}/{topic}/{partition}"
        store = SnapshotStore(home / "snapshots", Keys.at(home / "snapshot.key")).within(folder)
        clean, at = ScoringProcessor(topic, partition), 0
        for offset, pointer in sorted(_pointers(logs[f"{stream}.checkpoints", partition], folder).items()):
            at = _fold(clean, topic, partition, records, at, offset)
            where = f"partition {partition} before offset {offset}"
            total += 1
            at_end += offset == records[-1].offset + 1
            right = clean.shard.fingerprints()
            if pointer["fingerprints"] != right:
                findings.append(f"{where}: fingerprints {pointer['fingerprints']} where {right} is right")
            stored = ScoringProcessor(topic, partition)
            try:
                stored.restore(store.get(pointer["digest"]))
            except Unusable:
                continue  # dropped since, or damaged by a fault
            restored += 1
            findings += _differences(where, stored, clean)
    return Compared(total, restored, at_end, findings)


def _pointers(records: list[Record], key: str) -> Mapping[int, Any]:
    return {
        pointer["offset"]: pointer
        for record in records
        if record.key == key.encode() and record.value
        for pointer in json.loads(record.value)["snapshots"]
    }


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
    mine, right = stored.shard, clean.shard
    lines = []
    if mine.counters != right.counters:
        lines.append(f"{where}: counters {mine.counters} where {right.counters} is right")
    if mine.fingerprints() != right.fingerprints():
        lines.append(
            f"{where}: restored fingerprints {mine.fingerprints()} where {right.fingerprints()} is right"
        )
    return lines
