"""Holds what came out against what was acknowledged and against the log. Knows nothing of the services.

Each check gives findings, one line each; a run without findings kept every promise. `lost`, `doubled` and `wrong` are
counted apart, as those are the numbers to be told.
"""

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.follower import Logs, Record
from tests.chaos.load import Sent
from tests.chaos.oracle import Expected, Model, roc_auc

SHOWN = 5
NEAR = 1e-9
"""Sums of floats may be added in another order."""


@dataclass
class Verdict:
    """What was found. findings: the name of a check -> lines."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)

    def find(self, check: str, lines: Iterable[str]) -> int:
        """Add findings; returns how many."""
        found = list(lines)
        if found:
            self.findings.setdefault(check, []).extend(found)
        return len(found)

    def shown(self) -> list[str]:
        """The first findings of each check, for people."""
        return [
            f"{check}: {len(lines)}, as {line}"
            for check, lines in self.findings.items()
            for line in lines[:SHOWN]
        ]


def expected(logs: Logs, stream: str) -> dict[int, Expected]:
    """The log, replayed by the oracle, by partition."""
    replayed = {}
    for (topic, partition), records in sorted(logs.items()):
        if topic == f"{stream}.log":
            replayed[partition] = one = Expected()
            for record in records:
                one.feed(record.offset, record.value or b"")
    return replayed


def check(logs: Logs, stream: str, sent: Sent, replayed: Mapping[int, Expected]) -> Verdict:
    """All that topics and acknowledgements can tell."""
    verdict = Verdict()
    predictions, outcomes = _json(logs, f"{stream}.predictions"), _json(logs, f"{stream}.outcomes")
    _ids(verdict, sent, predictions, outcomes)
    _order(verdict, predictions, outcomes)
    for partition, one in replayed.items():
        verdict.wrong += verdict.find(
            "predictions differ from the plain loop", _differences(predictions[partition], one.predictions)
        )
        verdict.wrong += verdict.find(
            "outcomes differ from the plain loop", _differences(outcomes[partition], one.outcomes)
        )
    _inbox(verdict, logs, stream, sent)
    _refused(verdict, logs, stream, sent)
    controls = {partition: one.controls for partition, one in replayed.items()}
    if len({tuple(order) for order in controls.values()}) > 1:
        verdict.find("control records differ between partitions", [str(controls)])
    return verdict


def check_committed(verdict: Verdict, committed: Mapping[int, int], ends: Mapping[int, int]) -> None:
    """Offsets are committed to the end of the log: no acknowledgement without output, none left out."""
    verdict.find(
        "committed offset is not the log's end",
        [
            f"partition {number}: {committed.get(number)} of {end}"
            for number, end in ends.items()
            if committed.get(number) != end
        ],
    )


def check_readers(verdict: Verdict, during: Logs, after: Logs) -> None:
    """Who read during the faults saw the same records in the same order as who read afterwards."""
    for place, records in after.items():
        seen, now = _digests(during[place]), _digests(records)
        if seen != now:
            at = next((i for i, pair in enumerate(zip(seen, now, strict=False)) if pair[0] != pair[1]), -1)
            verdict.find(
                "the reader during the faults saw something else",
                [f"{place}: {len(seen)} records, afterwards {len(now)}; first difference at {at}"],
            )


def check_metrics(verdict: Verdict, shown: Mapping[str, Any], replayed: Mapping[int, Expected]) -> None:
    """Scoring's counters and live metrics are those of the plain loop. shown: its metrics document."""
    lines: list[str] = []
    for partition, one in replayed.items():
        there = shown["partitions"].get(str(partition), {})
        lines += _unequal(f"partition {partition}", there, {**_counters(one), "pending": one.pending})
        for model in one.models.values():
            lines += _model(f"partition {partition}", there, [model])
    for name in next(iter(replayed.values())).models:
        lines += _model("total", shown["total"], [one.models[name] for one in replayed.values()])
    verdict.wrong += verdict.find("live metrics differ from the plain loop", lines)


# -- ids ----------------------------------------------------------------------------------------------------------


def _ids(
    verdict: Verdict, sent: Sent, predictions: Mapping[int, list[Any]], outcomes: Mapping[int, list[Any]]
) -> None:
    predicted = Counter(entry["id"] for entries in predictions.values() for entry in entries)
    verdict.lost += verdict.find(
        "accepted observation without prediction", sorted(sent.observations - predicted.keys())
    )
    verdict.doubled += verdict.find(
        "more than one prediction", [name for name, count in predicted.items() if count > 1]
    )
    closed = [entry for entries in outcomes.values() for entry in entries]
    first = Counter(entry["id"] for entry in closed if entry["status"] in ("labelled", "expired"))
    told = {entry["id"] for entry in closed if entry["status"] != "expired"}
    verdict.lost += verdict.find("accepted label without outcome", sorted(sent.labels - told))
    verdict.doubled += verdict.find(
        "more than one outcome", [name for name, count in first.items() if count > 1]
    )


def _order(verdict: Verdict, predictions: Mapping[int, list[Any]], outcomes: Mapping[int, list[Any]]) -> None:
    for what, logs in (("predictions", predictions), ("outcomes", outcomes)):
        for partition, entries in logs.items():
            offsets = [entry["offset"] for entry in entries]
            if offsets != sorted(offsets):
                verdict.wrong += verdict.find(
                    f"{what} are not in the log's order", [f"partition {partition}"]
                )


# -- inbox and rejects --------------------------------------------------------------------------------------------


def _inbox(verdict: Verdict, logs: Logs, stream: str, sent: Sent) -> None:
    """Each inbox record lies exactly once in the log or in the rejects."""
    refused = Counter(
        entry["origin"] for entries in _json(logs, f"{stream}.rejected").values() for entry in entries
    )
    wanted: Counter[tuple[str, str]] = Counter()
    places = set()
    for (topic, partition), records in logs.items():
        if topic != f"{stream}.inbox":
            continue
        for record in records:
            origin = f"{topic}/{partition}/{record.offset}"
            if (partition, record.offset) in sent.placed:
                places.add(origin)
            else:
                document = json.loads(record.value or b"")
                wanted["label" if "label" in document else "observation", document["id"]] += 1
    copied: Counter[tuple[str, str]] = Counter()
    for entries in _json(logs, f"{stream}.log").values():
        copied.update((entry["type"], entry["id"]) for entry in entries if entry["id"].startswith("inbox-"))
    verdict.lost += verdict.find("inbox record not copied", [str(key) for key in (wanted - copied)])
    verdict.doubled += verdict.find("inbox record copied twice", [str(key) for key in (copied - wanted)])
    from_inbox = Counter(
        {origin: n for origin, n in refused.items() if origin.startswith(f"{stream}.inbox/")}
    )
    verdict.lost += verdict.find("inbox poison not in the rejects", sorted(places - from_inbox.keys()))
    verdict.doubled += verdict.find(
        "inbox record rejected twice", [origin for origin, count in from_inbox.items() if count > 1]
    )
    verdict.wrong += verdict.find("good inbox record rejected", sorted(from_inbox.keys() - places))


def _refused(verdict: Verdict, logs: Logs, stream: str, sent: Sent) -> None:
    """Poison named as refused over HTTP lies in the rejects (once or more: a body may have been sent again)."""
    kept = set()
    for entries in _json(logs, f"{stream}.rejected").values():
        for entry in entries:
            if entry["origin"] == "http":
                original = base64.b64decode(entry["original"])
                kept |= set(_marks(original))
            elif not entry["origin"].startswith(f"{stream}.inbox/"):
                verdict.wrong += verdict.find("the fold refused a record", [str(entry)[:300]])
    verdict.lost += verdict.find("HTTP poison not in the rejects", sorted(sent.refused - kept))


def _marks(original: bytes) -> Iterable[str]:
    start = original.find(b"http-poison-")
    if start >= 0:
        number, _, _ = original[start + len(b"http-poison-") :].partition(b"-")
        yield f"http-poison-{number.decode()}-"


# -- comparing ----------------------------------------------------------------------------------------------------


def _json(logs: Logs, topic: str) -> dict[int, list[Any]]:
    return {
        partition: [json.loads(record.value or b"null") for record in records]
        for (name, partition), records in sorted(logs.items())
        if name == topic
    }


def _differences(found: list[Any], wanted: list[Any]) -> list[str]:
    """Bit for bit: Python reads JSON's numbers to the same doubles that were written."""
    lines = [
        f"{mine} where {theirs} is right"
        for mine, theirs in zip(found, wanted, strict=False)
        if mine != theirs
    ]
    if len(found) != len(wanted):
        lines.append(f"{len(found)} records where {len(wanted)} are right")
    return lines


def _digests(records: list[Record]) -> list[tuple[int, bytes]]:
    return [
        (record.offset, hashlib.blake2b(record.value or b"", digest_size=16).digest()) for record in records
    ]


def _counters(one: Expected) -> dict[str, int]:
    names = ("observations", "duplicates", "labels", "labelled", "expired", "unmatched", "second_labels")
    return {name: one.counts[name] for name in names} | {"refused": 0, "corrected": 0, "pushed_out": 0}


def _model(where: str, there: Mapping[str, Any], models: list[Model]) -> list[str]:
    shown = next((entry for entry in there.get("models", []) if entry["model"] == models[0].name), None)
    where = f"{where} {models[0].name}"
    if shown is None:
        return [f"{where} is not shown"]
    total: Counter[str] = Counter()
    for model in models:
        total.update(model.counts)
    count = total["count"]
    wanted = {
        "count": count,
        "unanswered": total["unanswered"],
        "positives": total["positives"],
        "accuracy": total["right"] / count if count else None,
        "roc_auc": roc_auc(models),
        "log_loss": sum(model.loss for model in models) / count if count else None,
        "brier": sum(model.brier for model in models) / count if count else None,
    }
    return [
        *_unequal(where, shown, {"answered": total["answered"], "learned": total["learned"], "failures": 0}),
        *_unequal(where, shown, {"role": models[0].role}),
        *_unequal(where, shown["metrics"]["overall"], wanted),
    ]


def _unequal(where: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [
        f"{where} {name}: {found.get(name)} where {right} is right"
        for name, right in wanted.items()
        if not _same(found.get(name), right)
    ]


def _same(found: Any, right: Any) -> bool:
    if isinstance(right, float) and isinstance(found, float):
        return math.isclose(found, right, rel_tol=NEAR, abs_tol=NEAR)
    return bool(found == right)
