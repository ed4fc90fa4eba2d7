"""Who asks for a retraining: a person, the clock, or an event that proposes one. Here it is begun."""

import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version as installed
from typing import Any

import msgspec
import structlog

import headrace
from headrace.contracts.codec import decode_retrain
from headrace.contracts.events import RetrainProposed
from headrace.contracts.stream import from_dict
from headrace.contracts.topics import LOG, RETRAINS, USAGE, topic
from headrace.contracts.usage import UsageReport, decode_usage
from headrace.errors import HeadraceError, Transient
from headrace.fold import specification as specifications
from headrace.history import History
from services.registry.decisions import Absent
from services.registry.domain import race as races
from services.registry.domain import retraining as rules
from services.registry.domain.audit import By
from services.registry.domain.forecast import CpuPrice, forecast, served_at, took
from services.registry.domain.lifecycle import Conflict, check_model_name
from services.registry.domain.race import Trial
from services.registry.domain.retraining import Ask, Policy, Retraining
from services.registry.domain.rollouts import Contender, check
from services.registry.domain.search import drawn
from services.registry.policies import PolicyStore
from services.registry.registry import Registry, now_ms
from services.registry.retrainings import RetrainingStore, retraining_of
from services.registry.tables import VersionRow

log = structlog.get_logger("registry.asking")

LOOK_SECONDS = 5.0
RACES_LOOKED_AT = 10
"""Retrainings before, of which the newest that got anywhere says what a record takes."""
REPORTS_LOOKED_AT = 2_000
"""Newest reports of all streams, for a stream that was never retrained."""
CLOCK, EVENT = "the clock", "a retrain event"
"""Who it is that asks, on the trail."""


class Asking:
    """Begins retrainings; `look` does so for the clock and for events, and is for one thread."""

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
        self._next_look = 0.0
        self._read = 0
        self._early: dict[str, tuple[int, RetrainProposed]] = {}
        """Events whose time has not come, by stream the newest, and where they lie: reading begins there again."""

    def begin(
        self,
        stream: str,
        ask: Ask,
        by: By,
        *,
        cause: str = "a person",
        proposed: RetrainProposed | None = None,
    ) -> int:
        """Begin a retraining; its number. cause: why, for people. proposed: the event that it answers.

        Raises `Unusable`, `Conflict`, `Absent`, `Transient`.
        """
        contract = from_dict(self._registry.store.contract(stream).document)
        champion = self._champion(stream)
        model = check_model_name(ask.model) if ask.model else rules.challenger_name(champion.model)
        if model == champion.model and ask.plan is not None:
            raise Conflict(f"{model} is the champion itself: give the winner another name")

        def canonical(document: dict[str, Any]) -> dict[str, Any]:
            return specifications.check(document, task=contract.task, fields=contract.fields).document

        reference = canonical(champion.specification)
        own = specifications.digest(reference)
        trials = [Trial(0, reference, own, reference=True)]
        for found in drawn(ask.search, canonical):
            if (digest := specifications.digest(found)) != own:
                trials.append(Trial(len(trials), found, digest))
        race = races.begun(
            contract.task,
            self._spans(stream, contract.partitions, ask),
            trials,
            eta=ask.eta,
            limits=ask.limits,
        )
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
            forecast=forecast(race, self._measured(stream, champion), self._price, proposed),
            horizon_decisions=rules.check_horizon(ask.horizon_decisions),
        )
        return self.store.begin(stream, retraining, by, None if proposed is None else proposed.id)

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

    # -- by itself ----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Begin what is due by the clock, and what events have proposed since the last time. Raises `Transient`.

        Called more often than every `LOOK_SECONDS`, it does nothing: to ask Kafka takes a connection.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        for stream, policy in self.policies.take_due():
            self._begin_by_itself(stream, policy.ask, CLOCK, "every so often")
        for stream, (_, proposed) in list(self._early.items()):
            if self._answer(proposed):
                del self._early[stream]
        known = self.policies.read_up_to(RETRAINS.name)
        first, end = self._history.bounds(RETRAINS.name, 0)
        for batch in self._history.read(RETRAINS.name, 0, max(known, first, self._read), end):
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                read = _proposed(value)
                if read is not None and not self._answer(read):
                    self._early[read.stream] = (offset, read)
                self._read = offset + 1
        done = min([self._read, *(offset for offset, _ in self._early.values())])
        if done > known:
            self.policies.has_read(RETRAINS.name, done)

    def _answer(self, proposed: RetrainProposed) -> bool:
        """Act on an event; twice does no harm. False: its time has not come."""
        stream = proposed.stream
        try:
            policy = self.policies.get(stream)
            if policy is None or not policy.on_events or not self._concerns_champion(proposed):
                return True
        except (Absent, Conflict):
            return True
        if self._is_busy(stream) or self._is_cooling(stream, policy):
            return False
        ask = msgspec.structs.replace(policy.ask, start=proposed.since) if proposed.since else policy.ask
        self._begin_by_itself(stream, ask, EVENT, proposed.cause, proposed)
        return True

    def _concerns_champion(self, proposed: RetrainProposed) -> bool:
        """Whether who is to be mended still answers."""
        champion = self._champion(proposed.stream)
        return proposed.model in ("", champion.model) and proposed.version in (0, champion.version)

    def _is_busy(self, stream: str) -> bool:
        """Whether a race, or a challenger's way before it answers everybody, is under way."""
        races = self.store.all(stream, 1)
        rollouts = self._registry.rollouts.all(stream, 1)
        racing = bool(races) and retraining_of(races[0]).is_open
        return racing or (bool(rollouts) and rollouts[0].open and rollouts[0].state["stage"] != "guard")

    def _is_cooling(self, stream: str, policy: Policy) -> bool:
        newest = self.store.all(stream, 1)
        return bool(newest) and now_ms() < newest[0].created_ms + 1000 * policy.cool_down_seconds

    def _begin_by_itself(
        self, stream: str, ask: Ask, who: str, cause: str, proposed: RetrainProposed | None = None
    ) -> None:
        try:
            number = self.begin(stream, ask, By(who, cause), cause=cause, proposed=proposed)
            log.info("retraining", stream=stream, number=number, cause=cause)
        except Transient:
            raise
        except (HeadraceError, Absent) as reason:  # nobody waits for an answer: the log has to say it
            log.warning("no retraining", stream=stream, cause=cause, reason=str(reason))


def _reports(values: Iterable[bytes | None], stream: str) -> Iterator[UsageReport]:
    for value in values:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            report = decode_usage(value or b"")
            if report.stream == stream:
                yield report


def _proposed(value: bytes | None) -> RetrainProposed | None:
    try:
        return decode_retrain(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("this is no retrain event", reason=str(error))
        return None


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
