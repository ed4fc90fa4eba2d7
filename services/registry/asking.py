"""A retraining is asked for: by a person, the clock, or a proposal. Here it is composed, priced and begun."""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version as installed
from typing import Any

import msgspec

import headrace
from headrace.contracts.events import RetrainProposed
from headrace.contracts.stream import from_dict
from headrace.contracts.topics import LOG, USAGE, topic
from headrace.contracts.usage import UsageReport, decode_usage
from headrace.fold import specification as specifications
from headrace.history import History
from services.registry.domain import race as races
from services.registry.domain import retraining as rules
from services.registry.domain.audit import By
from services.registry.domain.forecast import CpuPrice, Forecast, forecast, served_at, took
from services.registry.domain.lifecycle import Conflict, check_model_name
from services.registry.domain.race import Race, Trial
from services.registry.domain.retraining import Ask, Retraining
from services.registry.domain.rollouts import Contender, check
from services.registry.domain.search import drawn
from services.registry.policies import PolicyStore
from services.registry.proposals import Answering
from services.registry.registry import Registry
from services.registry.retrainings import RetrainingStore, retraining_of
from services.registry.tables import VersionRow

RACES_LOOKED_AT = 10
"""Retrainings before, of which the newest that got anywhere says what a record takes."""
REPORTS_LOOKED_AT = 2_000
"""Newest reports of all streams, for a stream that was never retrained."""


class Asking:
    """Begins retrainings, and says beforehand what one would take. Safe to use from several threads."""

    def __init__(
        self,
        registry: Registry,
        store: RetrainingStore,
        policies: PolicyStore,
        history: History,
        price: CpuPrice = CpuPrice(),  # noqa: B008  # it is frozen
    ) -> None:
        self._price = price
        self.store = store
        self.policies = policies
        self._registry = registry
        self._history = history

    def begin(
        self,
        stream: str,
        ask: Ask,
        by: By,
        *,
        cause: str = "a person",
        answering: Answering | None = None,
    ) -> int:
        """Begin a retraining; its number. cause: why, for people. answering: the proposal that it answers.

        Raises `Unusable`, `Conflict`, `Absent`, `Transient`.
        """
        champion = self._champion(stream)
        model = check_model_name(ask.model) if ask.model else rules.challenger_name(champion.model)
        if model == champion.model and ask.plan is not None:
            raise Conflict(f"{model} is the champion itself: give the winner another name")
        race = self._race(stream, ask, champion)
        retraining = Retraining(
            model=model,
            champion=Contender(champion.model, champion.version),
            search=ask.search,
            race=race,
            plan=None if ask.plan is None else check(ask.plan),
            whatever=ask.whatever,
            cause=cause,
            asked_by=by.name,
            environment=environment(),
            forecast=self._forecast(stream, race, champion, None if answering is None else answering.event),
            horizon_decisions=rules.check_horizon(ask.horizon_decisions),
            proposal=None if answering is None else answering.number,
            drift="" if answering is None else answering.event.drift,
        )
        return self.store.begin(stream, retraining, by, answering)

    def expected(self, stream: str, ask: Ask, proposed: RetrainProposed) -> Forecast:
        """What a retraining would take and may gain, if it began now for an event. Raises as `begin`."""
        champion = self._champion(stream)
        return self._forecast(stream, self._race(stream, ask, champion), champion, proposed)

    def _race(self, stream: str, ask: Ask, champion: VersionRow) -> Race:
        contract = from_dict(self._registry.store.contract(stream).document)

        def canonical(document: dict[str, Any]) -> dict[str, Any]:
            return specifications.check(document, task=contract.task, fields=contract.fields).document

        reference = canonical(champion.specification)
        own = specifications.digest(reference)
        trials = [Trial(0, reference, own, reference=True)]
        for found in drawn(ask.search, canonical):
            if (digest := specifications.digest(found)) != own:
                trials.append(Trial(len(trials), found, digest))
        spans = self._spans(stream, contract.partitions, ask)
        return races.begun(contract.task, spans, trials, eta=ask.eta, limits=ask.limits)

    def _forecast(
        self, stream: str, race: Race, champion: VersionRow, proposed: RetrainProposed | None
    ) -> Forecast:
        return forecast(race, self._measured(stream, champion), self._price, proposed)

    def _champion(self, stream: str) -> VersionRow:
        for row, _ in self._registry.store.deployments(stream):
            if row.role == "champion":
                return self._registry.store.version(row.model, row.version)
        raise Conflict(f"{stream} has no champion to be held against: deploy a model first")

    def _measured(self, stream: str, champion: VersionRow) -> tuple[float, str] | None:
        """Processor seconds that a record took on this stream, and where: in a race before, else in scoring."""
        for row in self.store.all(stream, RACES_LOOKED_AT):
            if (seconds := took(retraining_of(row).race)) is not None:
                return seconds, f"the trials of retraining {row.number}"
        first, end = self._history.bounds(USAGE.name, 0)
        values = (
            value
            for batch in self._history.read(USAGE.name, 0, max(first, end - REPORTS_LOOKED_AT), end)
            for value in batch.values
        )
        name = f"{champion.model}@{champion.version}"
        seconds = served_at(_reports(values, stream), name)
        return None if seconds is None else (seconds, f"{name} in scoring")

    def _spans(self, stream: str, partitions: int, ask: Ask) -> dict[str, tuple[int, int]]:
        name = topic(LOG, stream)
        ends = {part: self._history.bounds(name, part).end for part in range(partitions)}
        starts = dict(ask.start)
        if ask.last is not None:
            starts = {part: end - ask.last // partitions for part, end in ends.items()}
        return {str(part): (min(max(starts.get(part, 0), 0), end), end) for part, end in ends.items()}


def _reports(values: Iterable[bytes | None], stream: str) -> Iterator[UsageReport]:
    for value in values:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            report = decode_usage(value or b"")
            if report.stream == stream:
                yield report


def environment() -> dict[str, Any]:
    """What the trials run in."""
    libraries = {name: installed(name) for name in ("river", "numpy", "msgspec")}
    return {
        "headrace": headrace.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count() or 1,
        **libraries,
    }
