"""Watches what a model makes of its task: errors, loss, calibration, by task. One watch a model.

binary: error, log loss, calibration; multiclass: error, log loss; regression: absolute error. Errors are judged record
by record, the others by blocks. A change of the concept shows in several of them: the first to alarm is told, and with
the next multiple of BLOCK records all of the model's begin a new reference. So one change is told once. Only what is
worse alarms; a model that becomes better is left in peace.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from services.monitor.domain.drift.alarm import Alarm
from services.monitor.domain.drift.arrays import Floats
from services.monitor.domain.drift.bernoulli import (
    BernoulliState,
    BernoulliWatch,
    Crossing,
)
from services.monitor.domain.drift.calibration import BLOCK, CalibrationState, CalibrationWatch
from services.monitor.domain.drift.distribution import DistributionState, DistributionWatch

Task = Literal["binary", "multiclass", "regression"]

WEIGHTS: dict[Task, dict[str, float]] = {
    "binary": {"error": 2.0, "log_loss": 1.0, "calibration": 1.0},
    "multiclass": {"error": 2.0, "log_loss": 1.0},
    "regression": {"absolute_error": 1.0},
}
"""What is watched by task, and how a model's share of the budget is divided among it."""

SURE = 1e-9
"""Least probability that is given to what happened: a loss is a number."""


class Judged(NamedTuple):
    """Outcomes of one model in order, as columns of one length. What a task has not is empty.

    wrong, labels: a byte each, 0 or 1. scores: P(positive), NaN if there is none. losses: log loss or absolute error.
    """

    wrong: bytes
    labels: bytes
    scores: Floats
    losses: Floats


def binary(labels: bytes, answers: bytes, scores: Floats) -> Judged:
    """Of a binary task: labels and answers a byte each, 0 or 1; scores P(positive), NaN if there is none."""
    truths, said = np.frombuffer(labels, np.uint8), np.frombuffer(answers, np.uint8)
    held = np.where(truths == 1, scores, 1.0 - scores)
    return Judged((truths != said).astype(np.uint8).tobytes(), labels, scores, _log_loss(held))


def multiclass(wrong: bytes, chances: Floats) -> Judged:
    """Of a multiclass task. chances: the probability given to what was then true, NaN if there is none."""
    return Judged(wrong, b"", np.empty(0), _log_loss(chances))


def regression(labels: Floats, answers: Floats) -> Judged:
    """Of a regression."""
    return Judged(b"", b"", np.empty(0), np.abs(labels - answers))


class ConceptState(msgspec.Struct):
    """All of a watch that changes; plain JSON."""

    index: int
    due: bool
    error: BernoulliState | None
    loss: DistributionState | None
    calibration: CalibrationState | None


class ConceptWatch:
    """One model's outcomes against their own past.

    thresholds: by statistic (those of WEIGHTS[task]; one that is left out is not watched), records for one false alarm.
    reference: outcomes learnt before errors are judged; losses and calibration take four times as many.
    """

    def __init__(
        self, task: Task, thresholds: Mapping[str, float], *, model: str = "", reference: int = 512
    ) -> None:
        self.task, self.model = task, model
        self.index = 0
        self._due = False
        """A statistic has alarmed; until all begin anew with the next multiple of BLOCK, none is told."""
        named = {name: value for name, value in thresholds.items() if name in WEIGHTS[task]}
        self._loss_name = "absolute_error" if task == "regression" else "log_loss"
        self._error = BernoulliWatch(named["error"], reference=reference) if "error" in named else None
        self._loss = (
            DistributionWatch(
                "concept", [self._loss_name], [], named, block=BLOCK, reference=4 * reference, rising=True,
                model=model,
            )
            if self._loss_name in named
            else None
        )  # fmt: skip
        self._calibration = (
            CalibrationWatch(named["calibration"], reference=4 * reference)
            if "calibration" in named
            else None
        )

    def allow(self, thresholds: Mapping[str, float]) -> None:
        """Other thresholds of what is watched, for what comes next; nothing is forgotten."""
        if self._error is not None:
            self._error.threshold = thresholds["error"]
        if self._loss is not None:
            self._loss.allow(thresholds)
        if self._calibration is not None:
            self._calibration.threshold = thresholds["calibration"]

    @property
    def ready(self) -> dict[str, bool]:
        """The statistics whose reference is whole."""
        found: dict[str, bool] = {}
        if self._error is not None:
            found["error"] = self._error.ready
        if self._loss is not None:
            found |= self._loss.ready
        if self._calibration is not None:
            found["calibration"] = self._calibration.ready
        return found

    def restart(self) -> None:
        """Forget the references, as when another version of the model has begun to answer."""
        for watch in (self._error, self._loss, self._calibration):
            if watch is not None:
                watch.restart()

    def update(self, judged: Judged) -> list[Alarm]:
        """Judge the next outcomes; alarms in order of the records that decided them."""
        found: list[Alarm] = []
        count = max(len(judged.wrong), len(judged.losses))
        place = 0
        while place < count:
            end = min(place + BLOCK - self.index % BLOCK, count)
            alarms = sorted(self._piece(judged, place, end), key=lambda alarm: alarm.index)
            if alarms and not self._due:
                self._due = True
                found.append(alarms[0])
            self.index += end - place
            place = end
            if self._due and self.index % BLOCK == 0:
                self._due = False
                self.restart()
        return found

    def _piece(self, judged: Judged, start: int, end: int) -> list[Alarm]:
        """Records up to the next multiple of BLOCK."""
        found: list[Alarm] = []
        if self._error is not None:
            for crossing in self._error.update(judged.wrong[start:end]):
                found.append(self._alarm("error", crossing, self._error.threshold))
        if self._loss is not None:
            found += self._loss.update({self._loss_name: judged.losses[start:end]}, end - start)
        if self._calibration is not None:
            for crossing in self._calibration.update(judged.scores[start:end], judged.labels[start:end]):
                found.append(self._alarm("calibration", crossing, self._calibration.threshold))
        return found

    def _alarm(self, subject: str, crossing: Crossing, threshold: float) -> Alarm:
        return Alarm(
            kind="concept", subject=subject, method="likelihood-ratio", index=crossing.at, since=crossing.since,
            before=crossing.before, after=crossing.after, evidence=crossing.evidence, threshold=threshold,
            model=self.model,
        )  # fmt: skip

    def state(self) -> ConceptState:
        """All of it, to go on from elsewhere."""
        return ConceptState(
            self.index,
            self._due,
            self._error.state if self._error is not None else None,
            self._loss.state() if self._loss is not None else None,
            self._calibration.state() if self._calibration is not None else None,
        )

    def resume(self, state: ConceptState) -> None:
        """Go on from there; the watch was made with the same arguments."""
        self.index, self._due = state.index, state.due
        if self._error is not None and state.error is not None:
            self._error.state = state.error
        if self._loss is not None and state.loss is not None:
            self._loss.resume(state.loss)
        if self._calibration is not None and state.calibration is not None:
            self._calibration.resume(state.calibration)


def _log_loss(chances: Floats) -> Floats:
    found: Floats = -np.log(np.clip(chances, SURE, 1.0))
    return found
