"""One partition's run: a processor, its position, and silence while it relives what was already emitted.

Both hosts use this, so recovery means the same in memory and on Kafka: restore a snapshot, feed the log from there,
drop the outputs of records below the committed offset (they are out already), emit from there on.
"""

from bisect import bisect_left

from headrace.processor import Batch, Outputs, Processor


class Run:
    """A processor at a position of its partition. `feed` must get records in order, without holes it should know of."""

    def __init__(self, processor: Processor, *, position: int, silent_until: int) -> None:
        self.processor = processor
        self.position = position
        """Offset of the next record to feed."""
        self.silent_until = silent_until
        """Records below this offset were emitted by an earlier life."""
        self.since_snapshot = 0

    @property
    def recovering(self) -> bool:
        """Whether the records to come were emitted before."""
        return self.position < self.silent_until

    def feed(self, batch: Batch) -> Outputs:
        """Fold the batch; outputs of relived records are dropped. Records below `position` are skipped."""
        batch = _from(batch, self.position)
        if not batch.offsets:
            return {}
        outputs: Outputs = {}
        if self.position < self.silent_until:
            old, batch = split(batch, self.silent_until)
            if old.offsets:
                self.processor.process(old)
        if batch.offsets:
            outputs = self.processor.process(batch)
            self.position = batch.offsets[-1] + 1
        else:
            self.position = old.offsets[-1] + 1
        self.since_snapshot += len(batch.offsets)
        return outputs


def _from(batch: Batch, position: int) -> Batch:
    if not batch.offsets or batch.offsets[0] >= position:
        return batch
    return split(batch, position)[1]


def split(batch: Batch, offset: int) -> tuple[Batch, Batch]:
    """The parts below and from `offset` on."""
    cut = bisect_left(batch.offsets, offset)
    return (
        batch._replace(offsets=batch.offsets[:cut], keys=batch.keys[:cut], values=batch.values[:cut]),
        batch._replace(offsets=batch.offsets[cut:], keys=batch.keys[cut:], values=batch.values[cut:]),
    )
