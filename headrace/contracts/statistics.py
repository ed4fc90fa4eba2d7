"""What the monitor's data plane tells its control plane: the summary of one window of one partition of one topic.

A summary holds the *full* state of its window through `through_offset`, not a change to it. So merging is idempotent
(of two summaries with one key the one further along wins), a compacted topic keeps exactly what is needed, and a
reader that sees uncommitted records is not misled: the same log prefix always gives the same summary. Counts are
integers; sums of floats are added in log order, so they too come out the same however the records were batched.
"""

from typing import Literal

import msgspec

from headrace.contracts.stream import FieldType, Task

Kind = Literal["log", "predictions", "outcomes", "rejected"]

SCORE_BINS = 1000
"""Equal bins of [0, 1] in the score histograms; a score of exactly 1 has a bin of its own, so indices are 0..1000."""


GROUP_SCORE_BINS = 50
"""The same, in the histograms of a group."""


class Sketch(msgspec.Struct, omit_defaults=True):
    """The distribution of numbers: how many fell into each bucket of doubles that agree but for their last bits.

    shift: how many bits. The same numbers give the same sketch, in any order and however they were merged; see
    `services.monitor.domain.sketches`.
    """

    shift: int = 0
    buckets: dict[int, int] = {}


class FieldTally(msgspec.Struct, omit_defaults=True):
    """The values of one field. How often it was missing stands in its window's `missing`.

    count: values; mistyped: those of another type than the contract's (nothing that went through ingest). Numbers and
    times: least, greatest, sum and squares (of the distances from `origin`, the first), sketch. Texts, and booleans as
    `true` and `false`: values (text -> count), other: those beyond the bound, new: those that the partition's log had
    not shown before.
    """

    count: int = 0
    mistyped: int = 0
    least: float | None = None
    greatest: float | None = None
    origin: float = 0.0
    sum: float = 0.0
    squares: float = 0.0
    sketch: Sketch = msgspec.field(default_factory=Sketch)
    values: dict[str, int] = {}
    other: int = 0
    new: list[str] = []


class Quality(msgspec.Struct, omit_defaults=True):
    """Answers of one model version scored on their labels; which figures mean something depends on the task.

    count: answers scored; unanswered: labels without an answer. correct: answers equal to the label. tp..fn, brier,
    positives, negatives (score histograms by truth: bin -> count): boolean labels. scored, loss (natural log, summed):
    answers that came with a score or probabilities. numeric, absolute, squared (errors summed), y_mean, y_squares
    (mean of the labels, sum of their squared distances from it): numeric labels. confusion: labels that are classes:
    label -> answer -> count.
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
    confusion: dict[str, dict[str, int]] = {}


class Answers(msgspec.Struct, omit_defaults=True):
    """What one model version said when asked. score_sum: sum of its P(positive), over `scored` answers.

    classes: answers that are no numbers, by class (as text). scores: the distribution of P(positive), or of the answers
    of a regression. cells: P(positive) of yes and no, by cell, see `services.monitor.domain.calibration`.
    """

    answered: int = 0
    unanswered: int = 0
    scored: int = 0
    score_sum: float = 0.0
    classes: dict[str, int] = {}
    scores: Sketch = msgspec.field(default_factory=Sketch)
    cells: dict[int, int] = {}


class Delay(msgspec.Struct, omit_defaults=True):
    """Event time from observation to label, in milliseconds. buckets: log-spaced, see `services.monitor.domain.delays`.

    early: labels older than their observation; they count as 0 in the buckets and as they are in the sum.
    """

    count: int = 0
    early: int = 0
    sum_ms: int = 0
    buckets: dict[int, int] = {}


class ContractFacts(msgspec.Struct, omit_defaults=True):
    """What the monitor must know of the contract in force.

    fields: the features. types: of those, and of the fields that stand aside. sensitive, segments: the fields that make
    groups.
    """

    version: int
    task: Task
    partitions: int
    fields: list[str]
    types: dict[str, FieldType] = {}
    aside: list[str] = []
    sensitive: list[str] = []
    segments: list[str] = []


class WindowSummary(msgspec.Struct, omit_defaults=True):
    """One event-time window of one partition of `stream.kind`, or with `start` None the total since the log began.

    start: first millisecond of the window, which is `length_seconds` long. through_offset: last record counted.
    closed: the window is complete but for late records, which are in the total as `late`. A window that closed not long
    ago takes them in all the same: `revised` counts them. Those for older windows are in the total only.
    final_before: windows of this partition that end at or before it are closed. watermark: largest event time seen.
    value_bytes: of the values of predictions and outcomes. undecodable: records that are no event of their topic. late,
    contract: in the total only. missing: observations without that field (log). fields: the values of observations by
    field (log; not in the total). statuses: outcomes by status. answers (predictions) and quality (outcomes): by
    `model@version`. groups: quality by `model@version`, field and group (outcomes; not in the total), `grouped` of
    them. flagged: predictions with an outlier or anomalous, outliers by field, anomalous (predictions). rejected: by
    `rule/field`. Dictionaries are bounded; what does not fit is counted as `other`.
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
    revised: int = 0
    missing: dict[str, int] = {}
    fields: dict[str, FieldTally] = {}
    statuses: dict[str, int] = {}
    answers: dict[str, Answers] = {}
    quality: dict[str, Quality] = {}
    groups: dict[str, dict[str, dict[str, Quality]]] = {}
    grouped: int = 0
    flagged: int = 0
    anomalous: int = 0
    outliers: dict[str, int] = {}
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
