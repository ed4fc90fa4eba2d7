"""The records around an alarm as columns: what came, what was said of it, what was true; a row an observation.

The three topics are joined by the observation's offset in the log, so a row is one question with everything that is
known of it by now. Truth that is not known yet is NaN or None: a row is never left out for it, as who waits for labels
wants to know how many are missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.contracts.events import Scalar
from headrace.contracts.statistics import ContractFacts
from services.monitor.domain.columns import (
    FIRST,
    TEXT_LENGTH,
    LogColumns,
    OutcomeColumns,
    PredictionColumns,
    SeenAnswer,
    SeenOutcome,
    SeenPrediction,
    Texts,
)
from services.monitor.domain.drift.arrays import Counts, Floats
from services.monitor.domain.drift.concept import SURE, Task

SERVED = ""
"""The voice of whoever answered: what people got."""
VOICES = 12
"""Model versions that are listened to, the first that come; beyond that, they are heard only when they answer."""
LARGEST = 1e100
"""Numbers are held within this, so that sums of their squares stay finite (JSON knows no infinity)."""
LONG = "(longer)"
"""All texts that are longer than those told apart."""

Flags = NDArray[np.bool_]


class Voice(NamedTuple):
    """What one model version said, a row each.

    answers: None if it did not. scores: P(positive). wrong (0 or 1), loss (log loss; of a regression the absolute
    error): NaN while the truth is not known, or where there is none.
    """

    answers: list[Scalar | None]
    scores: Floats
    wrong: Floats
    loss: Floats


class Stretch(NamedTuple):
    """Rows in the order of the log. cut: the first row of the change; those before it are what it is held against.

    at: event time, ms. numbers (NaN: missing), texts (None: missing): features and fields that stand aside. groups: by
    the fields that make groups. labels: None while not known; resolved: nobody waits for it any more. delays: of the
    labels, in seconds, NaN without one. top: who answered, as `model@version`. voices: by that name, and `SERVED`.
    """

    facts: ContractFacts
    offsets: Counts
    at: Counts
    cut: int
    numbers: Mapping[str, Floats]
    texts: Mapping[str, Texts]
    groups: Mapping[str, Texts]
    labels: list[Scalar | None]
    resolved: Flags
    delays: Floats
    top: list[str]
    voices: Mapping[str, Voice]

    @property
    def after(self) -> Flags:
        """Which rows lie after the change."""
        return np.arange(len(self.offsets)) >= self.cut


def join(
    facts: ContractFacts,
    log: Iterable[LogColumns],
    predictions: Iterable[PredictionColumns],
    outcomes: Iterable[OutcomeColumns],
    since: int,
) -> Stretch:
    """The records of one partition; since: offset of the log with which the change began."""
    offsets, at, numbers, texts = _observations(log)
    rows = {offset: row for row, offset in enumerate(offsets.tolist())}
    heard = _Heard(len(offsets), facts.task)
    for said in predictions:
        for record in said.records:
            row = None if record is None else rows.get(record.offset)
            if record is not None and row is not None:
                heard.ask(row, record)
    for resolved in outcomes:
        for outcome in resolved.records:
            row = None if outcome is None else rows.get(outcome.prediction_offset)
            if outcome is not None and row is not None and outcome.status in FIRST:
                heard.judge(row, outcome)
    return Stretch(
        facts, offsets, at, int(np.searchsorted(offsets, since)), numbers, texts, heard.groups, heard.labels,
        heard.resolved, heard.delays, heard.top, heard.voices,
    )  # fmt: skip


class _Heard:
    """What is filled in, record by record."""

    def __init__(self, size: int, task: Task) -> None:
        self._size, self._task = size, task
        self.groups: dict[str, list[str | None]] = {}
        self.labels: list[Scalar | None] = [None] * size
        self.resolved = np.zeros(size, bool)
        self.delays = np.full(size, np.nan)
        self.top = [""] * size
        self.voices: dict[str, Voice] = {SERVED: self._voice()}

    def ask(self, row: int, record: SeenPrediction) -> None:
        for field, group in (record.groups or {}).items():
            if field not in self.groups:
                self.groups[field] = [None] * self._size
            self.groups[field][row] = group[:TEXT_LENGTH]
        if record.model:
            self.top[row] = f"{record.model}@{record.version}"
        for voice, said in self._speaking(record):
            voice.answers[row] = said.answer
            voice.scores[row] = np.nan if said.score is None else said.score

    def judge(self, row: int, outcome: SeenOutcome) -> None:
        self.resolved[row] = True
        y = outcome.y
        if y is None:
            return
        self.labels[row] = y
        if outcome.status == "labelled":
            self.delays[row] = (outcome.at - outcome.observed_at) / 1000
        for voice, said in self._speaking(outcome):
            voice.wrong[row], voice.loss[row] = _lost(self._task, y, said)

    def _speaking(
        self, record: SeenPrediction | SeenOutcome
    ) -> Iterable[tuple[Voice, SeenPrediction | SeenOutcome | SeenAnswer]]:
        if record.model:
            yield self.voices[SERVED], record
        for said in (record, *record.challengers) if record.model else record.challengers:
            name = f"{said.model}@{said.version}"
            if name not in self.voices:
                if len(self.voices) > VOICES:
                    continue
                self.voices[name] = self._voice()
            yield self.voices[name], said

    def _voice(self) -> Voice:
        nothing = np.full(self._size, np.nan)
        return Voice([None] * self._size, nothing, nothing.copy(), nothing.copy())


def _lost(task: Task, y: Scalar, said: SeenPrediction | SeenOutcome | SeenAnswer) -> tuple[float, float]:
    """Whether it was wrong, and its loss; NaN where it said nothing."""
    answer = said.answer
    if answer is None:
        return np.nan, np.nan
    if task == "regression":
        both = isinstance(y, int | float) and isinstance(answer, int | float)
        return np.nan, min(abs(float(y) - float(answer)), LARGEST) if both else np.nan
    held: float | None
    if task == "binary":
        held = said.score if y is True or said.score is None else 1.0 - said.score
    else:
        chances = None if isinstance(said, SeenPrediction) else said.probabilities
        held = None if chances is None else chances.get(str(y), 0.0)
    return float(answer != y), np.nan if held is None else -log(min(max(held, SURE), 1.0))


def _observations(
    log: Iterable[LogColumns],
) -> tuple[Counts, Counts, dict[str, Floats], dict[str, Sequence[str | None]]]:
    """Their offsets, times and fields; a field that another contract has not is missing there."""
    runs = [run for run in log if len(run.observed)]
    sizes = [len(run.observed) for run in runs]
    offsets = [run.offsets[row] for run in runs for row in run.observed.tolist()]
    at = [run.at[row] or 0 for run in runs for row in run.observed.tolist()]
    numbers = {
        name: np.clip(
            np.concatenate(
                [run.numbers.get(name, np.full(size, np.nan)) for run, size in zip(runs, sizes, strict=True)]
            ),
            -LARGEST,
            LARGEST,
        )
        for name in dict.fromkeys(name for run in runs for name in run.numbers)
    }
    texts: dict[str, Sequence[str | None]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.texts):
        column: list[str | None] = []
        for run, size in zip(runs, sizes, strict=True):
            given = run.texts.get(name, [None] * size)
            column += [LONG if text is not None and len(text) > TEXT_LENGTH else text for text in given]
        texts[name] = column
    return np.array(offsets, np.int64), np.array(at, np.int64), numbers, texts
