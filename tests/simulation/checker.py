"""Reads topics as any consumer would and says which promise was broken. Shares no code with what it judges.

It knows what producers were told (`Sent`), reads JSON bytes from the topics while the faults go on, and holds what it
sees against `reading`, an independent reading of the log. The invariants are those of docs/simulation.md: I1 to I3, I5,
I7 and I8 here; I4 and I6 compare states, which only the product can read, and are in `states`.
"""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from tests.simulation.reading import Event, Reading, decode

OUTPUTS = ("predictions", "outcomes", "rejected")
SUMMARISED = ("log", "predictions", "outcomes", "rejected")


class Violation(AssertionError):
    """A broken promise. invariant: `I1` to `I8`."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant} is broken: {text}")
        self.invariant = invariant


class Row(NamedTuple):
    """A committed record."""

    offset: int
    key: bytes | None
    value: bytes | None


class Cluster(Protocol):
    """What a consumer may ask a broker."""

    def read(
        self, topic: str, partition: int, offset: int
    ) -> Iterable[tuple[int, bytes | None, bytes | None]]: ...
    def committed(self, group: str, topic: str, partition: int) -> int | None: ...
    def is_settled(self) -> bool: ...


class Sent(NamedTuple):
    """What a producer wrote, and what it was promised. at None: it brought no time. refused: the rule, if it is bad."""

    kind: str
    id: str
    entity: str
    at: int | None
    says: Any
    refused: str = ""


class Checker:
    """Follows one stream. sent: by inbox place (partition, offset). direct: by log partition, what was acknowledged.

    clocks: every reading of ingest's wall clock, in milliseconds. future_ms: how far ahead of it an event may be.
    """

    def __init__(self, stream: str, partitions: int, cluster: Cluster, *, future_ms: int) -> None:
        self.sent: dict[tuple[int, int], Sent] = {}
        self.direct: list[Sent] = []
        self.controls: list[str] = []
        self.clocks: list[int] = []
        self.checks: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        """How often each kind of thing happened at all: what never happens is not tested."""
        self._stream = stream
        self._partitions = partitions
        self._cluster = cluster
        self._future_ms = future_ms
        self._readings = [Reading(f"{stream}.log", partition) for partition in range(partitions)]
        self._folded = [0] * partitions
        self._rows: dict[tuple[str, int], list[Row]] = defaultdict(list)
        self._seen: dict[tuple[str, int], list[Event]] = defaultdict(list)
        self._compared: Counter[tuple[str, int]] = Counter()
        self._ingested: list[tuple[int, Event]] = []

    # -- while the faults go on ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read what is new everywhere; what is visible must be what the log up to the committed offset gives."""
        for partition in range(self._partitions):
            committed = self._cluster.committed("scoring", f"{self._stream}.log", partition)
            if committed is None:
                continue  # it is being decided right now
            self._follow_log(partition, committed)
            for kind in OUTPUTS:
                self._follow(kind, partition)
                self._compare(kind, partition)

    def _follow_log(self, partition: int, committed: int) -> None:
        reading, rows = self._readings[partition], self._news("log", partition)
        for row in rows:
            event = decode(row.value)
            if event is not None and event["type"] in ("observation", "label"):
                self._ingested.append((partition, event))
        for row in self._rows["log", partition]:
            if self._folded[partition] <= row.offset < committed:
                reading.read(row.offset, row.value)
                self.checks["log records read again"] += 1
        if committed < self._folded[partition]:
            raise Violation("I2", f"the committed offset of log/{partition} went back to {committed}")
        self._folded[partition] = committed

    def _follow(self, kind: str, partition: int) -> None:
        for row in self._news(kind, partition):
            event = json.loads(row.value or b"null")
            if kind != "rejected" or event.get("origin", "").startswith(f"{self._stream}.log/"):
                self._seen[kind, partition].append(event)

    def _news(self, kind: str, partition: int) -> list[Row]:
        rows = self._rows[kind, partition]
        start = rows[-1].offset + 1 if rows else 0
        fresh = [Row(*row) for row in self._cluster.read(f"{self._stream}.{kind}", partition, start)]
        rows.extend(fresh)
        return fresh

    def _compare(self, kind: str, partition: int) -> None:
        """What is visible against what should be: all of it, or a beginning while a transaction hides the rest."""
        expected: list[Event] = getattr(self._readings[partition], kind)
        seen = self._seen[kind, partition]
        place = f"{kind}/{partition}"
        for number in range(self._compared[kind, partition], min(len(seen), len(expected))):
            got = {
                name: value for name, value in seen[number].items() if kind != "rejected" or name != "reason"
            }
            if got != expected[number]:
                raise Violation(
                    _which(kind, got, expected[number]), _differ(place, number, got, expected[number])
                )
            self.checks[f"{kind} equal to the reading's"] += 1
        self._compared[kind, partition] = min(len(seen), len(expected))
        if len(seen) > len(expected):
            extra = seen[len(expected)]
            twice = any(other.get("id", 0) == extra.get("id") for other in seen[: len(expected)])
            raise Violation("I1" if twice else "I2", f"{place} has more than was committed: {extra}")
        if len(seen) < len(expected) and self._cluster.is_settled():
            raise Violation("I2", f"offsets are committed, but {place} lacks {expected[len(seen)]}")

    # -- when everything has come to rest -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Every record has been folded: nothing is missing anywhere, and a second reader sees the same."""
        self.look()
        for partition in range(self._partitions):
            rows = self._rows["log", partition]
            if rows and self._folded[partition] != rows[-1].offset + 1:
                raise Violation(
                    "I2", f"log/{partition} is read to {self._folded[partition]} of {rows[-1].offset + 1}"
                )
        self._a_second_reader()
        self._ingest()
        self._once()
        self._labels()
        self._control_order()
        self._statistics()
        self._note()

    def _a_second_reader(self) -> None:
        for (kind, partition), rows in self._rows.items():
            again = [Row(*row) for row in self._cluster.read(f"{self._stream}.{kind}", partition, 0)]
            if again != rows:
                raise Violation(
                    "I1", f"a reader during the faults saw another {kind}/{partition} than one after"
                )
            self.checks["records seen by both readers"] += len(again)

    def _ingest(self) -> None:
        """Each record of the inbox came out once, as what it said or as the refusal it had to get; in order."""
        refused: dict[str, Event] = {}
        for partition in range(self._partitions):
            for row in self._rows["rejected", partition]:
                event = json.loads(row.value or b"null")
                if event["origin"] in refused:
                    raise Violation("I1", f"{event['origin']} was refused twice")
                refused[event["origin"]] = event
        kept: list[tuple[int, Sent]] = []
        for (partition, offset), sent in sorted(self.sent.items()):
            told = refused.get(f"{self._stream}.inbox/{partition}/{offset}")
            if told is None and not sent.refused:
                kept.append((partition, sent))
            elif told is None or told["rule"] != (sent.refused or "future"):
                raise Violation("I1", f"inbox/{partition}/{offset} {sent} was answered by {told}")
            elif not sent.refused and (sent.at or 0) <= min(self.clocks) + self._future_ms:
                raise Violation("I1", f"inbox/{partition}/{offset} was never in the future: {told}")
            self.checks["inbox records accounted for"] += 1
        expected = Counter(_content(sent) for sent in self.direct + [sent for _, sent in kept])
        written = Counter(_content_of(event) for _, event in self._ingested)
        if expected != written:
            raise Violation("I1", f"lacking in the log: {expected - written}; too much: {written - expected}")
        self._ingest_times({_content(sent): sent for _, sent in kept})
        self._ingest_order(kept)

    def _ingest_times(self, kept: dict[Any, Sent]) -> None:
        for _, event in self._ingested:
            sent = kept.get(_content_of(event))
            if sent is not None and sent.at is None and event["at"] not in self.clocks:
                raise Violation("I1", f"{event} has a time that no clock ever showed")

    def _ingest_order(self, kept: Sequence[tuple[int, Sent]]) -> None:
        """What one inbox partition holds of one entity is in the log in the same order."""
        streams: dict[tuple[int, str], list[Any]] = defaultdict(list)
        for partition, sent in kept:
            streams[partition, sent.entity].append(_content(sent))
        logs: dict[str, list[Any]] = defaultdict(list)
        for _, event in self._ingested:
            logs[event["entity"]].append(_content_of(event))
        for (partition, entity), wanted in streams.items():
            log = iter(logs[entity])
            if not all(item in log for item in wanted):
                raise Violation("I1", f"the order of {entity} in inbox/{partition} was not kept")
            self.checks["orders kept by key"] += 1

    def _once(self) -> None:
        """Every accepted observation has one prediction (where no id was forgotten, so that none may come again)."""
        if any(reading.forgotten for reading in self._readings):
            return
        predicted = Counter(
            event["id"]
            for partition in range(self._partitions)
            for event in self._seen["predictions", partition]
        )
        accepted = {event["id"] for _, event in self._ingested if event["type"] == "observation"}
        unready = {event["id"] for event in self._refused_by_the_fold("no_contract")}
        if predicted.keys() - accepted or any(count > 1 for count in predicted.values()):
            raise Violation("I1", f"predicted twice, or never accepted: {predicted}")
        if accepted - predicted.keys() - unready:
            raise Violation("I1", f"accepted, but never predicted: {accepted - predicted.keys() - unready}")
        self.checks["accepted ids predicted once"] += len(predicted)

    def _refused_by_the_fold(self, rule: str) -> Iterable[Event]:
        for partition in range(self._partitions):
            for event in self._seen["rejected", partition]:
                if event["rule"] == rule:
                    yield json.loads(base64.b64decode(event["original"]))

    def _labels(self) -> None:
        """Labels in == joined + corrections + ignored + unmatched + still waiting, counted from the topics."""
        for partition, reading in enumerate(self._readings):
            outcomes = self._seen["outcomes", partition]
            ends = Counter(event["status"] for event in outcomes)
            told = sum(ends[status] for status in ("labelled", "corrected", "ignored", "unmatched"))
            if reading.labels != told + len(reading.early):
                raise Violation(
                    "I3",
                    f"log/{partition}: {reading.labels} labels, but {ends} and {len(reading.early)} early",
                )
            ended = ends["labelled"] + ends["expired"]
            predicted = len(self._seen["predictions", partition])
            if predicted != ended + len(reading.waiting):
                raise Violation(
                    "I3",
                    f"log/{partition}: {predicted} predictions, {ended} ends, {len(reading.waiting)} wait",
                )
            self.checks["labels accounted for"] += reading.labels

    def _control_order(self) -> None:
        """Every partition has every decision, in one order; a champion is never its own challenger."""
        for partition in range(self._partitions):
            decisions = (decode(row.value) for row in self._rows["log", partition])
            order = dict.fromkeys(
                event["id"] for event in decisions if event and event["type"] not in ("observation", "label")
            )
            if list(order) != self.controls:
                raise Violation("I8", f"log/{partition} has decisions {list(order)}, not {self.controls}")
            for event in self._seen["predictions", partition]:
                models = [event.get("model", ""), *(said["model"] for said in event.get("challengers", []))]
                if len(set(models)) != len(models):
                    raise Violation("I8", f"a model is there twice: {event}")
                self.checks["predictions with one champion"] += 1

    def _statistics(self) -> None:
        """The last total of each partition counts exactly the records that a reader sees."""
        last: dict[bytes | None, Event] = {}
        for _, key, value in self._cluster.read("headrace.statistics", 0, 0):
            event = json.loads(value or b"null")
            before = last.get(key, {"through_offset": -1})
            if event["through_offset"] <= before["through_offset"]:
                raise Violation("I7", f"{key!r} was told through {before['through_offset']}, then {event}")
            last[key] = event
        totals = [event for event in last.values() if "start" not in event]
        counted = {(event["kind"], event["partition"]): event for event in totals}
        for kind in SUMMARISED:
            for partition in range(self._partitions):
                rows = self._rows[kind, partition]
                total = counted.get((kind, partition), {"through_offset": -1})
                records = total.get("records", 0) + total.get("undecodable", 0)
                if (records, total["through_offset"]) != (len(rows), rows[-1].offset if rows else -1):
                    raise Violation(
                        "I7", f"{kind}/{partition} has {len(rows)} records, its summary says {total}"
                    )
                self.checks["records in statistics"] += records

    def _note(self) -> None:
        for partition, reading in enumerate(self._readings):
            self.seen["forgotten id"] += reading.forgotten
            self.seen["answer of a canary"] += reading.by_canary
            for event in self._seen["predictions", partition]:
                self.seen["prediction of a champion" if "model" in event else "prediction of nobody"] += 1
                self.seen["challenger asked"] += len(event.get("challengers", []))
                self.seen["outlier"] += "outliers" in event
                self.seen["anomaly"] += "anomalous" in event
                self.seen["no answer"] += "model" in event and "answer" not in event
            for event in self._seen["outcomes", partition]:
                self.seen[f"outcome {event['status']}"] += 1
                self.seen["label before its observation"] += event["offset"] == event.get("prediction_offset")
                self.seen["false label"] += event.get("y") is False
                self.seen["expired as a negative"] += event["status"] == "expired" and "y" in event
            for row in self._rows["rejected", partition]:
                self.seen[f"rejected as {json.loads(row.value or b'null')['rule']}"] += 1


def _content(sent: Sent) -> Any:
    return _comparable(sent.kind, sent.id, sent.entity, sent.says)


def _content_of(event: Event) -> Any:
    return _comparable(event["type"], event["id"], event["entity"], event["x" if "x" in event else "y"])


def _comparable(kind: str, identity: str, entity: str, says: Any) -> Any:
    return kind, identity, entity, json.dumps(says)


def _which(kind: str, got: Event, expected: Event) -> str:
    """The invariant that a wrong record breaks."""
    if kind == "rejected":
        return "I3"
    if got.get("id") != expected.get("id") or got.get("offset") != expected.get("offset"):
        return "I1" if kind == "predictions" else "I3"
    if got.get("model") != expected.get("model") or got.get("version") != expected.get("version"):
        return "I8"
    return "I5"


def _differ(place: str, number: int, got: Event, expected: Event) -> str:
    names = sorted(name for name in {*got, *expected} if got.get(name) != expected.get(name))
    shown = "; ".join(f"{name}: {got.get(name)!r}, not {expected.get(name)!r}" for name in names)
    return f"{place} number {number} (id {expected.get('id')}): {shown}"
