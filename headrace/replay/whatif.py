"""What if: a stream's past, folded again with other models, another label policy, or without some of its records.

One partition is one fold, the same shard that scoring runs, over the log as `headrace.replay.changes` edits it. Labels
arrive where they arrived in the log, so nobody learns from the future. Beside it run the outcomes that really came, for
the same observations. The state can be saved after every chunk and gone on from, and what is counted depends on the log
alone: not on batches, not on how often it was interrupted.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import msgspec

from headrace import checkpoint
from headrace.contracts.events import Outcome
from headrace.contracts.stream import StreamContract
from headrace.contracts.topics import LOG, OUTCOMES, topic
from headrace.fold.log import LogFold
from headrace.fold.parts import Folded
from headrace.fold.shard import Shard
from headrace.history import Chunk, History, chunks
from headrace.replay.changes import Progress, changing
from headrace.replay.plan import Plan
from headrace.replay.tallies import Tallies

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
        self.plan = plan
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
        tallies, counts = self.tallies, self.plan.counts
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

    def is_done(self) -> bool:
        """Whether nothing that is counted is waited for any longer; never so without an end."""
        return self.progress.is_done

    def state(self) -> bytes:
        """Everything needed to go on."""
        places = (self.position, self.outcomes_position, self.known_from)
        return checkpoint.dumps((places, msgspec.structs.astuple(self.progress), self.shard, self.tallies))

    def restore(self, state: Any) -> None:
        """Go on from what `state` held."""
        places, progress, shard, self.tallies = state
        self.position, self.outcomes_position, self.known_from = places
        self.progress = Progress(*progress)
        self._fold = LogFold(shard, changing(self.plan, self.span.partition, self.progress))
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


def run(history: History, replay: PartitionReplay) -> Iterator[Folded]:
    """Run one partition from where it is to its end, a chunk at a time."""
    if replay.is_done():
        return
    stream, span = replay.plan.stream, replay.span
    happened = _outcomes(history, stream, span, replay.outcomes_position)
    log = history.read(topic(LOG, stream), span.partition, replay.position, span.end)
    with closing(happened):
        for chunk in chunks(log):
            yield replay.feed(chunk, happened)
            if replay.is_done():
                return


def _outcomes(history: History, stream: str, span: Span, start: int) -> Generator[tuple[int, Outcome]]:
    """The outcomes of the past with their places."""
    for batch in history.read(topic(OUTCOMES, stream), span.partition, start, span.outcomes_end):
        for place, value in zip(batch.offsets, batch.values, strict=True):
            if value is not None:
                yield place, _decode_outcome(value)
