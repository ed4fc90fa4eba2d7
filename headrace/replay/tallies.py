"""What a replay counts: every answer scored on its label, by windows of event time, beside what really happened.

Everything here is sums and integer counts, so it merges over windows and partitions, is bounded, and depends on the
order of the log alone. An outcome belongs to the window of its *observation*: the answer was given then, and a later
correction revises the same window. Windows widen by themselves: they begin at a millisecond and grow along a ladder
whenever there would be too many. The only module of `headrace.replay` whose objects are saved.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterable
from math import frexp, ldexp, log
from typing import Any

from headrace.contracts.events import Answer, Outcome, Prediction, Scalar
from headrace.contracts.stream import Task
from headrace.fold.metrics import SMALLEST_PROBABILITY, TALLIES
from headrace.replay.plan import Plan

_SECOND, _HOUR, _DAY = 1_000, 3_600_000, 86_400_000
WIDTHS_MS = (
    1, 10, 100, _SECOND, 5 * _SECOND, 15 * _SECOND, 60 * _SECOND, 300 * _SECOND, 900 * _SECOND, _HOUR, 3 * _HOUR,
    6 * _HOUR, 12 * _HOUR, _DAY, 7 * _DAY, 28 * _DAY, 84 * _DAY, 336 * _DAY, 3360 * _DAY, 33_600 * _DAY,
)  # fmt: skip
"""Each divides the next, so that widening merges whole windows."""
MOST_WINDOWS = 80
MOST_SERIES = 50
"""Model versions of the past that are told apart; the answers that were served are one series in any case."""
MOST_CELLS = 2_500
"""Pairs of (truth, answer) of a multiclass confusion; others are counted together."""
CONFIDENCE_BINS = 20
ERROR_STEPS = 8
"""Bins of absolute errors to a doubling."""


class Series:
    """One model's scored answers. threshold: decides instead of the model; cuts: other thresholds that are tried."""

    def __init__(self, task: Task, threshold: float | None = None, cuts: Iterable[float] = ()) -> None:
        self.task = task
        self.threshold = threshold
        self.windows: dict[int, Any] = {}
        self.cuts = {cut: [0, 0, 0, 0] for cut in cuts}
        """By threshold: true positives, false positives, false negatives, true negatives."""
        self.cells: dict[tuple[Scalar, Scalar], int] = {}
        self.beyond = 0
        self.confidence: dict[int, list[float]] = {}
        """By bin of the highest probability: answers, hits, sum of probabilities."""
        self.errors: dict[int, int] = {}
        """Absolute errors, by bins of which each doubling has `ERROR_STEPS`."""

    def update(self, window: int, y: Any, said: Answer | Outcome, weight: int = 1) -> None:
        """Score an answer on its label (weight -1: take it back)."""
        score = said.score
        if self.threshold is not None and score is not None:
            said = Answer(said.model, said.version, score >= self.threshold, score)
        tally = self.windows.get(window)
        if tally is None:
            tally = self.windows[window] = TALLIES[self.task]()
        tally.update(y, said, weight)
        if self.task == "binary":
            if score is not None and self.cuts:
                for cut, counts in self.cuts.items():
                    counts[(0 if y else 1) if score >= cut else (2 if y else 3)] += weight
        elif said.answer is not None:
            if self.task == "multiclass":
                self._update_classes(y, said, weight)
            else:
                place = error_bin(abs(y - said.answer))
                self.errors[place] = self.errors.get(place, 0) + weight

    def _update_classes(self, y: Scalar, said: Answer | Outcome, weight: int) -> None:
        assert said.answer is not None
        cell = (y, said.answer)
        if cell in self.cells or len(self.cells) < MOST_CELLS:
            self.cells[cell] = self.cells.get(cell, 0) + weight
        else:
            self.beyond += weight
        if said.probabilities:
            top = max(said.probabilities.values())
            place = min(int(top * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
            entry = self.confidence.setdefault(place, [0, 0, 0.0])
            entry[0] += weight
            entry[1] += weight * (said.answer == y)
            entry[2] += weight * top

    def total(self) -> Any:
        """A tally of everything."""
        total = TALLIES[self.task]()
        for tally in self.windows.values():
            total.merge(tally)
        return total

    def widen(self, factor: int) -> None:
        """Merge windows."""
        self.windows = _widened(self.windows, factor, lambda one, other: one.merge(other))

    def merge(self, other: "Series") -> None:
        """Add another partition's; both have windows of the same width."""
        for window, tally in other.windows.items():
            mine = self.windows.get(window)
            if mine is None:
                mine = self.windows[window] = TALLIES[self.task]()
            mine.merge(tally)
        for cut, counts in other.cuts.items():
            self.cuts[cut] = [a + b for a, b in zip(self.cuts[cut], counts, strict=True)]
        _add(self.cells, other.cells)
        _add(self.errors, other.errors)
        self.beyond += other.beyond
        for place, entry in other.confidence.items():
            mine_entry = self.confidence.setdefault(place, [0, 0, 0.0])
            self.confidence[place] = [a + b for a, b in zip(mine_entry, entry, strict=True)]


class Pairing:
    """Differences in loss of one model to another, on the same labels: by window, how many and their sum."""

    def __init__(self) -> None:
        self.windows: dict[int, list[float]] = {}

    def add(self, window: int, difference: float) -> None:
        """One outcome that both answered."""
        entry = self.windows.get(window)
        if entry is None:
            entry = self.windows[window] = [0, 0.0]
        entry[0] += 1
        entry[1] += difference

    def widen(self, factor: int) -> None:
        """Merge windows."""
        self.windows = _widened(self.windows, factor, _merge_sums)

    def merge(self, other: "Pairing") -> None:
        """Add another partition's."""
        for window, entry in other.windows.items():
            _merge_sums(self.windows.setdefault(window, [0, 0.0]), entry)


class Open:
    """An observation that was counted and whose end is not known on both sides yet: (label or None, losses) of each."""

    __slots__ = ("happened", "replayed")

    def __init__(self) -> None:
        self.replayed: tuple[Scalar | None, list[float | None]] | None = None
        self.happened: tuple[Scalar | None, float | None] | None = None


class Tallies:
    """Everything counted of one partition, and then of all.

    corrects: whether a second label of the past was a correction, so that ended observations must be known as well.
    Bounds: `MOST_WINDOWS` windows; as many open observations as the contract remembers ids, the oldest of which is
    then no longer compared; `MOST_SERIES` versions of the past.
    """

    def __init__(self, task: Task, plan: Plan, *, corrects: bool = False) -> None:
        self.task: Task = task
        self.width = 0
        """Place in `WIDTHS_MS`."""
        self.windows: dict[int, int] = {}
        """Observations by window."""
        first = plan.thresholds[0] if plan.thresholds else None
        self.replayed = {model.name: Series(task, first, plan.thresholds) for model in plan.models}
        self.served = Series(task, None, plan.thresholds)
        self.versions: dict[tuple[str, int], Series] = {}
        self.versions_beyond = 0
        self.to_served = {model.name: Pairing() for model in plan.models}
        self.to_first = {model.name: Pairing() for model in plan.models[1:]}
        self.observations = self.labelled = self.expired = self.corrected = 0
        self.happened_labelled = self.happened_expired = self.happened_corrected = 0
        self._cuts = plan.thresholds
        self._corrects = corrects
        self._open: OrderedDict[int, Open | None] = OrderedDict()
        """By the observation's offset; None: ended on both sides, kept for corrections."""

    # -- what the replay gives --------------------------------------------------------------------------------------

    def predicted(self, prediction: Prediction, remembered: int) -> None:
        """An observation that is counted."""
        self.observations += 1
        window = prediction.at // WIDTHS_MS[self.width]
        self.windows[window] = self.windows.get(window, 0) + 1
        while len(self.windows) > MOST_WINDOWS and self.width < len(WIDTHS_MS) - 1:
            self.widen()
        self._open[prediction.offset] = Open()
        if len(self._open) > remembered:
            self._open.popitem(last=False)

    def resolved(self, outcome: Outcome) -> None:
        """What became of a counted observation in the replay."""
        window = outcome.observed_at // WIDTHS_MS[self.width]
        corrected = outcome.status == "corrected"
        self._count(outcome, "")
        losses: list[float | None] = []
        y = outcome.y
        if y is not None:
            answers: dict[str, Answer | Outcome] = {said.model: said for said in outcome.challengers}
            answers[outcome.model] = outcome
            for name, series in self.replayed.items():
                said = answers[name]
                if corrected and outcome.previous_y is not None:
                    series.update(window, outcome.previous_y, said, -1)
                series.update(window, y, said)
                losses.append(loss(self.task, y, said))
        if not corrected:
            self._compare_to_first(window, losses)
            entry = self._open.get(outcome.prediction_offset)
            if entry is not None:
                entry.replayed = (y, losses)
                self._compare_to_served(window, outcome.prediction_offset, entry)

    # -- what happened ----------------------------------------------------------------------------------------------

    def happened(self, outcome: Outcome) -> None:
        """An outcome of the past; scored if its observation is one that the replay counts too."""
        if outcome.prediction_offset not in self._open:
            return
        window = outcome.observed_at // WIDTHS_MS[self.width]
        corrected = outcome.status == "corrected"
        self._count(outcome, "happened_")
        y = outcome.y
        if y is not None:
            for series, said in self._series_of(outcome):
                if corrected and outcome.previous_y is not None:
                    series.update(window, outcome.previous_y, said, -1)
                series.update(window, y, said)
        entry = self._open[outcome.prediction_offset]
        if entry is not None and not corrected:
            entry.happened = (y, None if y is None else loss(self.task, y, outcome))
            self._compare_to_served(window, outcome.prediction_offset, entry)

    def _count(self, outcome: Outcome, side: str) -> None:
        name = side + outcome.status
        setattr(self, name, getattr(self, name) + 1)

    def _series_of(self, outcome: Outcome) -> list[tuple[Series, Answer | Outcome]]:
        found: list[tuple[Series, Answer | Outcome]] = []
        answers: list[Answer | Outcome] = [outcome, *outcome.challengers]
        if outcome.model:
            found.append((self.served, outcome))
        else:
            del answers[0]  # there was no champion
        for said in answers:
            version = (said.model, said.version)
            series = self.versions.get(version)
            if series is None:
                if len(self.versions) >= MOST_SERIES:
                    self.versions_beyond += 1
                    continue
                series = self.versions[version] = Series(self.task, None, self._cuts)
            found.append((series, said))
        return found

    # -- comparing --------------------------------------------------------------------------------------------------

    def _compare_to_first(self, window: int, losses: list[float | None]) -> None:
        if not losses or losses[0] is None:
            return
        for pairing, other in zip(self.to_first.values(), losses[1:], strict=True):
            if other is not None:
                pairing.add(window, other - losses[0])

    def _compare_to_served(self, window: int, offset: int, entry: Open) -> None:
        """Once both ends are known; only if both were on the same label."""
        if entry.replayed is None or entry.happened is None:
            return
        if self._corrects:
            self._open[offset] = None
        else:
            del self._open[offset]
        (y, losses), (truth, served) = entry.replayed, entry.happened
        if y is None or served is None or y != truth:
            return
        for pairing, other in zip(self.to_served.values(), losses, strict=True):
            if other is not None:
                pairing.add(window, other - served)

    # -- windows ----------------------------------------------------------------------------------------------------

    def widen(self) -> None:
        """Take the next width."""
        factor = WIDTHS_MS[self.width + 1] // WIDTHS_MS[self.width]
        self.width += 1
        counts: dict[int, int] = {}
        for window, count in self.windows.items():
            counts[window // factor] = counts.get(window // factor, 0) + count
        self.windows = counts
        for part in self._parts():
            part.widen(factor)

    def _parts(self) -> list[Series | Pairing]:
        return [
            *self.replayed.values(), self.served, *self.versions.values(), *self.to_served.values(),
            *self.to_first.values(),
        ]  # fmt: skip

    def merge(self, other: "Tallies") -> None:
        """Add another partition's. Widens both as far as is needed."""
        while self.width < other.width:
            self.widen()
        while other.width < self.width:
            other.widen()
        _add(self.windows, other.windows)
        for version, series in other.versions.items():
            if version not in self.versions and len(self.versions) >= MOST_SERIES:
                self.versions_beyond += 1
                continue
            self.versions.setdefault(version, Series(self.task, None, self._cuts)).merge(series)
        self.served.merge(other.served)
        for name in self.replayed:
            self.replayed[name].merge(other.replayed[name])
            self.to_served[name].merge(other.to_served[name])
        for name in self.to_first:
            self.to_first[name].merge(other.to_first[name])
        for name in (
            "observations", "labelled", "expired", "corrected", "happened_labelled", "happened_expired",
            "happened_corrected", "versions_beyond",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        while len(self.windows) > MOST_WINDOWS and self.width < len(WIDTHS_MS) - 1:
            self.widen()

    def forget_open(self) -> None:
        """Drop what is only needed while the log is read."""
        self._open.clear()


def loss(task: Task, y: Any, said: Answer | Outcome) -> float | None:
    """Of one answer: log loss of a probability, absolute error of a number; None if there is neither."""
    if task == "regression":
        return None if said.answer is None else abs(y - said.answer)
    if task == "binary":
        if said.score is None:
            return None
        right = said.score if y else 1.0 - said.score
    else:
        if not said.probabilities:
            return None
        right = said.probabilities.get(str(y), 0.0)
    return -log(right if right > SMALLEST_PROBABILITY else SMALLEST_PROBABILITY)


def error_bin(error: float) -> int:
    """The bin of an absolute error; bins grow by a factor of 2 ** (1 / ERROR_STEPS), about. 0 has one of its own."""
    if error < 1e-300:
        return -100_000
    mantissa, exponent = frexp(error)  # mantissa in [0.5, 1)
    return exponent * ERROR_STEPS + int((mantissa - 0.5) * 2 * ERROR_STEPS)


def error_edge(place: int) -> float:
    """The upper edge of a bin of absolute errors."""
    if place == -100_000:
        return 0.0
    exponent, step = divmod(place, ERROR_STEPS)
    try:
        return ldexp(0.5 + (step + 1) / (2 * ERROR_STEPS), exponent)
    except OverflowError:
        return sys.float_info.max


def _widened(windows: dict[int, Any], factor: int, merge: Any) -> dict[int, Any]:
    made: dict[int, Any] = {}
    for window, entry in windows.items():
        present = made.get(window // factor)
        if present is None:
            made[window // factor] = entry
        else:
            merge(present, entry)
    return made


def _merge_sums(one: list[float], other: list[float]) -> None:
    one[0] += other[0]
    one[1] += other[1]


def _add(mine: dict[Any, int], others: dict[Any, int]) -> None:
    for key, count in others.items():
        mine[key] = mine.get(key, 0) + count
