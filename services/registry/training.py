"""Runs retrainings: keeps a race going in processes of its own, hands the winner over.

All that is known of a race is in the database, and what the trials have learnt lies in the store of snapshots, so a
registry that dies leaves nothing but the steps under way to be run again.
"""

import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import uuid4

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from headrace.contracts.events import Outcome
from headrace.contracts.topics import LOG, OUTCOMES, topic
from headrace.errors import HeadraceError, Transient
from headrace.fold.metrics import TALLIES
from headrace.history import History
from headrace.metrics import catalogue
from headrace.replay.verify import place_below
from services.registry.domain import race as races
from services.registry.domain import retraining as retrainings
from services.registry.domain import rollouts
from services.registry.domain.audit import By
from services.registry.domain.forecast import Gain, gain
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.race import Limits, Trial
from services.registry.domain.retraining import Retraining, Served
from services.registry.domain.rollouts import Contender
from services.registry.registry import Registry
from services.registry.retrainings import RetrainingStore, retraining_of
from services.registry.steps import RunningStep, States
from services.registry.tables import RetrainingRow
from services.registry.trial import TrialTask, counts, losses

log = structlog.get_logger("registry.training")

ROUND_SECONDS = 1.0
LOOK_SECONDS = 0.1
TELL_SECONDS = 1.0
"""Between two looks whether the retraining is still to be run, and by this process."""
TRAINER = "the trainer"
"""Who it is that hands a winner over, in the journal."""

_decode = msgspec.json.Decoder(Outcome).decode


class Trainer:
    """Runs one retraining at a time, on a thread of its own; `processes` trials of it at once."""

    def __init__(
        self,
        registry: Registry,
        store: RetrainingStore,
        history: History,
        states: States,
        metrics: CollectorRegistry,
        processes: int = 1,
    ) -> None:
        self.store = store
        self._registry = registry
        self._history = history
        self._states = states
        self._processes = processes
        self._name = f"{platform.node()}/{os.getpid()}/{uuid4().hex[:8]}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_round, name="training", daemon=True)
        self._ended = catalogue.REGISTRY_RETRAININGS.on(metrics)
        self._seconds = catalogue.REGISTRY_TRIAL_SECONDS.on(metrics)
        self._racing = catalogue.REGISTRY_RACING.on(metrics)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End, and with it the steps under way; they are run again after the next start."""
        self._stopping.set()
        self._thread.join(10.0)

    # -- racing -------------------------------------------------------------------------------------------------------

    def _go_round(self) -> None:
        while not self._stopping.wait(ROUND_SECONDS):
            try:
                row = self.store.take(self._name)
                if row is not None:
                    self._work(row)
                    self._forget(row.stream, retraining_of(self.store.get(row.stream, row.number)))
            except HeadraceError as error:
                log.warning("not trained yet", reason=str(error))
            except Exception:
                log.exception("training failed")

    def _work(self, row: RetrainingRow) -> None:
        """Run one retraining until it is over, this process is to end, or another holds it."""
        steps: dict[int, RunningStep] = {}
        look = 0.0
        try:
            while not self._stopping.is_set():
                ended = [number for number, step in steps.items() if step.has_ended()]
                for number in ended:
                    self._ended_step(row, number, steps.pop(number))
                if not ended and time.monotonic() < look:
                    self._stopping.wait(LOOK_SECONDS)
                    continue
                look = time.monotonic() + TELL_SECONDS
                retraining = retraining_of(self.store.get(row.stream, row.number))
                progress = {str(number): step.progress for number, step in steps.items()}
                if not self.store.tell(row.stream, row.number, self._name, progress):
                    return
                if retraining.status == "handing_over":
                    self._hand_over(row, retraining)
                    return
                self._start_due(row.stream, retraining, steps)
        finally:
            for step in steps.values():
                step.kill()

    def _start_due(self, stream: str, retraining: Retraining, steps: dict[int, RunningStep]) -> None:
        race = retraining.race
        self._racing.labels(stream).set(sum(trial.state == "racing" for trial in race.trials))
        for trial in races.due(race):
            if len(steps) >= self._processes:
                return
            if trial.number not in steps:
                task = self._task(stream, retraining, trial, races.until(race))
                steps[trial.number] = RunningStep(task, self._states.environment)

    def _task(self, stream: str, retraining: Retraining, trial: Trial, until: dict[int, int]) -> TrialTask:
        limits, race = retraining.race.limits, retraining.race
        return TrialTask(
            self._states.bootstrap, str(self._states.folder), str(self._states.key_file), self._states.archive,
            stream, race.task, retraining.model, trial.specification, races.left_out(race), until,
            Limits(limits.cpu_seconds - trial.cpu_seconds, limits.wall_seconds - trial.wall_seconds, limits.memory_mb),
            os.getpid(),
        )  # fmt: skip

    def _ended_step(self, row: RetrainingRow, number: int, running: RunningStep) -> None:
        """Keep what came of a step; one that could not reach the broker is run again."""
        step, why = running.result()
        if step is None and not why:
            log.warning("a trial's step is run again", stream=row.stream, trial=number, reason=running.again)
            return

        def turn(retraining: Retraining) -> Retraining:
            race = retraining.race
            after = races.stopped(race, number, why) if step is None else races.stepped(race, number, step)
            return retrainings.raced(retraining, after)

        after = self._turn(row, turn)
        if step is not None:
            self._seconds.labels(row.stream).inc(step.cpu_seconds)
        self._forget(row.stream, after)

    def _turn(self, row: RetrainingRow, turn: Callable[[Retraining], Retraining]) -> Retraining:
        by = By(TRAINER, f"retraining {row.number}")
        after = self.store.turn(row.stream, row.number, turn, by, holder=self._name)
        if not after.is_open:
            self._ended.labels(row.stream, after.status).inc()
            self._racing.labels(row.stream).set(0)
        return after

    def _forget(self, stream: str, retraining: Retraining) -> None:
        """Remove the states that nobody will go on from: those of losers, and all of a race that led to no rollout."""
        in_vain = not retraining.is_open and retraining.rollout is None
        for trial in retraining.race.trials:
            if in_vain or trial.state in ("out", "stopped"):
                self._states.forget(self._task(stream, retraining, trial, races.until(retraining.race)))

    # -- handing over -------------------------------------------------------------------------------------------------

    def _hand_over(self, row: RetrainingRow, retraining: Retraining) -> None:
        """Register the winner and begin its rollout, if it is worth it. Done again after a crash, it does no harm."""
        winner = retraining.race.winner
        assert winner is not None
        if retraining.served is None:
            served = self._served(row.stream, retraining)
            known = {"served": served, "worth": self._worth(row.stream, retraining, served, winner)}
            retraining = self._turn(row, lambda found: msgspec.structs.replace(found, **known))
        if not retrainings.worth_it(retraining):
            self._turn(
                row, partial(retrainings.ended, says="the champion, as it is, lost no more than the winner")
            )
            return
        origin = retrainings.origin(row.stream, row.number, retraining)
        by, described = By(TRAINER, origin), f"trial {winner.number} of {origin}"
        version, _, _ = self._registry.submit(retraining.model, winner.specification, described, by)
        name = f"{retraining.model}@{version}"
        if retraining.plan is None:
            self._turn(row, partial(retrainings.ended, says=f"{name} is registered", version=version))
            return
        self._catch_up(row, retraining, winner)
        number, says = self._roll_out(row.stream, retraining, version, by)
        self._turn(row, partial(retrainings.ended, says=says, version=version, rollout=number))

    def _roll_out(self, stream: str, retraining: Retraining, version: int, by: By) -> tuple[int | None, str]:
        assert retraining.plan is not None
        name = f"{retraining.model}@{version}"
        self._end_guard(stream, retraining.champion, by)
        try:
            number = self._registry.begin(
                stream, retraining.model, version, retraining.plan, by,
                learnt=True, without=races.left_out(retraining.race),
            )  # fmt: skip
        except Conflict as error:
            for row in self._registry.rollouts.all(stream, 1):
                if row.open and row.state["challenger"] == {"model": retraining.model, "version": version}:
                    return row.number, f"{name} is rolled out"  # by an earlier life of this process
            return None, f"{name} is registered, but its rollout cannot begin: {error}"
        return number, f"{name} is rolled out"

    def _end_guard(self, stream: str, champion: Contender, by: By) -> None:
        """Let the champion that the race was held against stand without its guard: a new challenger comes."""
        for row in self._registry.rollouts.all(stream, 1):
            stands = row.state["challenger"] == {"model": champion.model, "version": champion.version}
            if row.open and row.state["stage"] == "guard" and stands:
                with suppress(Conflict):  # it has just ended
                    ends = partial(rollouts.abort, by=by.name)
                    self._registry.turn(stream, row.number, ends, by, action="abort")

    def _catch_up(self, row: RetrainingRow, retraining: Retraining, winner: Trial) -> None:
        """Fold for the winner what has come since, so that the shards have little left to fold when it takes over."""
        name = topic(LOG, row.stream)
        until = {int(part): self._history.bounds(name, int(part)).end for part in retraining.race.spans}
        step = RunningStep(self._task(row.stream, retraining, winner, until), self._states.environment)
        try:
            while not step.has_ended() and not self._stopping.wait(TELL_SECONDS):
                progress = {str(winner.number): step.progress}
                if not self.store.tell(row.stream, row.number, self._name, progress):
                    raise Transient("another process runs this retraining by now")
        finally:
            step.kill()
        if self._stopping.is_set():
            raise Transient("the registry is ending")

    def _worth(self, stream: str, retraining: Retraining, served: Served, winner: Trial) -> Gain | None:
        """What an answer was worth, if anybody has said what answers are worth."""
        payoff = self._registry.store.payoffs.of(stream).holds_for(retraining.champion.model)
        if payoff is None:
            return None
        return gain(self._registry.read_payoff(stream, payoff), served.counts, winner)

    def _served(self, stream: str, retraining: Retraining) -> Served:
        """What the champion's answers lost on the labels that decided the race, as far as outcomes are kept."""
        race, total = retraining.race, TALLIES[retraining.race.task]()
        for part, (begin, end) in races.deciding(race).items():
            name = topic(OUTCOMES, stream)
            first = self._history.bounds(name, part).first
            start = max(first, place_below(self._history, name, part, begin, _decode))
            for batch in self._history.read(name, part, start, self._history.bounds(name, part).end):
                outcomes = [_decode(value) for value in batch.values if value is not None]
                if outcomes and outcomes[0].offset >= end:
                    break
                for one in outcomes:
                    if begin <= one.offset < end and one.y is not None and _counts(one, retraining):
                        total.update(one.y, one)
        labels, loss = losses(total)
        return Served(labels, loss, counts(total))


def _counts(outcome: Outcome, retraining: Retraining) -> bool:
    said = (outcome.model, outcome.version)
    return outcome.status in ("labelled", "expired") and said == (
        retraining.champion.model,
        retraining.champion.version,
    )
