"""Judges rollouts: reads the outcomes of streams that have one, and turns it when the labels have said enough.

Evidence and the positions up to which outcomes were weighed are kept in one transaction, so after a crash no outcome
counts twice and none is left out. What is away is tried again.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import get_args

import msgspec
import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from headrace.contracts.events import Outcome
from headrace.contracts.topics import OUTCOMES, topic
from headrace.errors import HeadraceError, Transient
from headrace.history import History
from headrace.metrics import catalogue
from services.registry.decisions import rollout_of
from services.registry.domain import rollouts
from services.registry.domain.audit import By
from services.registry.domain.evidence import differences
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.rollouts import Rollout, Stage, Turn
from services.registry.registry import Registry
from services.registry.tables import RolloutRow

log = structlog.get_logger("registry.judging")

ROUND_SECONDS = 1.0
MOST_RECORDS = 100_000
"""Outcomes of one partition read between two looks at the rollout."""
JUDGE = By("the judge")
"""Who it is that decides, in the journal."""

_decode = msgspec.json.Decoder(Outcome).decode


class Judge:
    """Looks at every rollout that is under way, now and then, on a thread of its own."""

    def __init__(self, registry: Registry, history: History, metrics: CollectorRegistry) -> None:
        self._registry = registry
        self._history = history
        self._stopping = threading.Event()
        self._under_way = catalogue.REGISTRY_ROLLOUT_UNDER_WAY.on(metrics)
        self._shown: set[str] = set()
        self._labels = catalogue.REGISTRY_ROLLOUT_LABELS.on(metrics)
        self._evidence = catalogue.REGISTRY_ROLLOUT_EVIDENCE.on(metrics)
        self._turns = catalogue.REGISTRY_ROLLOUT_TURNS.on(metrics)
        self._failures = catalogue.REGISTRY_ROLLOUT_FAILURES.on(metrics)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._go_round, name="judging", daemon=True).start()

    def stop(self) -> None:
        """End after the rollout in hand."""
        self._stopping.set()

    def _go_round(self) -> None:
        while not self._stopping.wait(ROUND_SECONDS):
            try:
                self.look()
            except Transient as error:
                log.warning("not judged yet", reason=str(error))
            except Exception:
                log.exception("judging failed")  # and goes on: a champion under guard must stay under it

    def look(self) -> None:
        """One round: every rollout that is under way."""
        rows = self._registry.rollouts.under_way()
        self._show_which({row.stream for row in rows})
        for row in rows:
            self._judge_alone(row)

    def _show_which(self, streams: set[str]) -> None:
        for stream in streams | self._shown:
            self._under_way.labels(stream).set(stream in streams)
        self._shown = streams

    def _judge_alone(self, row: RolloutRow) -> None:
        try:
            self.judge(row)
        except HeadraceError as error:  # the other streams' rollouts must not suffer for it
            self._failures.labels(row.stream).inc()
            log.warning("not judged", stream=row.stream, rollout=row.number, reason=str(error))

    def judge(self, row: RolloutRow) -> None:
        """Weigh what has come since the last time. One that is held, or waits for approval, lets it pass."""
        for stage in get_args(Stage):  # a count that is born at 1 is no increase to Prometheus
            self._turns.labels(row.stream, stage)
        since = {int(partition): offset for partition, offset in row.positions.items()}
        found, until = self._read(row.stream, rollout_of(row), since)
        if until == since:
            return

        def turn(rollout: Rollout, now_ms: int) -> Turn:
            if rollout.held or rollout.awaits:
                return rollout, []
            after, ruling = rollouts.weighed(rollout, np.array(found))
            return (after, []) if ruling is None else rollouts.settle(after, ruling, now_ms, JUDGE.name)

        with suppress(Conflict):  # turned by somebody meanwhile: the next round sees what has become of it
            self._registry.turn(
                row.stream,
                row.number,
                turn,
                JUDGE,
                action="rollout-judge",
                revision=row.revision,
                judged=(since, until),
            )
            self._show(rollout_of(row), self._registry.rollouts.get(row.stream, row.number))

    def _show(self, before: Rollout, row: RolloutRow) -> None:
        rollout = rollout_of(row)
        self._labels.labels(row.stream).set(rollout.evidence.labels)
        self._evidence.labels(row.stream, "better").set(rollout.evidence.for_better)
        self._evidence.labels(row.stream, "worse").set(rollout.evidence.for_worse)
        if len(rollout.past) > len(before.past):
            self._turns.labels(row.stream, rollout.stage).inc()

    def _read(
        self, stream: str, rollout: Rollout, since: Mapping[int, int]
    ) -> tuple[list[float], dict[int, int]]:
        """The paired differences, and up to where they were read."""
        served, beside = rollouts.pair(rollout)
        name, found, until = topic(OUTCOMES, stream), [], {}
        for partition, position in since.items():
            first, end = self._history.bounds(name, partition)
            start = max(position, first)  # what retention has taken counts no more
            end = min(end, start + MOST_RECORDS)
            for batch in self._history.read(name, partition, start, end):
                outcomes = [_decode(value) for value in batch.values if value is not None]
                found += differences(
                    rollout.task, outcomes, (served.model, served.version), (beside.model, beside.version)
                )
            until[partition] = max(end, position)
        return found, until
