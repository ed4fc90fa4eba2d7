"""Folding a stretch of the log again and holding the result against what was stored: serving and training are one.

What is compared: every prediction and outcome byte for byte with `S.predictions` and `S.outcomes` (none missing, none
doubled, none else), and the fingerprint of every model with the one that each snapshot's pointer carries. A stretch may
begin at the log's start or at a snapshot; it ends where it is told.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from headrace.contracts.codec import encode
from headrace.contracts.events import Outcome, Prediction, Snapshot
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, topic
from headrace.fold.log import LogFold, decode
from headrace.fold.shard import Shard
from headrace.history import READ_RECORDS, History
from headrace.processor import Batch
from headrace.replay.rebuild import LogRebuilder, Progress, unwatched
from headrace.replay.states import Start
from headrace.step import split

NEAR_OFFSETS = READ_RECORDS
"""What is nearer than a batch is read through, not halved."""


class Compared(msgspec.Struct):
    """Stored records held against recomputed ones. first_difference: log offset, -1 if there is none.

    unknown: recomputed ones from before the oldest that is still stored (retention), so nothing can be said of them.
    """

    equal: int = 0
    different: int = 0
    missing: int = 0
    superfluous: int = 0
    unknown: int = 0
    first_difference: int = -1

    @property
    def well(self) -> bool:
        """Whether everything that could be compared was equal."""
        return not (self.different or self.missing or self.superfluous)


class Fingerprint(msgspec.Struct):
    """A model's state at an offset, as stored with a snapshot ("" if none was) and as rebuilt."""

    offset: int
    model: str
    stored: str
    rebuilt: str


class Verdict(msgspec.Struct):
    """What the fold of offsets start <= offset < end gave. models: fingerprints at the end, by `model@version`."""

    stream: str
    partition: int
    start: int
    end: int
    records: int = 0
    models: dict[str, str] = {}
    fingerprints: list[Fingerprint] = []
    predictions: Compared | None = None
    outcomes: Compared | None = None

    @property
    def well(self) -> bool:
        """Whether nothing contradicts what was stored."""
        compared = [one for one in (self.predictions, self.outcomes) if one is not None]
        return all(one.well for one in compared) and all(
            one.stored == one.rebuilt for one in self.fingerprints
        )


class Stored:
    """Predictions or outcomes as they were emitted, in order, to be held against recomputed ones.

    start: offset of the log from which events are recomputed.
    """

    def __init__(
        self,
        history: History,
        name: str,
        partition: int,
        kind: type[Prediction] | type[Outcome],
        start: int,
    ) -> None:
        self._decode = msgspec.json.Decoder(kind).decode
        first, end = history.bounds(name, partition)
        place = place_below(history, name, partition, start, self._decode)
        self._records = _values(history.read(name, partition, place, end))
        self._next = next(self._records, None)
        self._trimmed = first > 0
        while self._next is not None and self._offset() < start:
            self._trimmed = False  # what is older than the stretch is still there
            self._next = next(self._records, None)
        self.compared = Compared()

    def hold_against(self, events: Sequence[Prediction] | Sequence[Outcome]) -> None:
        """Compare recomputed events, oldest first."""
        compared = self.compared
        for event in events:
            expected = encode(event)
            if self._next == expected:
                compared.equal += 1
                self._next = next(self._records, None)
            else:
                self._differs(event)

    def end(self, end: int) -> None:
        """Everything below offset `end` was recomputed: what is still stored below it is superfluous."""
        while self._next is not None and (offset := self._offset()) < end:
            self.compared.superfluous += 1
            self._note(offset)
            self._next = next(self._records, None)

    def _differs(self, event: Prediction | Outcome) -> None:
        compared = self.compared
        while self._next is not None and self._offset() < event.offset:
            compared.superfluous += 1
            self._note(self._offset())
            self._next = next(self._records, None)
        if self._next == encode(event):
            compared.equal += 1
            self._next = next(self._records, None)
            return
        if self._next is not None and self._offset() == event.offset:
            compared.different += 1
            self._next = next(self._records, None)
        elif self._trimmed and compared == Compared(unknown=compared.unknown):
            compared.unknown += 1  # the oldest one left comes later
            return
        else:
            compared.missing += 1
        self._note(event.offset)

    def _offset(self) -> int:
        assert self._next is not None
        return self._decode(self._next).offset

    def _note(self, offset: int) -> None:
        if self.compared.first_difference < 0:
            self.compared.first_difference = offset


class Stretch(NamedTuple):
    """What is folded: a partition's records below `end`, from the log's start or from a state.

    at: it ends earlier, before the first record whose event time (ms) is later.
    """

    stream: str
    partition: int
    end: int
    start: Start | None = None
    at: int | None = None


def fold_again(
    history: History,
    stretch: Stretch,
    *,
    snapshots: Sequence[Snapshot] = (),
    compare: bool = True,
    rebuilder: LogRebuilder | None = None,
    progress: Progress = unwatched,
) -> tuple[Verdict, Shard]:
    """Fold a stretch of a stream's log; also returns the shard at its end.

    snapshots: whose fingerprints are to be met on the way. compare: hold predictions and outcomes against the stored
    ones; the stretch must then not end beyond what scoring has committed. Raises `Unusable` if records are gone.
    """
    stream, partition, end, start, at = stretch
    log = topic(LOG, stream)
    begin, shard = start or Start(0, Shard())
    shard.rebuilder = partial(rebuilder or LogRebuilder(history), log, partition)
    verdict = Verdict(stream, partition, begin, end)
    said = Stored(history, topic(PREDICTIONS, stream), partition, Prediction, begin) if compare else None
    became = Stored(history, topic(OUTCOMES, stream), partition, Outcome, begin) if compare else None
    fold = LogFold(shard)
    marks = {one.offset: one for one in snapshots if begin < one.offset <= end}

    def meet(offset: int) -> None:
        saved, rebuilt = marks[offset], shard.fingerprints()
        for model in sorted({*saved.fingerprints, *rebuilt}):
            verdict.fingerprints.append(
                Fingerprint(offset, model, saved.fingerprints.get(model, ""), rebuilt.get(model, ""))
            )

    due = sorted(marks, reverse=True)
    for batch in _cut_at(_until(history.read(log, partition, begin, end), at, verdict), sorted(marks)):
        while due and due[-1] <= batch.offsets[0]:
            meet(due.pop())
        folded = fold.fold(batch.offsets, batch.values)
        verdict.records += len(batch.offsets)
        if said is not None and became is not None:
            said.hold_against(folded.predictions)
            became.hold_against(folded.outcomes)
        progress(batch.offsets[-1] + 1, end)
    while due and due[-1] <= verdict.end:
        meet(due.pop())
    if said is not None and became is not None:
        said.end(verdict.end)
        became.end(verdict.end)
        verdict.predictions, verdict.outcomes = said.compared, became.compared
    verdict.models = shard.fingerprints()
    return verdict, shard


def place_below(
    history: History,
    name: str,
    partition: int,
    offset: int,
    decode: Callable[[bytes], Prediction | Outcome],
) -> int:
    """Where in a topic of predictions or outcomes to read from, to miss none of a log offset or a later one.

    They lie in the order of the log, so the place is found by halving: who looks at a stretch of a long log does not
    read all that came before it.
    """
    low, high = history.bounds(name, partition)
    while offset > 0 and high - low > NEAR_OFFSETS:
        middle = (low + high) // 2
        value = next(_values(history.read(name, partition, middle, high)), None)
        if value is not None and decode(value).offset < offset:
            low = middle
        else:
            high = middle
    return low


def _values(batches: Iterator[Batch]) -> Iterator[bytes]:
    for batch in batches:
        yield from (value for value in batch.values if value is not None)


def _cut_at(batches: Iterator[Batch], offsets: Sequence[int]) -> Iterator[Batch]:
    """The same records, in batches that never run over one of the offsets."""
    for batch in batches:
        rest = batch
        for offset in offsets:
            if rest.offsets and rest.offsets[0] < offset <= rest.offsets[-1]:
                part, rest = split(rest, offset)
                yield part
        yield rest


def _until(batches: Iterator[Batch], at: int | None, verdict: Verdict) -> Iterator[Batch]:
    """The records before the first that is later than `at`; its offset becomes the verdict's end."""
    if at is None:
        yield from batches
        return
    for batch in batches:
        records, offsets, _ = decode(batch.offsets, batch.values)
        late = next((offset for record, offset in zip(records, offsets, strict=True) if record.at > at), None)
        if late is None:
            yield batch
            continue
        verdict.end = late
        before, _ = split(batch, late)
        if before.offsets:
            yield before
        return
