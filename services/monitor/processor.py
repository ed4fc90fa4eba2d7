"""The readable heart of the monitor's data plane: records of one partition in, window summaries out.

One `Summariser` a partition of `S.log`, `S.predictions`, `S.outcomes` or `S.rejected`. At the end of each batch it
emits the full state of every window the batch touched, of those that closed, and of the total. How often that is
depends on how records were batched, but not what is said: the last summary under each key, which is all that a
compacted topic keeps and a merge looks at, is the same for every batching. Flooding is the host's to prevent, by
fetching in large portions.
"""

import msgspec

from headrace.contracts.statistics import WindowSummary, encode_summary
from headrace.contracts.topics import STATISTICS, stream_of
from headrace.errors import Unusable
from headrace.operators.tumbling import TumblingWindows
from headrace.processor import Batch, Message, Outputs
from services.monitor.domain import summaries
from services.monitor.domain.counting import COUNTERS, LogCounter

STATE_VERSION = 1


class WindowShape(msgspec.Struct, frozen=True):
    """How time is cut.

    length_seconds: of a window, in event time. lateness_seconds: how far the watermark must pass a window's end to
    close it. open_windows: most windows open at a time; at the bound the oldest closes early.
    """

    length_seconds: int = 3600
    lateness_seconds: int = 600
    open_windows: int = 48


class SummariserState(msgspec.Struct):
    """A snapshot: everything a summariser knows."""

    version: int
    topic: str
    partition: int
    shape: WindowShape
    watermark: int
    final_before: int
    total: WindowSummary
    open: dict[int, WindowSummary]


class Summariser:
    """Summaries of one partition of one topic, as a Processor.

    Bounds: `shape.open_windows` windows, each with the names that `domain.summaries` counts apart.
    """

    def __init__(self, topic: str, partition: int, shape: WindowShape) -> None:
        kind = topic.rpartition(".")[2]
        if kind not in COUNTERS:
            raise Unusable(
                f"{topic} is no topic that is summarised: its kind is one of {', '.join(COUNTERS)}"
            )
        self.topic = topic
        self.partition = partition
        self.shape = shape
        self._kind = kind
        self._counter = COUNTERS[self._kind]()
        self._windows = TumblingWindows(
            shape.length_seconds * 1000,
            shape.lateness_seconds * 1000,
            shape.open_windows,
            self._fresh,
            self._add_closed,
        )
        # Closed windows and late records; what is still open is added when the total is told.
        self._past = self._fresh(None)

    def process(self, batch: Batch) -> Outputs:
        """Count the batch; see the protocol."""
        self._counter.count(batch.values, self._windows, self._past)
        closed, touched = self._windows.take_changed()
        through = batch.offsets[-1]
        messages = [self._message(window, through, closed=True) for _, window in closed]
        messages += [self._message(window, through) for _, window in touched]
        messages.append(self._message(self._total(), through))
        return {(STATISTICS.name, 0): messages}

    def snapshot(self) -> bytes:
        """The whole state, as JSON."""
        windows = self._windows
        return msgspec.json.encode(
            SummariserState(
                STATE_VERSION,
                self.topic,
                self.partition,
                self.shape,
                windows.watermark,
                windows.final_before,
                self._past,
                windows.open,
            )
        )

    def restore(self, state: bytes) -> None:
        """Become the summariser that wrote `state`. Raises `Unusable` if it is of another topic or window shape."""
        try:
            read = msgspec.json.decode(state, type=SummariserState)
        except msgspec.MsgspecError as error:
            raise Unusable(f"no snapshot of a summariser: {error}") from None
        mine = (STATE_VERSION, self.topic, self.partition, self.shape)
        if (read.version, read.topic, read.partition, read.shape) != mine:
            raise Unusable("the snapshot is of another topic, window shape or code")
        self._past = read.total
        self._windows.resume(read.open, read.watermark, read.final_before)
        if isinstance(self._counter, LogCounter):
            self._counter.resume(read.total.contract)

    def fingerprints(self) -> dict[str, str]:
        """None: there is no model here."""
        return {}

    def _fresh(self, start: int | None) -> WindowSummary:
        return WindowSummary(
            stream_of(self.topic), self._kind, self.partition, self.shape.length_seconds, start=start
        )

    def _add_closed(self, window: WindowSummary) -> None:
        """At once, not when the batch ends: sums of floats must come in the log's order, late records among them."""
        summaries.merge(self._past, window)

    def _total(self) -> WindowSummary:
        """Closed windows, late records and open windows, added up in the same order whatever the batches were."""
        total = self._fresh(None)
        summaries.merge(total, self._past)
        for start in sorted(self._windows.open):
            summaries.merge(total, self._windows.open[start])
        return total

    def _message(self, summary: WindowSummary, through: int, *, closed: bool = False) -> Message:
        summary.through_offset = through
        summary.closed = closed
        summary.watermark = self._windows.watermark
        summary.final_before = self._windows.final_before
        return {"key": summary.key(), "value": encode_summary(summary)}
