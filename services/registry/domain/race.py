"""Successive halving over a log: every candidate learns its beginning, the better part learns on, until one is left.

The log's stretch is cut at rungs, each `eta` times as far as the one before. At a rung the trials are ranked by what
they lost on the labels since the rung before, each label met before it was learnt; one in `eta` goes on from where it
stands. The reference (the champion's own specification, taught anew) always goes on, so that the winner is held
against it on the same labels. Jamieson & Talwalkar, "Non-stochastic best arm identification" (2016).

A race is a value; what is to be run next, and what comes of it, are functions of it. So a process that dies in the
middle costs at most the steps that were under way.
"""

from math import ceil, inf
from typing import Any, Literal

import msgspec

from headrace.contracts.left_out import LeftOut, OffsetRange
from headrace.contracts.payoff import Counts
from headrace.contracts.stream import Task
from headrace.errors import Unusable

State = Literal["racing", "out", "stopped", "won"]
"""stopped: over a limit, or broken; `why` says so."""


LEAST_RUNG = 2_000
"""Offsets, at least, of the first rung; a shorter one would say little for its price."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each trial may take, over all its rungs; beyond it the trial is stopped."""

    cpu_seconds: float = 3_600.0
    wall_seconds: float = 7_200.0
    memory_mb: int = 2_048


class Step(msgspec.Struct, frozen=True):
    """What a trial came to by the end of a rung, from the log's stretch as a whole.

    loss: summed over `labels`; binary: Brier score, multiclass: errors, regression: absolute errors. metrics: the usual
    figures; counts: what a payoff is computed from. cpu_seconds, wall_seconds: of this step. memory_mb: its peak.
    fingerprint: of the model's state.
    """

    labels: int
    loss: float
    metrics: dict[str, Any]
    cpu_seconds: float
    wall_seconds: float
    memory_mb: float
    fingerprint: str
    counts: Counts = Counts()


class Trial(msgspec.Struct, frozen=True):
    """A specification in the race. steps: by rung."""

    number: int
    specification: dict[str, Any]
    digest: str
    reference: bool = False
    state: State = "racing"
    why: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def cpu_seconds(self) -> float:
        """What it has taken so far."""
        return sum(step.cpu_seconds for step in self.steps)

    @property
    def wall_seconds(self) -> float:
        """How long its steps have taken so far."""
        return sum(step.wall_seconds for step in self.steps)

    def loss(self, rung: int) -> float:
        """Mean loss on the labels that came between the rung before and this one; infinite if none did."""
        step, before = self.steps[rung], self.steps[rung - 1] if rung else None
        labels = step.labels - (before.labels if before else 0)
        return (step.loss - (before.loss if before else 0.0)) / labels if labels > 0 else inf


class Race(msgspec.Struct, frozen=True):
    """A race over offsets [start, end) of each partition. rungs: parts of them, rising, the last is 1."""

    task: Task
    spans: dict[str, tuple[int, int]]
    rungs: tuple[float, ...]
    trials: tuple[Trial, ...]
    eta: int = 3
    limits: Limits = Limits()
    rung: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return not any(trial.state == "racing" for trial in self.trials)

    @property
    def winner(self) -> Trial | None:
        """Who won; None while it is under way, or if all were stopped."""
        return next((trial for trial in self.trials if trial.state == "won"), None)

    @property
    def reference(self) -> Trial | None:
        """The champion's own specification, taught anew."""
        return next((trial for trial in self.trials if trial.reference), None)


def begun(
    task: Task,
    spans: dict[str, tuple[int, int]],
    trials: list[Trial],
    *,
    eta: int = 3,
    limits: Limits = Limits(),  # noqa: B008  # it is frozen
    least_rung: int = LEAST_RUNG,
) -> Race:
    """A race that has just begun. least_rung: offsets of the first rung. Raises `Unusable` if it cannot be run."""
    if not 2 <= eta <= 10:
        raise Unusable("one in 2 to one in 10 goes on", where="eta")
    for name in ("cpu_seconds", "wall_seconds", "memory_mb"):
        if not 1 <= getattr(limits, name) <= 10**7:
            raise Unusable("at least 1, at most 10,000,000", where=f"limits.{name}")
    if not any(start < end for start, end in spans.values()):
        raise Unusable("the log holds nothing there to learn from", where="from")
    cuts, left = 0, sum(not trial.reference for trial in trials)
    length = sum(end - start for start, end in spans.values())
    # A step costs a process: on a short stretch it is quicker to let all of them run to the end.
    while left > 1 and length / eta ** (cuts + 1) >= least_rung:
        left, cuts = ceil(left / eta), cuts + 1
    rungs = tuple(float(eta) ** -cut for cut in range(cuts, 0, -1))
    return Race(task, spans, (*rungs, 1.0), tuple(trials), eta, limits)


def due(race: Race) -> list[Trial]:
    """The trials that have yet to reach the present rung."""
    return [trial for trial in race.trials if trial.state == "racing" and len(trial.steps) == race.rung]


def until(race: Race) -> dict[int, int]:
    """Before which offset of each partition the present rung ends."""
    return {part: end for part, (_, end) in deciding(race).items()}


def deciding(race: Race) -> dict[int, tuple[int, int]]:
    """The offsets [start, end) of each partition whose labels decide the present rung."""
    parts = (race.rungs[race.rung - 1] if race.rung else 0.0, race.rungs[race.rung])
    return {
        int(number): (start + round(parts[0] * (end - start)), start + round(parts[1] * (end - start)))
        for number, (start, end) in race.spans.items()
    }


def left_out(race: Race) -> LeftOut:
    """What lies before the stretch."""
    return before({int(number): start for number, (start, _) in race.spans.items()})


def before(starts: dict[int, int]) -> LeftOut:
    """What lies before some offsets, by partition."""
    return LeftOut(
        offsets=[OffsetRange(part, 0, start) for part, start in sorted(starts.items()) if start > 0]
    )


def stepped(race: Race, number: int, step: Step) -> Race:
    """The race after a trial has reached the present rung."""
    return _cut(_with(race, number, lambda trial: msgspec.structs.replace(trial, steps=(*trial.steps, step))))


def stopped(race: Race, number: int, why: str) -> Race:
    """The race without a trial that is over a limit, or broken."""
    return _cut(_with(race, number, lambda trial: msgspec.structs.replace(trial, state="stopped", why=why)))


def _with(race: Race, number: int, change: Any) -> Race:
    trials = tuple(
        change(trial) if trial.number == number and trial.state == "racing" else trial
        for trial in race.trials
    )
    return msgspec.structs.replace(race, trials=trials)


def _cut(race: Race) -> Race:
    """Once all have reached the rung, let the better part go on."""
    racing = [trial for trial in race.trials if trial.state == "racing"]
    if not racing or due(race):
        return race
    ranked = sorted(racing, key=lambda trial: (trial.loss(race.rung), trial.number))
    if race.rung == len(race.rungs) - 1:
        return _sorted_out(race, {ranked[0].number}, "won")
    others = [trial for trial in ranked if not trial.reference]
    going = {trial.number for trial in others[: max(1, ceil(len(others) / race.eta))]}
    going |= {trial.number for trial in racing if trial.reference}
    return msgspec.structs.replace(_sorted_out(race, going, "racing"), rung=race.rung + 1)


def _sorted_out(race: Race, going: set[int], state: State) -> Race:
    trials = tuple(
        trial
        if trial.state != "racing"
        else msgspec.structs.replace(trial, state=state if trial.number in going else "out")
        for trial in race.trials
    )
    return msgspec.structs.replace(race, trials=trials)
