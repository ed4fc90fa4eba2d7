"""The readable heart of scoring: bytes of `S.log` -> the shard -> bytes of predictions, outcomes and rejects.

Decoding (`headrace.fold.log`) and encoding happen a batch at a time around the pure fold. A record that does not decode
or that the fold refuses goes to `S.rejected` with its original bytes; the shard goes on.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

from headrace import checkpoint
from headrace.contracts.codec import encode
from headrace.contracts.events import Outcome, Prediction, Rejected
from headrace.contracts.topics import OUTCOMES, PREDICTIONS, REJECTED, stream_of, topic
from headrace.errors import Unusable
from headrace.fold.edits import Edit
from headrace.fold.log import LogFold
from headrace.fold.parts import Rebuild, Refused
from headrace.fold.shard import Shard
from headrace.processor import Batch, Message, Outputs

Rebuilder = Callable[[str, int, Rebuild], tuple[Shard, Edit]]
"""Folds (log topic, partition) again as a rebuild says; also tells as what edit of the log."""

CHUNK_RECORDS = 256
"""Records decoded, folded and encoded at a time: what is made for them then stays in the processor's cache (measured:
a quarter less CPU an event than with 2,000)."""
STRETCH_RECORDS = 8 * CHUNK_RECORDS
"""Records whose work is measured at a time: reading clocks and adding up once a chunk costs a light model 1.5 %."""


class Meter(Protocol):
    """Measures what a shard costs, from outside; nothing that it does may change what is folded."""

    def measuring(self, shard: Shard, records: int) -> AbstractContextManager[None]:
        """Around the folding of so many log records."""
        ...

    def stored(self, shard: Shard) -> None:
        """A snapshot of the shard was taken."""
        ...


class Unmetered:
    """Measures nothing."""

    def measuring(self, shard: Shard, records: int) -> AbstractContextManager[None]:  # noqa: ARG002  # the protocol's
        """See `Meter`."""
        return nullcontext()

    def stored(self, shard: Shard) -> None:
        """See `Meter`."""


UNMETERED = Unmetered()


class ScoringProcessor:
    """One shard of one stream, as a Processor over a partition of `S.log`. Bounds: the shard's.

    rebuilder: folds the log again for a `ModelRebuilt`; without one such a record ends the process. meter: is told of
    all work, also of what is relived after a start.
    """

    def __init__(
        self, log_topic: str, partition: int, rebuilder: Rebuilder | None = None, meter: Meter = UNMETERED
    ) -> None:
        self._meter = meter
        self._rebuilder = rebuilder and partial(rebuilder, log_topic, partition)
        self.stream = stream_of(log_topic)
        self.partition = partition
        self._fold = self._folding(Shard())
        self._origin = f"{log_topic}/{partition}"
        self._predictions = (topic(PREDICTIONS, self.stream), partition)
        self._outcomes = (topic(OUTCOMES, self.stream), partition)
        self._rejected = (topic(REJECTED, self.stream), partition)

    @property
    def shard(self) -> Shard:
        """The state."""
        return self._fold.shard

    def process(self, batch: Batch) -> Outputs:
        """Fold a batch; see the protocol."""
        outputs: Outputs = {}
        records = len(batch.offsets)
        for start in range(0, records, STRETCH_RECORDS):
            end = min(start + STRETCH_RECORDS, records)
            with self._meter.measuring(self.shard, end - start):
                for first in range(start, end, CHUNK_RECORDS):
                    part = slice(first, first + CHUNK_RECORDS)
                    self._process_chunk(batch.offsets[part], batch.keys[part], batch.values[part], outputs)
        return outputs

    def _process_chunk(
        self,
        offsets: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        outputs: Outputs,
    ) -> None:
        folded = self._fold.fold(offsets, values)
        if folded.predictions:
            outputs.setdefault(self._predictions, []).extend(_messages(folded.predictions))
        if folded.outcomes:
            outputs.setdefault(self._outcomes, []).extend(_messages(folded.outcomes))
        if folded.refused:
            originals = dict(zip(offsets, zip(keys, values, strict=True), strict=True))
            outputs.setdefault(self._rejected, []).extend(
                self._reject(bad, *originals[bad.offset]) for bad in folded.refused
            )

    def _reject(self, bad: Refused, key: bytes | None, value: bytes | None) -> Message:
        event = Rejected(
            at=bad.at,
            rule=bad.rule,
            reason=bad.reason,
            original=value or b"",
            origin=f"{self._origin}/{bad.offset}",
        )
        return {"key": key, "value": encode(event)}

    def snapshot(self) -> bytes:
        """The shard's state (unsigned; the host signs what it stores)."""
        self._meter.stored(self.shard)
        return checkpoint.dumps(self.shard)

    def restore(self, state: bytes) -> None:
        """Become the shard that wrote `state`."""
        shard = checkpoint.loads(state)
        if not isinstance(shard, Shard):
            raise Unusable("the snapshot holds no shard")
        self._fold = self._folding(shard)

    def _folding(self, shard: Shard) -> LogFold:
        shard.rebuilder = self._rebuilder
        return LogFold(shard)

    def fingerprints(self) -> dict[str, str]:
        """sha256 of every model's state; see the protocol."""
        return self.shard.fingerprints()


def _messages(events: Sequence[Prediction | Outcome]) -> list[Message]:
    return [{"key": event.entity.encode(), "value": encode(event)} for event in events]
