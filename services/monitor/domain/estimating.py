"""Estimates over a stream's windows: from which labels scores are understood, and how wrong estimates have been.

A window is estimated from labels that became known in windows before it, so what is said of it does not change when its
own labels come. How far to trust that is measured the same way: for windows of labels, what would have been estimated
of their answers from the labels known when they were given, against what was true. What those windows were off by more
than chance explains is added to the interval, for scores do not quite mean the same from one window to the next.

Everything is a function of the tables; what has been worked out of a window is kept until the window, or one that it
was learnt from, changes.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headrace.contracts.statistics import Answers, Delay, Quality
from services.monitor.domain import delays, quality
from services.monitor.domain.calibration import CELLS, Calibration, Numbers, by_cell, learn
from services.monitor.domain.estimates import ESTIMATED, Asked, Estimate, estimate

if TYPE_CHECKING:
    from services.monitor.domain.tables import StreamTable

LABELS_NEEDED = 200
"""Labels that a calibration needs at least."""
LABELS_WANTED = 5_000
"""Windows are looked at, newest first, until a calibration has so many; older ones meant something else."""
WINDOWS_BACK = 200
"""Most windows that a calibration is learnt from."""
CHECKED = 20
"""Windows, the newest, in which estimates are held against the truth."""
CHECKED_LABELS = 30
"""Labels that such a window has at least."""
CHECKS_NEEDED = 5
"""Such windows from which on the interval counts what chance does not explain."""
KEPT = 500
"""Windows of which what was worked out is kept; at the bound all is forgotten, and worked out again."""

ASSUMES = "the meaning of scores has not changed: a concept drift is not seen by this"


class Labelled(NamedTuple):
    """One model version's labelled answers of one window. counted: all of them, also those without a score."""

    positives: Numbers
    negatives: Numbers
    yes: int
    counted: int
    truth: dict[str, float | int | None]

    @property
    def scored(self) -> int:
        """Those with a score."""
        return int(self.positives.sum() + self.negatives.sum())


class Window(NamedTuple):
    """The labels of one window. delay_ms: how long half of them took at most."""

    models: dict[str, Labelled]
    delay_ms: int


class Check(NamedTuple):
    """What would have been estimated, and what was true, by figure."""

    said: dict[str, Estimate]
    truth: dict[str, float | int | None]


class Estimator:
    """Estimates of one stream's windows. Bounds: `KEPT` windows, each with the models of a summary."""

    def __init__(self, table: "StreamTable") -> None:
        self._table = table
        self._windows: dict[int, Window] = {}
        self._checks: dict[int, dict[str, Check | None]] = {}
        self._stale: int | None = None
        """Checks of windows that start here or later are no longer right."""

    def changed(self, start: int) -> None:
        """The labels of a window changed, or are forgotten."""
        self._windows.pop(start, None)
        if self._checks:
            self._stale = start if self._stale is None else min(self._stale, start)

    def view(self, name: str, said: Answers, starts: Sequence[int]) -> dict[str, Any]:
        """What `model@version` is estimated to be worth over windows in which it said this, as plain JSON.

        Learnt from the windows before the last of `starts`. Without an estimate, `missing` says why.
        """
        labels = sum(self._labelled(start, name) for start in starts)
        shown: dict[str, Any] = {
            "count": said.scored,
            "labelled_share": min(labels / said.answered, 1.0) if said.answered else None,
            "based_on_labels": 0,
        }
        scores = _scores(said)
        if scores is None:
            return shown | {"missing": "there are no answers, or not all have a score"}
        before = starts[-1]
        learnt = self._learnt(name, before)
        shown["based_on_labels"] = learnt.labels
        if learnt.labels < LABELS_NEEDED:
            return shown | {"missing": f"fewer than {LABELS_NEEDED} labels were known before"}
        found = estimate(Asked(scores, said.classes.get("true", 0)), learnt)
        errors = self._errors(name, before)
        return shown | {
            **{figure: one.value for figure, one in found.items()},
            "interval": {
                figure: dict(zip(("low", "high"), one.interval(_unexplained(errors[figure])), strict=True))
                for figure, one in found.items()
            },
            "past_error": {
                "windows": len(errors["accuracy"]),
                **{figure: _mean([abs(off) for off, _ in some]) for figure, some in errors.items()},
            },
        }

    def _window(self, start: int) -> Window:
        """The labels of one window over all partitions."""
        found = self._windows.get(start)
        if found is None:
            tallies: dict[str, Quality] = {}
            delay = Delay()
            for part in self._table.parts(start, "outcomes"):
                for name, tally in part.quality.items():
                    quality.merge(tallies.setdefault(name, Quality()), tally)
                for bucket, count in part.delay.buckets.items():
                    delay.buckets[bucket] = delay.buckets.get(bucket, 0) + count
                delay.count += part.delay.count
            if len(self._windows) >= KEPT:
                self._windows.clear()
            found = self._windows[start] = Window(
                {name: _labelled(tally) for name, tally in tallies.items()},
                int(delays.quantile_ms(delay, 0.5) or 0),
            )
        return found

    def _labelled(self, start: int, name: str) -> int:
        known = self._window(start).models.get(name)
        return 0 if known is None else known.counted

    def _learnt(self, name: str, before: int) -> Calibration:
        """From the windows that start before, the newest that have enough labels."""
        positives, negatives = np.zeros(CELLS), np.zeros(CELLS)
        known = 0
        starts = self._table.starts
        end = bisect_left(starts, before)
        for start in reversed(starts[max(end - WINDOWS_BACK, 0) : end]):
            labelled = self._window(start).models.get(name)
            if labelled is not None:
                positives += labelled.positives
                negatives += labelled.negatives
                known += labelled.scored
                if known >= LABELS_WANTED:
                    break
        return learn(positives, negatives)

    def _errors(self, name: str, before: int) -> dict[str, list[tuple[float, float]]]:
        """By figure, of the newest windows before: by how much an estimate was off, and its variance."""
        self._forget_stale()
        starts = self._table.starts
        end = bisect_left(starts, before)
        errors: dict[str, list[tuple[float, float]]] = {figure: [] for figure in ESTIMATED}
        for start in reversed(starts[max(end - WINDOWS_BACK, 0) : end]):
            by_model = self._checks.get(start)
            if by_model is None:
                if len(self._checks) >= KEPT:
                    self._checks.clear()
                by_model = self._checks[start] = {}
            if name not in by_model:
                by_model[name] = self._check(name, start)
            check = by_model[name]
            if check is None:
                continue
            for figure, said in check.said.items():
                true = check.truth[figure]
                if true is not None:
                    errors[figure].append((said.value - true, said.variance))
            if len(errors["accuracy"]) >= CHECKED:
                break
        return errors

    def _check(self, name: str, start: int) -> Check | None:
        """Hold an estimate against a window's labels, from labels as old as they are when answers are given."""
        window = self._window(start)
        labelled = window.models.get(name)
        if labelled is None or not CHECKED_LABELS <= labelled.counted == labelled.scored:
            return None
        learnt = self._learnt(name, start - window.delay_ms)
        if learnt.labels < LABELS_NEEDED:
            return None
        asked = Asked(labelled.positives + labelled.negatives, labelled.yes)
        return Check(estimate(asked, learnt), labelled.truth)

    def _forget_stale(self) -> None:
        if self._stale is not None:
            for start in [start for start in self._checks if start >= self._stale]:
                del self._checks[start]
            self._stale = None


def _labelled(tally: Quality) -> Labelled:
    truth = quality.figures(tally, "binary")
    return Labelled(
        by_cell(tally.positives),
        by_cell(tally.negatives),
        tally.tp + tally.fp,
        tally.count,
        {figure: truth[figure] for figure in ESTIMATED},
    )


def _scores(said: Answers) -> Numbers | None:
    """How many answers had a score in which cell; None unless all had one."""
    if not said.answered or sum(said.cells.values()) != said.answered:
        return None
    scores = np.zeros(CELLS)
    for cell, count in said.cells.items():
        if not 0 <= cell < CELLS:
            return None
        scores[cell] = count
    return scores


def _unexplained(errors: list[tuple[float, float]]) -> float:
    """The variance of errors beyond that which the estimates knew of."""
    if len(errors) < CHECKS_NEEDED:
        return 0.0
    return max(sum(off * off - variance for off, variance in errors) / len(errors), 0.0)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
