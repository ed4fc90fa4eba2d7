"""A batch as columns: what is decoded of every record, once, for tallies and for whoever else looks at each of them.

Rows are in log order, and so are all columns. What is no event of its topic is a row without a time. A column is made
when it is first asked for, where not everybody needs it.
"""

from collections.abc import Sequence
from functools import cached_property
from types import NoneType
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.contracts.events import Scalar
from headrace.contracts.statistics import ContractFacts

CONTROL, OBSERVATION, LABEL = range(3)

TEXT_LENGTH = 64
"""Longest text told apart from others, in characters."""

NUMERIC = ("integer", "number", "time")

Places = NDArray[np.intp]
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Texts = Sequence[str | None]

FIRST = ("labelled", "expired")
"""What becomes of an outcome that is the first to be known."""


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
    groups: dict[str, str] | None = None
    outliers: list[str] | None = None
    anomalous: bool = False


class SeenOutcome(msgspec.Struct, gc=False):
    """What is looked at of an outcome. Required is what no other record has."""

    at: int
    status: str
    offset: int
    observed_at: int = 0
    prediction_offset: int = -1
    y: Scalar | None = None
    previous_y: Scalar | None = None
    model: str = ""
    version: int = 0
    answer: Scalar | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    challengers: list[SeenAnswer] = []
    groups: dict[str, str] | None = None


class SeenRejected(msgspec.Struct, gc=False):
    """What is counted of a rejected record."""

    at: int
    rule: str
    field: str = ""


class Columns:
    """A run of records. offsets: of every record; at: its event time in ms, None if it is no event of its topic.

    corrections: rows that take back what an earlier one has said.
    """

    def __init__(self, offsets: Sequence[int], at: list[int | None]) -> None:
        self.offsets = offsets
        self.at = at
        self.corrections: list[int] = []


class LogColumns(Columns):
    """A run of log records under one contract (`facts`; None before the first).

    kinds: of each row, `OBSERVATION`, `LABEL` or `CONTROL` (also of what is no event). observed: rows of the
    observations; numbers (NaN: missing) and texts (None: missing; booleans are `true` and `false`): their values, one
    entry an observation, features and fields that stand aside alike. mistyped: (place among the observations, field).
    new: (field, text) that the log had not shown before, by row. adopted: the contract that the run's last record
    brings.
    """

    def __init__(self, offsets: Sequence[int], at: list[int | None], facts: ContractFacts | None) -> None:
        super().__init__(offsets, at)
        self.facts = facts
        self.kinds: NDArray[np.int8] = np.zeros(len(at), np.int8)
        self.observed: Places = np.zeros(0, np.intp)
        self.numbers: dict[str, Numbers] = {}
        self.texts: dict[str, Texts] = {}
        self.mistyped: list[tuple[int, str]] = []
        self.new: dict[int, list[tuple[str, str]]] = {}
        self.adopted: ContractFacts | None = None

    def observations(self, rows: Sequence[int]) -> Places:
        """The places among the observations of those of these rows (rising) that are some."""
        chosen = np.asarray(rows, np.intp)
        chosen = chosen[self.kinds[chosen] == OBSERVATION]
        places: Places = np.searchsorted(self.observed, chosen)
        return places


class Said(NamedTuple):
    """What one model version said of the rows whose truth became known, and the truth.

    rows; places: where in each record the model stands (0: on top). answers: None if it could not say. scores: NaN
    without one. labels. answered, answer, y: the same as booleans, if `binary`: all answers and labels are booleans.
    """

    rows: Places
    places: list[int]
    answers: list[Scalar | None]
    scores: Numbers
    labels: list[Scalar | None]
    binary: bool
    answered: Flags
    answer: Flags
    y: Flags


class Grouped(NamedTuple):
    """Every row's group by one field, as an index into `names` (in the order in which they came); -1: in none.

    places: where in each record the field stands.
    """

    codes: Places
    names: list[str]
    places: list[int]


class PredictionColumns(Columns):
    """records: None where there is no time. sizes: of their values, in bytes."""

    def __init__(
        self, offsets: Sequence[int], records: list[SeenPrediction | None], sizes: Sequence[int]
    ) -> None:
        super().__init__(offsets, [None if record is None else record.at for record in records])
        self.records = records
        self.sizes = sizes

    def piece(self, span: slice) -> "PredictionColumns":
        """Some of the rows; itself, if they are all."""
        some = self.records[span]
        if len(some) == len(self.records):
            return self
        return PredictionColumns(self.offsets[span], some, self.sizes[span])

    def since(self, at: int) -> "PredictionColumns":
        """Without what was observed before; such rows are no events."""
        kept = [None if one is None or one.at < at else one for one in self.records]
        return PredictionColumns(self.offsets, kept, self.sizes)

    @cached_property
    def models(self) -> dict[str, Said]:
        """By `model@version`: all that was asked. Labels are unknown, so none is `binary`."""
        found: dict[tuple[str, int], tuple[list[Any], ...]] = {}
        for row, record in enumerate(self.records):
            if record is not None:
                _note(found, record, row, None)
        return {f"{model}@{version}": _said(*lists) for (model, version), lists in found.items()}

    @cached_property
    def groups(self) -> dict[str, Grouped]:
        """By field."""
        return _grouped(self.records)


class OutcomeColumns(Columns):
    """records: None where there is no time. sizes: of their values, in bytes."""

    def __init__(
        self, offsets: Sequence[int], records: list[SeenOutcome | None], sizes: Sequence[int]
    ) -> None:
        super().__init__(offsets, [None if record is None else record.at for record in records])
        self.records = records
        self.sizes = sizes
        self.corrections = [
            row for row, record in enumerate(records) if record is not None and record.status == "corrected"
        ]

    def piece(self, span: slice) -> "OutcomeColumns":
        """Some of the rows; itself, if they are all."""
        some = self.records[span]
        if len(some) == len(self.records):
            return self
        return OutcomeColumns(self.offsets[span], some, self.sizes[span])

    def since(self, at: int) -> "OutcomeColumns":
        """Without what was observed before; such rows are no events."""
        kept = [None if one is None or one.observed_at < at else one for one in self.records]
        return OutcomeColumns(self.offsets, kept, self.sizes)

    @cached_property
    def binary(self) -> bool:
        """Whether all labels are booleans."""
        return {type(record.y) for record in self.records if record is not None} <= {bool, NoneType}

    @cached_property
    def models(self) -> dict[str, Said]:
        """By `model@version`: first labels, and expiries that are negatives."""
        found: dict[tuple[str, int], tuple[list[Any], ...]] = {}
        for row, record in enumerate(self.records):
            if record is not None and record.y is not None and record.status in FIRST:
                _note(found, record, row, record.y)
        return {f"{model}@{version}": _said(*lists) for (model, version), lists in found.items()}

    @cached_property
    def groups(self) -> dict[str, Grouped]:
        """By field."""
        return _grouped(self.records)


class RejectedColumns(Columns):
    """records: None where there is no time."""

    def __init__(self, offsets: Sequence[int], records: list[SeenRejected | None]) -> None:
        super().__init__(offsets, [None if record is None else record.at for record in records])
        self.records = records


def _note(
    found: dict[tuple[str, int], tuple[list[Any], ...]],
    record: SeenPrediction | SeenOutcome,
    row: int,
    y: Scalar | None,
) -> None:
    asked: list[SeenPrediction | SeenOutcome | SeenAnswer] = [record, *record.challengers]
    for place, said in enumerate(asked):
        if place == 0 and not record.model:
            continue
        lists = found.get((said.model, said.version))
        if lists is None:
            lists = found[said.model, said.version] = ([], [], [], [], [])
        lists[0].append(row)
        lists[1].append(place)
        lists[2].append(said.answer)
        lists[3].append(said.score)
        lists[4].append(y)


def _said(
    rows: list[int],
    places: list[int],
    answers: list[Scalar | None],
    scores: list[float | None],
    labels: list[Scalar | None],
) -> Said:
    binary = set(map(type, labels)) == {bool} and set(map(type, answers)) <= {bool, NoneType}
    return Said(
        np.array(rows, np.intp),
        places,
        answers,
        np.array(scores, np.float64),
        labels,
        binary,
        np.array([one is not None for one in answers], bool),
        np.array([one is True for one in answers], bool),
        np.array([one is True for one in labels], bool),
    )


def _grouped(records: Sequence[SeenPrediction | None] | Sequence[SeenOutcome | None]) -> dict[str, Grouped]:
    found: dict[str, tuple[Places, dict[str, int], list[int]]] = {}
    for row, record in enumerate(records):
        if record is None or not record.groups:
            continue
        for place, (field, group) in enumerate(record.groups.items()):
            known = found.get(field)
            if known is None:
                known = found[field] = (np.full(len(records), -1, np.intp), {}, [0] * len(records))
            codes, names, places = known
            code = names.get(group)
            if code is None:
                code = names[group] = len(names)
            codes[row] = code
            places[row] = place
    return {field: Grouped(codes, list(names), places) for field, (codes, names, places) in found.items()}
