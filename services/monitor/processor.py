"""The readable heart of the monitor's data plane: records of one partition in, window summaries and drift out.

One `Summariser` a partition of `S.log`, `S.predictions`, `S.outcomes` or `S.rejected`. At the end of each batch it
emits the full state of every window the batch touched, of those that closed, and of the total. How often that is
depends on how records were batched, but not what is said: the last summary under each key, which is all that a
compacted topic keeps and a merge looks at, is the same for every batching. Flooding is the host's to prevent, by
fetching in large portions. What has moved is told once, with the batch that showed it; so is the proposal to retrain.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from headrace.contracts.codec import encode
from headrace.contracts.events import RetrainProposed
from headrace.contracts.statistics import Kind, WindowSummary, encode_summary
from headrace.contracts.topics import DRIFT, RETRAINS, STATISTICS, stream_of
from headrace.errors import Unusable
from headrace.processor import Batch, Message, Outputs
from services.monitor.domain.columns import LogColumns
from services.monitor.domain.counting import COUNTERS
from services.monitor.domain.detecting import Detector, LogDetector, PredictionDetector
from services.monitor.domain.finding import Found, Source, Watched
from services.monitor.domain.ledger import Ledger
from services.monitor.domain.outcomes import OutcomeDetector
from services.monitor.domain.reading import READERS, LogReader
from services.monitor.domain.tolerance import Tolerance

STATE_VERSION = 4

TOLERANCE = Tolerance()

DETECTORS: dict[Kind, Callable[[Source, Tolerance], Detector[Any]]] = {
    "log": LogDetector,
    "predictions": PredictionDetector,
    "outcomes": OutcomeDetector,
}


class WindowShape(msgspec.Struct, frozen=True):
    """How time is cut.

    length_seconds: of a window, in event time. lateness_seconds: how far the watermark must pass a window's end to
    close it. open_windows: most windows open at a time; at the bound the oldest closes early. revisable_windows: closed
    ones, the newest, that late records still revise.
    """

    length_seconds: int = 3600
    lateness_seconds: int = 600
    open_windows: int = 48
    revisable_windows: int = 48


class SummariserState(msgspec.Struct):
    """A snapshot: everything a summariser knows. watched: see `Tolerance`; "" if nothing is looked for here."""

    version: int
    topic: str
    partition: int
    shape: WindowShape
    watched: str
    watermark: int
    final_before: int
    total: WindowSummary
    open: dict[int, WindowSummary]
    kept: dict[int, msgspec.Raw]
    known: dict[str, list[str]]
    detector: msgspec.Raw


class Summariser:
    """Summaries of one partition of one topic, and what has moved in it, as a Processor.

    Bounds: `shape.open_windows` and `shape.revisable_windows` windows, each with the names that `domain.summaries`
    counts apart; the detector's.
    """

    def __init__(
        self, topic: str, partition: int, shape: WindowShape, tolerance: Tolerance = TOLERANCE
    ) -> None:
        kind = topic.rpartition(".")[2]
        if kind not in COUNTERS:
            raise Unusable(
                f"{topic} is no topic that is summarised: its kind is one of {', '.join(COUNTERS)}"
            )
        self.topic = topic
        self.partition = partition
        self.shape = shape
        self._kind: Kind = kind
        self._counter = COUNTERS[self._kind]()
        self._log = LogReader()
        make = DETECTORS.get(kind)
        source = Source(stream_of(topic), kind, partition)
        self._detector = None if make is None else make(source, tolerance)
        self._watched = "" if make is None else tolerance.watched
        self._ledger = Ledger(
            self._fresh,
            shape.length_seconds * 1000,
            shape.lateness_seconds * 1000,
            shape.open_windows,
            shape.revisable_windows,
        )

    def process(self, batch: Batch) -> Outputs:
        """Count the batch; see the protocol."""
        found: list[Found] = []
        for run in self._read(batch):
            self._ledger.count(run, self._counter)
            if self._detector is not None:
                found += self._detector.detect(run)
            if isinstance(run, LogColumns) and run.adopted is not None:
                self._ledger.past.contract = run.adopted
        through = batch.offsets[-1]
        messages = []
        for window, closed in self._ledger.take_changed():
            messages.append(told := self._message(window, through, closed=closed))
            if closed and window.start is not None:
                self._ledger.keep(window.start, told["value"] or b"")
        messages.append(self._message(self._ledger.total(), through))
        outputs: dict[tuple[str, int], list[Message]] = {(STATISTICS.name, 0): messages}
        for one in found:
            topic = RETRAINS.name if isinstance(one, RetrainProposed) else DRIFT.name
            outputs.setdefault((topic, 0), []).append({"key": one.stream.encode(), "value": encode(one)})
        return outputs

    def watched(self) -> list[Watched]:
        """What is watched for drift now. Not for another thread while a batch is processed."""
        return [] if self._detector is None else self._detector.watched()

    def snapshot(self) -> bytes:
        """The whole state, as JSON."""
        ledger = self._ledger
        return msgspec.json.encode(
            SummariserState(
                STATE_VERSION,
                self.topic,
                self.partition,
                self.shape,
                self._watched,
                ledger.windows.watermark,
                ledger.windows.final_before,
                ledger.past,
                ledger.windows.open,
                {start: msgspec.Raw(told) for start, told in ledger.kept.items()},
                {name: list(texts) for name, texts in self._log.known.items()},
                msgspec.Raw(b"null" if self._detector is None else self._detector.state()),
            )
        )

    def restore(self, state: bytes) -> None:
        """Become the summariser that wrote `state`.

        Raises `Unusable` if it is of another topic or window shape, or looked for something else.
        """
        try:
            read = msgspec.json.decode(state, type=SummariserState)
        except msgspec.MsgspecError as error:
            raise Unusable(f"no snapshot of a summariser: {error}") from None
        mine = (STATE_VERSION, self.topic, self.partition, self.shape, self._watched)
        if (read.version, read.topic, read.partition, read.shape, read.watched) != mine:
            raise Unusable(
                "the snapshot is of another topic, window shape or code, or watched something else"
            )
        self._ledger.past = read.total
        self._ledger.kept = {start: bytes(told) for start, told in read.kept.items()}
        self._ledger.windows.resume(read.open, read.watermark, read.final_before)
        self._log.resume(read.total.contract, read.known)
        if self._detector is not None:
            self._detector.resume(bytes(read.detector))

    def fingerprints(self) -> dict[str, str]:
        """None: there is no model here."""
        return {}

    def _read(self, batch: Batch) -> Iterator[Any]:
        """The batch as columns, in runs."""
        if self._kind == "log":
            yield from self._log.read(batch.offsets, batch.values)
        else:
            yield READERS[self._kind](batch.offsets, batch.values)

    def _fresh(self, start: int | None) -> WindowSummary:
        return WindowSummary(
            stream_of(self.topic), self._kind, self.partition, self.shape.length_seconds, start=start
        )

    def _message(self, summary: WindowSummary, through: int, *, closed: bool = False) -> Message:
        windows = self._ledger.windows
        summary.through_offset = through
        summary.closed = closed
        summary.watermark = windows.watermark
        summary.final_before = windows.final_before
        return {"key": summary.key(), "value": encode_summary(summary)}
