"""What the monitor's data plane tells its control plane: the summary of one window of one partition of one topic.

A summary holds the *full* state of its window through `through_offset`, not a change to it. So merging is idempotent
(of two summaries with one key the one further along wins), a compacted topic keeps exactly what is needed, and a
reader that sees uncommitted records is not misled: the same log prefix always gives the same summary. Counts are
integers; sums of floats are added in log order, so they too come out the same however the records were batched.
"""

from typing import Literal

import msgspec

from headrace.contracts.stream import Task

Kind = Literal["log", "predictions", "outcomes", "rejected"]

SCORE_BINS = 1000
"""Equal bins of [0, 1] in the score histograms; a score of exactly 1 has a bin of its own, so indices are 0..1000."""


class Quality(msgspec.Struct, omit_defaults=True):
    """Answers of one model version scored on their labels; which figures mean something depends on the task.

    count: answers scored; unanswered: labels without an answer. correct: answers equal to the label. tp..fn, brier,
    positives, negatives (score histograms by truth: bin -> count): boolean labels. scored, loss (natural log, summed):
    answers that came with a score or probabilities. numeric, absolute, squared (errors summed), y_mean, y_squares
    (mean of the labels, sum of their squared distances from it): numeric labels.
    """

    count: int = 0
    unanswered: int = 0
    correct: int = 0
    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0
    scored: int = 0
    loss: float = 0.0
    brier: float = 0.0
    positives: dict[int, int] = {}
    negatives: dict[int, int] = {}
    numeric: int = 0
    absolute: float = 0.0
    squared: float = 0.0
    y_origin: float = 0.0
    y_sum: float = 0.0
    y_squares: float = 0.0


class Answers(msgspec.Struct, omit_defaults=True):
    """What one model version said when asked. score_sum: sum of its P(positive), over `scored` answers."""

    answered: int = 0
    unanswered: int = 0
    scored: int = 0
    score_sum: float = 0.0


class Delay(msgspec.Struct, omit_defaults=True):
    """Event time from observation to label, in milliseconds. buckets: log-spaced, see `services.monitor.domain.delays`.

    early: labels older than their observation; they count as 0 in the buckets and as they are in the sum.
    """

    count: int = 0
    early: int = 0
    sum_ms: int = 0
    buckets: dict[int, int] = {}


class ContractFacts(msgspec.Struct, omit_defaults=True):
    """What the control plane must know of the contract in force."""

    version: int
    task: Task
    partitions: int
    fields: list[str]


class WindowSummary(msgspec.Struct, omit_defaults=True):
    """One event-time window of one partition of `stream.kind`, or with `start` None the total since the log began.

    start: first millisecond of the window, which is `length_seconds` long. through_offset: last record counted.
    closed: the window will not change any more; later records for it are `late`, and counted in the total only.
    final_before: windows of this partition that end at or before it are closed. watermark: largest event time seen.
    value_bytes: of the values of predictions and outcomes. undecodable: records that are no event of their topic. late,
    contract: in the total only. missing: observations without that field (log). statuses: outcomes by status. answers
    (predictions) and quality (outcomes): by `model@version`. rejected: by `rule/field`. Dictionaries are bounded; what
    does not fit is counted as `other`.
    """

    stream: str
    kind: Kind
    partition: int
    length_seconds: int
    start: int | None = None
    through_offset: int = -1
    closed: bool = False
    watermark: int | None = None
    final_before: int | None = None
    records: int = 0
    value_bytes: int = 0
    undecodable: int = 0
    late: int = 0
    observations: int = 0
    labels: int = 0
    controls: int = 0
    missing: dict[str, int] = {}
    statuses: dict[str, int] = {}
    answers: dict[str, Answers] = {}
    quality: dict[str, Quality] = {}
    delay: Delay = msgspec.field(default_factory=Delay)
    rejected: dict[str, int] = {}
    contract: ContractFacts | None = None

    def key(self) -> bytes:
        """The record's key: summaries with one key are states of one window, the furthest along is the present."""
        return key(self.stream, self.kind, self.partition, self.length_seconds, self.start)


def key(stream: str, kind: Kind, partition: int, length_seconds: int, start: int | None) -> bytes:
    """`stream/kind/partition/length/start`; `total` stands for the start of a total."""
    return f"{stream}/{kind}/{partition}/{length_seconds}/{'total' if start is None else start}".encode()


encode_summary = msgspec.json.Encoder().encode
decode_summary = msgspec.json.Decoder(WindowSummary).decode
