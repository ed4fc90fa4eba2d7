"""What the registry does: decide, write to the log, announce; and finish what a crash left half-done.

A decision is made in the database first (`store`), as pending. Then its control record is appended to every partition
of the stream's log, the offsets are noted, and the change is announced on `headrace.registry`. `settle` does the
latter three for whatever a stream still lacks, so a request, a retry and a restart run the same code: each picks up
where the last one died. Writing order per stream is the order of decisions, held by one lock a stream. Last, the end of
the audit trail is announced on `headrace.audit`.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

import structlog

from headrace.contracts.codec import encode
from headrace.contracts.compatibility import breaking_changes
from headrace.contracts.events import (
    Announcement,
    ContractAdopted,
    DeploymentAnnounced,
    StreamAnnounced,
)
from headrace.contracts.left_out import LeftOut
from headrace.contracts.payoff import Payoff, read_payoff
from headrace.contracts.stream import StreamContract, Task, from_dict
from headrace.datasets.adoptions import Adoption
from headrace.errors import Fatal, Transient, Unusable
from headrace.fold import specification as specifications
from headrace.trail import Examination
from services.registry.decisions import Absent
from services.registry.domain.aliases import Aliases, aliases
from services.registry.domain.audit import By
from services.registry.domain.controls import Verb
from services.registry.domain.history import Standing, standing
from services.registry.domain.lifecycle import Conflict, check_model_name
from services.registry.domain.lineage import Life, lives
from services.registry.domain.rollouts import Act, Plan, check
from services.registry.journal import Journal
from services.registry.notes import Noted
from services.registry.rollouts import Judged, RolloutStore
from services.registry.store import Store
from services.registry.tables import VersionRow
from services.registry.telling import ChangeLog, Telling
from services.registry.trail import Trail

PAGE = 500
RETRY_SECONDS = 2.0

_log = structlog.stdlib.get_logger("registry")


class ControlLog(ChangeLog, Protocol):
    """What the registry needs of Kafka; see `agents.KafkaControlLog`."""

    def check(self) -> None:
        """Raise `Fatal` if nothing can be written any more, and only a new process helps."""
        ...

    def ensure_platform(self) -> None:
        """Make the platform's topics."""
        ...

    def ensure_stream(self, stream: str, partitions: int) -> None:
        """Make a stream's topics."""
        ...

    def is_empty(self, stream: str) -> bool:
        """Whether the stream's log has never held a record."""
        ...

    def outcomes(self, stream: str) -> dict[int, int]:
        """Where each partition of the stream's outcomes ends."""
        ...

    def write(self, stream: str, partitions: int, record: bytes) -> dict[int, int]:
        """Append to every partition; the offsets."""
        ...

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Tell every service."""
        ...

    def announce_head(self, head: bytes) -> None:
        """Keep a signed head of the audit trail, for ever."""
        ...

    def heads(self) -> list[bytes]:
        """Every head that was ever announced."""
        ...


class Registry:
    """The registry's operations. Safe to use from several threads; each returns once its change is in the log.

    Raise `Unusable` (what was handed over is wrong), `Conflict` (it contradicts the present), `Absent` (no such
    thing), `Transient` (broker or database away: the decision, if made, is finished later; asking again is harmless).
    """

    def __init__(
        self, store: Store, journal: Journal, log: ControlLog, rollouts: RolloutStore, trail: Trail
    ) -> None:
        self.store = store
        self.rollouts = rollouts
        self.trail = trail
        self._journal = journal
        self._log = log
        self._telling = Telling(journal, trail, log)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._announcing = threading.Lock()
        self._announced = 0  # last record of the trail that this process has announced
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self.settled = threading.Event()
        """Set once everything an earlier life left behind has been finished and announced."""
        self.failed = threading.Event()
        """Set when the process must be restarted; `failure` says why."""
        self.failure = ""

    # -- streams ------------------------------------------------------------------------------------------------------

    def adopt(self, contract: StreamContract, by: By) -> tuple[int, bool]:
        """Create the stream, or give it a compatible new contract: (version, whether anything changed)."""

        def breaking(present: StreamContract) -> None:
            changes = breaking_changes(present, contract)
            if changes:
                raise Conflict(
                    f"the contract breaks what {contract.name} promises: {'; '.join(changes)}", changes
                )

        try:
            present = self.store.contract(contract.name)
        except Absent:
            pass
        else:
            breaking(from_dict(present.document))
        self._log.ensure_stream(contract.name, contract.partitions)
        answer = self.store.adopt(contract, breaking, from_dict, by)
        self._finish(contract.name)
        return answer

    # -- models -------------------------------------------------------------------------------------------------------

    def submit(self, name: str, document: dict[str, Any], description: str, by: By) -> tuple[int, str, bool]:
        """Register a specification: (version, digest, whether it is new)."""
        check_model_name(name)
        canonical = specifications.check(document).document
        digest = specifications.digest(canonical)
        version, created = self.store.submit(name, digest, canonical, description, by)
        self._wake.set()
        return version, digest, created

    def tag(self, noted: Noted, key: str, value: str | None, by: By) -> None:
        """Set a tag of a model or a version of it; value None: delete it."""
        if value is None:
            self.store.notes.untag(noted, key, by)
        else:
            self.store.notes.tag(noted, key, value, by)
        self._wake.set()

    def describe(self, model: str, version: int, description: str, by: By) -> None:
        """Give a model's version another description."""
        self.store.notes.describe(model, version, description, by)
        self._wake.set()

    # -- deployments --------------------------------------------------------------------------------------------------

    def deploy(
        self,
        stream: str,
        model: str,
        version: int | None,
        role: Literal["champion", "challenger"],
        by: By,
        *,
        learnt: bool = False,
    ) -> bool:
        """Put a model version on the stream; False if it is there already.

        learnt: it begins with what the log would have taught it.
        """
        chosen, _ = self._fitting(stream, model, version)
        created = self.store.deploy(stream, chosen, role, by, learnt=learnt)
        self._finish(stream)
        return created

    def _fitting(self, stream: str, model: str, version: int | None) -> tuple[VersionRow, Task]:
        contract = from_dict(self.store.contract(stream).document)
        chosen = self.store.version(model, version)
        try:
            specifications.check(chosen.specification, task=contract.task, fields=contract.fields)
        except Unusable as error:
            raise Unusable(
                f"{model} does not fit stream {stream}: {error.reason}", where=error.where
            ) from None
        return chosen, contract.task

    def change(self, stream: str, model: str, verb: Verb, by: By) -> tuple[bool, dict[str, int] | None]:
        """Promote, retire, freeze or unfreeze a deployed model.

        Returns whether it changed, and from which offset of each partition on (None if it was so already).
        """
        sequence = self.store.change(stream, model, verb, by)
        self._finish(stream)
        return sequence is not None, None if sequence is None else self._journal.offsets(stream, sequence)

    def rebuild(self, stream: str, model: str, without: LeftOut, by: By) -> tuple[int, dict[str, int] | None]:
        """Let a deployed model go on as if some records had never been learnt: (new version, from which offsets on)."""
        if not without:
            raise Unusable("nothing is to be left out", where="without")
        check_partitions(without, stream, self.store.stream(stream).partitions)
        sequence, version = self.store.rebuild(stream, model, without, by)
        self._finish(stream)
        return version, self._journal.offsets(stream, sequence)

    def read_payoff(self, stream: str, document: Any) -> Payoff:
        """A payoff that fits the stream. Raises `Unusable`, `Absent`."""
        return read_payoff(document, from_dict(self.store.contract(stream).document).task)

    def set_payoff(self, stream: str, model: str, document: Any, by: By) -> bool:
        """Say what a model's answers are worth (model "": the stream's; document None: nobody says it)."""
        payoff = None if document is None else self.read_payoff(stream, document)
        changed = self.store.payoffs.set(stream, model, payoff, by)
        self._finish(stream, announce=changed)
        return changed

    # -- rollouts -----------------------------------------------------------------------------------------------------

    def begin(
        self,
        stream: str,
        model: str,
        version: int | None,
        plan: Plan,
        by: By,
        *,
        learnt: bool = False,
        without: LeftOut = LeftOut(),  # noqa: B008  # it is frozen
    ) -> int:
        """Begin to roll a model version out: beside the champion first, judged by what comes from now on."""
        chosen, task = self._fitting(stream, model, version)
        positions = self._log.outcomes(stream)
        number = self.rollouts.begin(
            stream, chosen, task, check(plan), positions, by, learnt=learnt, without=without
        )
        self._finish(stream)
        return number

    def turn(
        self,
        stream: str,
        number: int,
        turn: Act,
        by: By,
        *,
        action: str,
        revision: int | None = None,
        judged: Judged | None = None,
    ) -> None:
        """Take a rollout's next turn; see `RolloutStore.turn`."""
        if self.rollouts.turn(stream, number, turn, by, action=action, revision=revision, judged=judged):
            self._finish(stream)
        else:
            self._wake.set()

    # -- the past ------------------------------------------------------------------------------------------------------

    def live(self, stream: str, at_ms: int) -> Standing:
        """Who stood on a stream at a moment. Raises `Absent`."""
        self.store.stream(stream)
        return standing(self._journal.decided(stream, at_ms))

    def lives(self, stream: str) -> list[Life]:
        """All versions that have learnt from a stream, and from what. Raises `Absent`."""
        self.store.stream(stream)
        return lives(self._journal.decided(stream, now_ms()))

    def aliases(self, *models: str) -> Aliases:
        """What versions of these models are called for where they stand or stood; see `domain.aliases`."""
        now = now_ms()
        return aliases(
            {stream: self._journal.decided(stream, now) for stream in self.store.streams_of(*models)}
        )

    def adoptions(self, stream: str) -> list[Adoption]:
        """All versions of a stream's contract, oldest first, and from which offsets on they hold. Raises `Absent`."""
        self.store.stream(stream)
        return [
            Adoption(decision.control.version, decision.offsets, decision.control.contract)
            for decision in self._journal.decided(stream, now_ms())
            if isinstance(decision.control, ContractAdopted)
        ]

    def lives_of(self, model: str) -> list[tuple[str, Life]]:
        """All lives of a model's versions, stream by stream."""
        return [
            (stream, life)
            for stream in self.store.streams_of(model)
            for life in self.lives(stream)
            if life.model == model
        ]

    # -- the audit trail ----------------------------------------------------------------------------------------------

    def examine(self) -> Examination:
        """Examine the audit trail against all heads that were announced of it."""
        return self.trail.examine(self._log.heads())

    # -- finishing ----------------------------------------------------------------------------------------------------

    def _finish(self, stream: str, *, announce: bool = False) -> None:
        try:
            self.settle(stream, announce=announce)
        except Transient as error:
            raise Transient(f"decided; it takes effect once it can be written to the log: {error}") from None

    def settle(self, stream: str, *, announce: bool = False) -> None:
        """Write what is pending, in order, and announce what was not announced (or all, with `announce`).

        Before that it is told what was changed: a registry that is made from the topics must know what is in a log.
        """
        with self._locks[stream]:
            pending = self._journal.pending(stream)
            self._telling.tell()
            for decision in pending:
                offsets = self._log.write(decision.stream, decision.partitions, decision.record)
                self._journal.effective(decision, offsets)
                self._wake.set()  # to tell where it lies, for which nobody waits
            row = self.store.stream(stream)
            if announce or row.announced < row.sequence:
                self._log.announce(self._announcements(stream, row.partitions))
                self._journal.announced(stream, row.sequence)
        self._announce_head()

    def _announce_head(self) -> None:
        """Announce the end of the audit trail, if it has grown; whatever it is, once after a start."""
        with self._announcing:
            head = self.trail.head()
            if head.sequence > self._announced:
                self._log.announce_head(encode(self.trail.seal.head(head)))
                self._announced = head.sequence

    def _announcements(self, stream: str, partitions: int) -> list[Announcement]:
        contract, payoffs = self.store.contract(stream), self.store.payoffs.of(stream)
        told: list[Announcement] = [StreamAnnounced(stream, contract.version, partitions, contract.document)]
        for row, _ in self.store.deployments(stream):
            role = cast(Literal["champion", "challenger", "retired"], row.role)
            payoff = payoffs.holds_for(row.model)
            told.append(
                DeploymentAnnounced(stream, row.model, row.version, role, row.changed_ms, row.digest, payoff)
            )
        return told

    def restore(self) -> None:
        """Bring Kafka to where the database is: topics, pending decisions, every announcement.

        A log that is empty although decisions were written to it has been lost (a wiped broker): all decisions of that
        stream are written again.
        """
        self._log.ensure_platform()
        self._telling.begin()
        for name, partitions in self.shapes():
            try:
                self._restore(name, partitions)
            except (Unusable, Absent) as error:
                # Its topics were made otherwise by somebody else: the other streams must not suffer for it.
                _log.error("a stream cannot be restored", stream=name, reason=str(error))
        self._telling.tell()
        self._announce_head()
        self.settled.set()

    def shapes(self) -> list[tuple[str, int]]:
        """Every stream and its number of partitions, by name."""
        found: list[tuple[str, int]] = []
        while page := self.store.streams(PAGE, found[-1][0] if found else ""):
            found += [(row.name, row.partitions) for row in page]
        return found

    def _restore(self, stream: str, partitions: int) -> None:
        self._log.ensure_stream(stream, partitions)
        with self._locks[stream]:  # what is being written just now is not lost
            if self._log.is_empty(stream):
                self._journal.reopen(stream)
        self.settle(stream, announce=True)

    def keep_settled(self) -> None:
        """Run until `stop` (or `failed`): restore, then now and then finish what a broker's absence left pending."""
        while not self._stopping.is_set():
            try:
                self._log.check()
                if self.settled.is_set():
                    self._settle_all()
                else:
                    self.restore()
                    _log.info("registry restored")
            except Transient as error:
                _log.warning("not settled yet", reason=str(error))
            except Fatal as error:
                _log.error("the registry cannot go on", reason=str(error))
                self.failure = str(error)
                self.failed.set()
                return
            except Exception:
                _log.exception("cannot settle")  # and try again: what is decided must not be forgotten
            self._wake.wait(RETRY_SECONDS)
            self._wake.clear()

    def stop(self) -> None:
        """End `keep_settled`."""
        self._stopping.set()
        self._wake.set()

    def _settle_all(self) -> None:
        for name in self._journal.unsettled():
            self.settle(name)
        self._telling.tell()
        self._announce_head()  # of what concerns no stream's log, too: models, a rollout that is held


def check_partitions(without: LeftOut, stream: str, partitions: int) -> None:
    """Raise `Unusable` if offsets are to be left out of a partition that a stream does not have."""
    for part in without.offsets:
        if not 0 <= part.partition < partitions:
            raise Unusable(f"{stream} has no partition {part.partition}", where="without")


def now_ms() -> int:
    """The wall clock: when people decided. Never part of a log's event time."""
    return time.time_ns() // 1_000_000
