"""What if: a stream's past, folded again with other models, another label policy, or without some of its records.

One partition is one fold, the same shard that scoring runs, over the log as `headrace.replay.changes` edits it. Labels
arrive where they arrived in the log, so nobody learns from the future. Beside it run the outcomes that really came, for
the same observations. Every few seconds the whole state is put away, signed; whoever asks the same question again after
a crash goes on from there and ends with the same report, byte for byte. What would break that: anything in a report
that depends on when it was made or on how often it was interrupted.
"""

import gc
import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from headrace import checkpoint
from headrace.contracts.events import Outcome
from headrace.contracts.stream import StreamContract
from headrace.contracts.topics import LOG, OUTCOMES, topic
from headrace.errors import Unusable
from headrace.fold.log import LogFold
from headrace.fold.shard import Folded, Shard
from headrace.history import History
from headrace.processor import Batch
from headrace.replay.changes import Progress, changing
from headrace.replay.plan import Plan
from headrace.replay.tallies import Tallies
from headrace.snapshots import SnapshotStore

CHUNK_OFFSETS = 256
"""Offsets folded at a time, as live: what is made for them stays in the processor's cache. A chunk begins at a
multiple of this, whatever batches come: sums of floats depend on the order of their terms, and reports on nothing but
the log."""
SAVE_SECONDS = 4.0
SAVE_SHARE = 20
"""Saving takes at most a 20th of the time: a large state is saved more seldom."""

Chunk = tuple[Sequence[int], Sequence[bytes | None]]
"""Offsets and values."""

Told = Callable[[int], None]
"""Told the log offset that a partition has reached."""

_decode_outcome = msgspec.json.Decoder(Outcome).decode


class Span(msgspec.Struct, frozen=True):
    """What is read of one partition, fixed when a replay begins: ends are after the last record.

    outcomes_first: 0 unless retention has removed what happened at first.
    """

    partition: int
    end: int
    outcomes_first: int
    outcomes_end: int


class Counted(msgspec.Struct):
    """What came of one partition, or of all. known_from: log offset of the first outcome known, None if all are.

    models: by name, how often the model answered, learnt, failed.
    """

    tallies: Tallies
    folded_to: dict[int, int]
    known_from: dict[int, int | None]
    models: dict[str, dict[str, int]]
    counters: dict[str, int]


def spans(history: History, stream: str) -> list[Span]:
    """What there is to read now."""
    log, outcomes = topic(LOG, stream), topic(OUTCOMES, stream)
    found = []
    for partition in range(history.partitions(log)):
        end = history.bounds(log, partition).end
        first, outcomes_end = history.bounds(outcomes, partition)
        found.append(Span(partition, end, first, outcomes_end))
    return found


class PartitionReplay:
    """One partition's replay: the fold, the outcomes of the past beside it, and what is counted. Not thread-safe.

    contract: the stream's, without the plan's policy.
    """

    def __init__(self, plan: Plan, contract: StreamContract, span: Span) -> None:
        self._plan = plan
        self.span = span
        self.position = 0
        self.outcomes_position = span.outcomes_first
        self.known_from: int | None = None
        self.progress = Progress(wait_ms=1000 * contract.label.wait_seconds)
        self.tallies = Tallies(contract.task, plan, corrects=contract.label.second == "correct")
        self._fold = LogFold(Shard(), changing(plan, span.partition, self.progress))
        self._next: tuple[int, Outcome] | None = None

    @property
    def shard(self) -> Shard:
        """The state of the models."""
        return self._fold.shard

    def feed(self, chunk: Chunk, happened: Iterator[tuple[int, Outcome]]) -> Folded:
        """Fold a whole chunk; `happened`: outcomes of the past from `outcomes_position` on."""
        offsets, values = chunk
        folded = self._fold.fold(offsets, values)
        self._count(folded)
        self._count_happened(offsets[-1], happened)
        self.position = offsets[-1] + 1
        return folded

    def _count(self, folded: Folded) -> None:
        tallies, counts = self.tallies, self._plan.counts
        contract = self.shard.contract
        remembered = contract.limits.remembered if contract is not None else 0
        for prediction in folded.predictions:
            if counts(prediction.at, prediction.offset):
                tallies.predicted(prediction, remembered)
        for outcome in folded.outcomes:
            if outcome.prediction_offset >= 0 and counts(outcome.observed_at, outcome.prediction_offset):
                tallies.resolved(outcome)

    def _count_happened(self, upto: int, happened: Iterator[tuple[int, Outcome]]) -> None:
        """What the records up to log offset `upto` led to in the past."""
        while True:
            if self._next is None:
                self._next = next(happened, None)
                if self._next is None:
                    return
            place, outcome = self._next
            if outcome.offset > upto:
                return
            if self.known_from is None:
                self.known_from = outcome.offset
            if outcome.prediction_offset >= 0:
                self.tallies.happened(outcome)
            self.outcomes_position = place + 1
            self._next = None

    def state(self) -> bytes:
        """Everything needed to go on."""
        places = (self.position, self.outcomes_position, self.known_from)
        return checkpoint.dumps((places, msgspec.structs.astuple(self.progress), self.shard, self.tallies))

    def restore(self, state: bytes) -> None:
        """Go on from there. Raises `Unusable`."""
        places, progress, shard, self.tallies = checkpoint.loads(state)
        self.position, self.outcomes_position, self.known_from = places
        self.progress = Progress(*progress)
        self._fold = LogFold(shard, changing(self._plan, self.span.partition, self.progress))
        self._next = None

    def counted(self) -> Counted:
        """What came of it."""
        self.tallies.forget_open()
        trimmed = self.span.outcomes_first > 0
        return Counted(
            self.tallies,
            {self.span.partition: self.position},
            {self.span.partition: self.known_from if trimmed else None},
            {
                name: {"answered": slot.answered, "learned": slot.learned, "failures": slot.failures}
                for name, slot in self.shard.slots.items()
            },
            msgspec.to_builtins(self.shard.counters),
        )


def folded(history: History, replay: PartitionReplay) -> Iterator[Folded]:
    """Run one partition from where it is to its end, a chunk at a time."""
    stream, span = replay._plan.stream, replay.span
    happened = _outcomes(history, stream, span, replay.outcomes_position)
    log = history.read(topic(LOG, stream), span.partition, replay.position, span.end)
    with closing(happened), closing(log):  # type: ignore[type-var]  # both are generators
        for chunk in chunks(log):
            yield replay.feed(chunk, happened)
            if replay.progress.is_done:
                return


def chunks(batches: Iterable[Batch]) -> Iterator[Chunk]:
    """The records of batches, cut at multiples of `CHUNK_OFFSETS` and nowhere else."""
    offsets: list[int] = []
    values: list[bytes | None] = []
    for batch in batches:
        offsets += batch.offsets
        values += batch.values
        while offsets and offsets[-1] // CHUNK_OFFSETS > offsets[0] // CHUNK_OFFSETS:
            cut = bisect_left(offsets, (offsets[0] // CHUNK_OFFSETS + 1) * CHUNK_OFFSETS)
            yield offsets[:cut], values[:cut]
            offsets, values = offsets[cut:], values[cut:]
    if offsets:
        yield offsets, values


def _outcomes(history: History, stream: str, span: Span, start: int) -> Iterator[tuple[int, Outcome]]:
    """The outcomes of the past with their places."""
    for batch in history.read(topic(OUTCOMES, stream), span.partition, start, span.outcomes_end):
        for place, value in zip(batch.offsets, batch.values, strict=True):
            if value is not None:
                yield place, _decode_outcome(value)


class Workbench:
    """The folder of one question: its spans, and each partition's state. Raises `Unusable` only for what is ours."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder = folder
        self._store = SnapshotStore(folder, key)

    def spans(self, found: Callable[[], list[Span]]) -> list[Span]:
        """As they were when the replay began; `found` says how they are now."""
        path = self.folder / "spans.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Span])
        except (OSError, msgspec.MsgspecError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            spans = found()
            _write(path, msgspec.json.encode(spans))
            return spans

    def save(self, partition: int, state: bytes, position: int, *, is_complete: bool = False) -> None:
        """Put a state away; the one before goes."""
        store = self._store.within(str(partition))
        digest, _ = store.put(state)
        pointer = {"digest": digest, "position": position, "complete": is_complete}
        _write(self._pointer(partition), json.dumps(pointer).encode())
        store.sweep({digest})

    def load(self, partition: int) -> tuple[bytes | None, bool]:
        """The state of a partition (None: there is none that can be used), and whether it is the final one."""
        try:
            pointer: dict[str, Any] = json.loads(self._pointer(partition).read_bytes())
            return self._store.within(str(partition)).get(str(pointer["digest"])), bool(pointer["complete"])
        except (OSError, ValueError, KeyError, TypeError, Unusable):
            return None, False  # the log is still there

    def _pointer(self, partition: int) -> Path:
        return self.folder / f"{partition}.json"


def run_partition(
    history: History, plan: Plan, contract: StreamContract, span: Span, bench: Workbench, told: Told
) -> None:
    """Fold one partition to its end, putting the state away now and then; `bench` then holds its `Counted`."""
    state, is_complete = bench.load(span.partition)
    if is_complete:
        told(span.end)
        return
    replay = PartitionReplay(plan, contract, span)
    if state is not None:
        replay.restore(state)
    calm_the_collector()
    saved = time.monotonic()
    pause = SAVE_SECONDS
    for _ in folded(history, replay):
        told(replay.position)
        began = time.monotonic()
        if began - saved > pause:
            bench.save(span.partition, replay.state(), replay.position)
            saved = time.monotonic()
            pause = max(SAVE_SECONDS, SAVE_SHARE * (saved - began))
    bench.save(
        span.partition,
        checkpoint.dumps(msgspec.structs.astuple(replay.counted())),
        replay.position,
        is_complete=True,
    )
    told(span.end)


def merged(bench: Workbench, all_spans: list[Span]) -> Counted:
    """What came of all partitions. Raises `Unusable` if one has not been run to its end."""
    total: Counted | None = None
    for span in all_spans:
        state, is_complete = bench.load(span.partition)
        if state is None or not is_complete:
            raise Unusable(f"partition {span.partition} is not through")
        counted = Counted(*checkpoint.loads(state))
        if total is None:
            total = counted
            continue
        total.tallies.merge(counted.tallies)
        total.folded_to |= counted.folded_to
        total.known_from |= counted.known_from
        for name, counts in counted.models.items():
            present = total.models.setdefault(name, dict.fromkeys(counts, 0))
            total.models[name] = {what: present[what] + counts[what] for what in counts}
        total.counters = {name: total.counters[name] + counted.counters[name] for name in total.counters}
    if total is None:
        raise Unusable("the log has no partitions")
    return total


def calm_the_collector() -> None:
    """Look for cycles seldom: observations that wait are many small objects without any (as in services/scoring)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _write(path: Path, content: bytes) -> None:
    """In one step: a crash leaves the old file or the new one."""
    fresh = path.with_suffix(".part")
    fresh.write_bytes(content)
    fresh.replace(path)
