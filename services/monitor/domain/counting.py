"""Counts the records of one topic into windows: one counter a kind of topic, each one tight loop.

Records are decoded into structs that declare only what is counted (msgspec skips the rest), which is a good half of
the speed. A record that does not decode is counted as such under the newest event time; nothing here raises for it.
A record for a window that has closed is counted in the total alone, and there as late.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from headrace.contracts.events import Scalar
from headrace.contracts.statistics import ContractFacts, Kind, WindowSummary
from headrace.contracts.stream import StreamContract, from_dict
from headrace.errors import Unusable
from headrace.operators.tumbling import BEFORE_ALL_TIME, TumblingWindows
from services.monitor.domain import delays, quality
from services.monitor.domain.summaries import MISSING_KEPT, answers_of, bump, quality_of

Windows = TumblingWindows[WindowSummary]


class Counter(Protocol):
    """Counts values into windows; what is late goes into `total` only."""

    def count(self, values: Sequence[bytes | None], windows: Windows, total: WindowSummary) -> None:
        """Count a run of records, oldest first."""
        ...


class SeenObservation(msgspec.Struct, tag="observation", gc=False):
    """What is counted of an observation."""

    at: int
    x: dict[str, Scalar]


class SeenLabel(msgspec.Struct, tag="label", gc=False):
    """What is counted of a label: it arrived."""

    at: int


class SeenContract(msgspec.Struct, tag="contract"):
    """A contract comes into force."""

    at: int
    version: int
    contract: dict[str, Any]


class SeenDeploy(msgspec.Struct, tag="deploy", gc=False):
    """A control record."""

    at: int


class SeenPromote(msgspec.Struct, tag="promote", gc=False):
    """A control record."""

    at: int


class SeenFreeze(msgspec.Struct, tag="freeze", gc=False):
    """A control record."""

    at: int


class SeenRetire(msgspec.Struct, tag="retire", gc=False):
    """A control record."""

    at: int


class SeenAnswer(msgspec.Struct, gc=False):
    """One model's answer."""

    model: str
    version: int
    answer: Scalar | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None


class SeenPrediction(msgspec.Struct, gc=False):
    """What is counted of a prediction; offset is here because no other record has it with these fields."""

    at: int
    offset: int
    model: str = ""
    version: int = 0
    answer: Scalar | None = None
    score: float | None = None
    challengers: list[SeenAnswer] = []


class SeenOutcome(msgspec.Struct, gc=False):
    """What is counted of an outcome."""

    at: int
    status: str
    observed_at: int = 0
    y: Scalar | None = None
    previous_y: Scalar | None = None
    model: str = ""
    version: int = 0
    answer: Scalar | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    challengers: list[SeenAnswer] = []


class SeenRejected(msgspec.Struct, gc=False):
    """What is counted of a rejected record."""

    at: int
    rule: str
    field: str = ""


Control = SeenContract | SeenDeploy | SeenPromote | SeenFreeze | SeenRetire

_decode_log = msgspec.json.Decoder(
    SeenObservation | SeenLabel | SeenContract | SeenDeploy | SeenPromote | SeenFreeze | SeenRetire
).decode
_decode_prediction = msgspec.json.Decoder(SeenPrediction).decode
_decode_outcome = msgspec.json.Decoder(SeenOutcome).decode
_decode_rejected = msgspec.json.Decoder(SeenRejected).decode

_BAD = (msgspec.MsgspecError, UnicodeDecodeError, TypeError)


class LogCounter:
    """Observations, labels, control records, and which fields observations lack."""

    def __init__(self) -> None:
        self._fields: tuple[str, ...] = ()

    def resume(self, facts: ContractFacts | None) -> None:
        """Continue under this contract."""
        self._fields = tuple(facts.fields) if facts is not None else ()

    def count(self, values: Sequence[bytes | None], windows: Windows, total: WindowSummary) -> None:
        """Count log records; see the protocol."""
        at = windows.at
        expected = len(self._fields)
        for value in values:
            try:
                record = _decode_log(value)  # type: ignore[arg-type]  # None raises TypeError
            except _BAD:
                _undecodable(windows, total)
                continue
            window = at(record.at)
            if window is None:
                window = total
                total.late += 1
            window.records += 1
            kind = type(record)
            if kind is SeenObservation:
                window.observations += 1
                x = record.x
                if len(x) < expected:
                    self._count_missing(window, x)
            elif kind is SeenLabel:
                window.labels += 1
            else:
                window.controls += 1
                if isinstance(record, SeenContract):
                    self._adopt(record, total)
                    expected = len(self._fields)

    def _count_missing(self, window: WindowSummary, x: dict[str, Scalar]) -> None:
        for name in self._fields:
            if name not in x:
                bump(window.missing, name, limit=MISSING_KEPT)

    def _adopt(self, record: SeenContract, total: WindowSummary) -> None:
        """Follow the contract; one that cannot be read is the shard's to refuse, and changes nothing here."""
        try:
            contract = from_dict(record.contract)
        except Unusable:
            return
        total.contract = facts(contract, record.version)
        self.resume(total.contract)


class PredictionCounter:
    """What models said when asked."""

    def count(self, values: Sequence[bytes | None], windows: Windows, total: WindowSummary) -> None:
        """Count predictions; see the protocol."""
        at = windows.at
        for value in values:
            try:
                record = _decode_prediction(value)  # type: ignore[arg-type]  # None raises TypeError
            except _BAD:
                _undecodable(windows, total)
                continue
            window = at(record.at)
            if window is None:
                window = total
                total.late += 1
            window.records += 1
            window.value_bytes += len(value or b"")
            if record.model:
                _count_answer(window, record)
            for said in record.challengers:
                _count_answer(window, said)


class OutcomeCounter:
    """Outcomes by status, label delay, and every model's answers scored on the first label.

    A correction revises the total; windows keep what was known when they closed.
    """

    def count(self, values: Sequence[bytes | None], windows: Windows, total: WindowSummary) -> None:
        """Count outcomes; see the protocol."""
        at = windows.at
        for value in values:
            try:
                record = _decode_outcome(value)  # type: ignore[arg-type]  # None raises TypeError
            except _BAD:
                _undecodable(windows, total)
                continue
            window = at(record.at)
            if window is None:
                window = total
                total.late += 1
            window.records += 1
            window.value_bytes += len(value or b"")
            status = record.status
            bump(window.statuses, status)
            y = record.y
            if status == "labelled":
                delays.add(window.delay, record.at - record.observed_at)
                if y is not None:
                    _score(window, record, y, 1)
            elif status == "expired":
                if y is not None:
                    _score(window, record, y, 1)
            elif status == "corrected" and y is not None:
                if record.previous_y is not None:
                    _score(total, record, record.previous_y, -1)
                _score(total, record, y, 1)


class RejectedCounter:
    """Refused records by rule and field. Their time is when they were refused, not event time."""

    def count(self, values: Sequence[bytes | None], windows: Windows, total: WindowSummary) -> None:
        """Count rejects; see the protocol."""
        for value in values:
            try:
                record = _decode_rejected(value)  # type: ignore[arg-type]  # None raises TypeError
            except _BAD:
                _undecodable(windows, total)
                continue
            window = windows.at(record.at)
            if window is None:
                window = total
                total.late += 1
            window.records += 1
            bump(window.rejected, f"{record.rule}/{record.field}")


COUNTERS: dict[
    Kind, type[LogCounter] | type[PredictionCounter] | type[OutcomeCounter] | type[RejectedCounter]
] = {
    "log": LogCounter,
    "predictions": PredictionCounter,
    "outcomes": OutcomeCounter,
    "rejected": RejectedCounter,
}


def facts(contract: StreamContract, version: int) -> ContractFacts:
    """What the monitor keeps of a contract."""
    features = [field.name for field in contract.fields if field.feature]
    return ContractFacts(version, contract.task, contract.partitions, features)


def _count_answer(window: WindowSummary, said: SeenPrediction | SeenAnswer) -> None:
    answers = answers_of(window, f"{said.model}@{said.version}")
    if said.answer is None:
        answers.unanswered += 1
        return
    answers.answered += 1
    if quality.is_score(said.score):
        answers.scored += 1
        answers.score_sum += said.score


def _score(window: WindowSummary, outcome: SeenOutcome, y: Scalar, weight: int) -> None:
    if outcome.model:
        quality.update(quality_of(window, f"{outcome.model}@{outcome.version}"), y, outcome, weight)
    for said in outcome.challengers:
        quality.update(quality_of(window, f"{said.model}@{said.version}"), y, said, weight)


def _undecodable(windows: Windows, total: WindowSummary) -> None:
    """Count a record that is no event of its topic where the stream is now, or in the total before its first event."""
    now = windows.watermark
    window = windows.at(now) if now != BEFORE_ALL_TIME else None
    (total if window is None else window).undecodable += 1
