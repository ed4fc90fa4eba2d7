"""Counts the columns of one topic into windows: one counter a kind of topic.

A counter is given rows (in log order) and the window that they belong to; which that is the `Ledger` decides. What a
window holds depends on its rows in log order alone, not on how they were batched.
"""

from collections import Counter as Count
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.contracts.events import Scalar
from headrace.contracts.statistics import (
    GROUP_SCORE_BINS,
    SCORE_BINS,
    FieldTally,
    Kind,
    Quality,
    WindowSummary,
)
from services.monitor.domain import delays, fields, quality, sketches
from services.monitor.domain.calibration import cells_of
from services.monitor.domain.columns import (
    CONTROL,
    FIRST,
    LABEL,
    OBSERVATION,
    Columns,
    LogColumns,
    OutcomeColumns,
    PredictionColumns,
    RejectedColumns,
    Said,
    SeenAnswer,
    SeenOutcome,
    SeenPrediction,
)
from services.monitor.domain.summaries import (
    CLASSES_KEPT,
    FIELDS_KEPT,
    GROUP_TALLIES,
    MISSING_KEPT,
    MODELS_KEPT,
    answers_of,
    bump,
    group_of,
    quality_of,
)

C_contra = TypeVar("C_contra", bound=Columns, contravariant=True)

Scores = dict[tuple[str, bool], list[float]]
"""By `model@version`, and whether these are probabilities of a yes."""


class Counter(Protocol[C_contra]):
    """Counts rows of columns, rising, into a window, or what is late into the total (whose `start` is None)."""

    def count(self, columns: C_contra, rows: Sequence[int], window: WindowSummary) -> None:
        """Count. A total is given no details."""
        ...


class LogCounter:
    """Observations, labels, control records, and the values of the observations' fields."""

    def count(self, columns: LogColumns, rows: Sequence[int], window: WindowSummary) -> None:
        """Count log records; see the protocol."""
        counts = np.bincount(columns.kinds[np.asarray(rows, np.intp)], minlength=3)
        window.records += len(rows)
        window.observations += int(counts[OBSERVATION])
        window.labels += int(counts[LABEL])
        window.controls += int(counts[CONTROL])
        facts = columns.facts
        if facts is None or not counts[OBSERVATION]:
            return
        if window.start is not None:
            for name in list(facts.types)[:FIELDS_KEPT]:
                if name not in window.fields and len(window.fields) < FIELDS_KEPT:
                    window.fields[name] = FieldTally()
        self._count_fields(columns, columns.observations(rows), window)
        for row in sorted(columns.new.keys() & set(rows)) if columns.new else ():
            for name, text in columns.new[row]:
                tally = window.fields.get(name)
                if tally is not None and len(tally.new) < fields.NEW_KEPT:
                    tally.new.append(text)

    def _count_fields(
        self,
        columns: LogColumns,
        places: NDArray[np.intp],
        window: WindowSummary,
    ) -> None:
        """Missing values, and the values of the fields that the window tallies."""
        tallies = window.fields
        every = places.size == columns.observed.size
        chosen = [] if every else places.tolist()
        wrong = set(columns.mistyped)
        absent: list[tuple[int, str, int]] = []
        for name, numbers in columns.numbers.items():
            values = numbers if every else numbers[places]
            gaps = np.isnan(values)
            tally = tallies.get(name)
            if gaps.any():
                self._note_gaps(name, places[gaps], wrong, absent, tally)
                values = values[~gaps]
            if tally is not None:
                fields.add_numbers(tally, values)
        for name, column in columns.texts.items():
            texts = column if every else [column[place] for place in chosen]
            counts = Count(texts)
            tally = tallies.get(name)
            if counts.pop(None, 0):
                gone = np.array([text is None for text in texts])
                self._note_gaps(name, places[gone], wrong, absent, tally)
            if tally is not None:
                fields.add_texts(tally, counts)  # type: ignore[arg-type]  # None is out
        # In the order in which they came: at the bound the first are told apart.
        for _, name, count in sorted(absent):
            bump(window.missing, name, count, MISSING_KEPT)

    def _note_gaps(
        self,
        name: str,
        gaps: NDArray[np.intp],
        wrong: set[tuple[int, str]],
        absent: list[tuple[int, str, int]],
        tally: FieldTally | None,
    ) -> None:
        missing = [place for place in gaps.tolist() if (place, name) not in wrong] if wrong else gaps
        if tally is not None:
            tally.mistyped += len(gaps) - len(missing)
        if len(missing):
            absent.append((int(missing[0]), name, len(missing)))


class PredictionCounter:
    """What models said when asked, and how many observations were flagged."""

    def count(self, columns: PredictionColumns, rows: Sequence[int], window: WindowSummary) -> None:
        """Count predictions; see the protocol."""
        window.records += len(rows)
        window.value_bytes += sum(columns.sizes[row] for row in rows)
        scores: Scores = {}
        for row in rows:
            record = columns.records[row]
            assert record is not None
            if record.outliers or record.anomalous:
                window.flagged += 1
                window.anomalous += record.anomalous
                for name in record.outliers or ():
                    bump(window.outliers, name, limit=FIELDS_KEPT)
            if record.model:
                _count_answer(window, record, scores)
            for said in record.challengers:
                _count_answer(window, said, scores)
        for (name, binary), values in scores.items():
            answers, column = answers_of(window, name), np.array(values, np.float64)
            sketches.add(answers.scores, column)
            if binary:
                for cell, count in Count(cells_of(column).tolist()).items():
                    answers.cells[cell] = answers.cells.get(cell, 0) + count


class OutcomeCounter:
    """Outcomes by status, label delay, and every model's answers scored on the first label, also by group.

    A correction revises the total; windows keep what was known when they closed.
    """

    def count(self, columns: OutcomeColumns, rows: Sequence[int], window: WindowSummary) -> None:
        """Count outcomes; see the protocol."""
        detailed = window.start is not None
        at_once = detailed and _fits_columns(columns, window)
        window.records += len(rows)
        window.value_bytes += sum(columns.sizes[row] for row in rows)
        for row in rows:
            record = columns.records[row]
            assert record is not None
            bump(window.statuses, record.status)
            if record.status == "labelled":
                delays.add(window.delay, record.at - record.observed_at)
            if not at_once and record.y is not None and record.status in FIRST:
                _score(window, record, record.y, 1, grouped=detailed)
        if at_once:
            _score_columns(columns, rows, window)

    def correct(self, columns: OutcomeColumns, row: int, total: WindowSummary) -> None:
        """Revise the total by a correction."""
        record = columns.records[row]
        assert record is not None
        if record.y is None:
            return
        if record.previous_y is not None:
            _score(total, record, record.previous_y, -1, grouped=False)
        _score(total, record, record.y, 1, grouped=False)


class RejectedCounter:
    """Refused records by rule and field. Their time is when they were refused, not event time."""

    def count(self, columns: RejectedColumns, rows: Sequence[int], window: WindowSummary) -> None:
        """Count rejects; see the protocol."""
        window.records += len(rows)
        for row in rows:
            record = columns.records[row]
            assert record is not None
            bump(window.rejected, f"{record.rule}/{record.field}")


COUNTERS: dict[
    Kind, type[LogCounter] | type[PredictionCounter] | type[OutcomeCounter] | type[RejectedCounter]
] = {
    "log": LogCounter,
    "predictions": PredictionCounter,
    "outcomes": OutcomeCounter,
    "rejected": RejectedCounter,
}


def _count_answer(window: WindowSummary, said: SeenPrediction | SeenAnswer, scores: Scores) -> None:
    name = f"{said.model}@{said.version}"
    answers = answers_of(window, name)
    answer = said.answer
    if answer is None:
        answers.unanswered += 1
        return
    answers.answered += 1
    if quality.is_score(said.score):
        answers.scored += 1
        answers.score_sum += said.score
        scores.setdefault((name, isinstance(answer, bool)), []).append(said.score)
    if isinstance(answer, float):
        if not quality.is_score(said.score):
            scores.setdefault((name, False), []).append(answer)
    else:
        bump(answers.classes, quality.class_text(answer), limit=CLASSES_KEPT)


def _fits_columns(columns: OutcomeColumns, window: WindowSummary) -> bool:
    """Whether whole columns can be scored: labels and answers are yes or no, and no bound on tallies comes near."""
    if not columns.binary:
        return False
    models = columns.models
    groups = sum(len(grouped.names) for grouped in columns.groups.values())
    return (
        all(said.binary for said in models.values())
        and len(window.quality.keys() | models.keys()) <= MODELS_KEPT
        and len(window.groups.keys() | models.keys()) <= MODELS_KEPT
        and window.grouped + len(models) * groups <= GROUP_TALLIES
    )


def _score_columns(columns: OutcomeColumns, rows: Sequence[int], window: WindowSummary) -> None:
    """Score all models on these rows, tallies being made in the order in which one record after another makes them."""
    inside = np.zeros(len(columns.at), bool)
    inside[np.asarray(rows, np.intp)] = True
    jobs: list[tuple[tuple[int, int, int], str, str, NDArray[np.intp]]] = []
    for name, said in columns.models.items():
        chosen = np.flatnonzero(inside[said.rows])
        if not chosen.size:
            continue
        first = int(said.rows[chosen[0]])
        jobs.append(((first, said.places[chosen[0]], -1), name, "", chosen))
        for field, grouped in columns.groups.items():
            those = chosen[grouped.codes[said.rows[chosen]] >= 0]
            if those.size:
                first = int(said.rows[those[0]])
                jobs.append(((first, said.places[those[0]], grouped.places[first]), name, field, those))
    for (_, _, place), name, field, chosen in sorted(jobs, key=lambda job: job[0]):
        if place < 0:
            _score_chosen(columns.models[name], chosen, [quality_of(window, name)], None, SCORE_BINS)
            continue
        said, grouped = columns.models[name], columns.groups[field]
        codes = grouped.codes[said.rows[chosen]]
        different, first_at = np.unique(codes, return_index=True)
        order = np.argsort(first_at)
        tallies: dict[int, Quality] = {}  # by identity: groups beyond the bound share one
        which = np.empty(len(grouped.names), np.intp)
        for code in different[order].tolist():
            tally = group_of(window, name, field, grouped.names[code])
            if tally is None:
                break  # it is a field too many
            tallies.setdefault(id(tally), tally)
            which[code] = list(tallies).index(id(tally))
        else:
            _score_chosen(said, chosen, list(tallies.values()), which[codes], GROUP_SCORE_BINS)


def _score_chosen(
    said: Said, chosen: NDArray[np.intp], tallies: list[Quality], which: NDArray[np.intp] | None, bins: int
) -> None:
    if which is None:
        which = np.zeros(chosen.size, np.intp)
    answered = said.answered[chosen]
    if not answered.all():
        for n, silent in enumerate(np.bincount(which[~answered], minlength=len(tallies)).tolist()):
            tallies[n].unanswered += silent
        chosen, which = chosen[answered], which[answered]
    quality.update_binary(tallies, which, said.y[chosen], said.answer[chosen], said.scores[chosen], bins)


def _score(window: WindowSummary, outcome: SeenOutcome, y: Scalar, weight: int, *, grouped: bool) -> None:
    if outcome.model:
        _score_one(window, outcome, outcome, y, weight, grouped=grouped)
    for said in outcome.challengers:
        _score_one(window, outcome, said, y, weight, grouped=grouped)


def _score_one(
    window: WindowSummary,
    outcome: SeenOutcome,
    said: SeenOutcome | SeenAnswer,
    y: Scalar,
    weight: int,
    *,
    grouped: bool,
) -> None:
    name = f"{said.model}@{said.version}"
    quality.update(quality_of(window, name), y, said, weight)
    if grouped and outcome.groups:
        for field, value in outcome.groups.items():
            tally = group_of(window, name, field, value)
            if tally is not None:
                quality.update(tally, y, said, weight, bins=GROUP_SCORE_BINS)
