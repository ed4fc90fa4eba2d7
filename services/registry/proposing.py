"""Who lets retrainings begin without being asked over HTTP: the clock, and events that propose them.

It looks every few seconds, on a thread of its own, as a race may keep the trainer's for hours. What an event proposes
is kept first and decided about afterwards (`domain.proposals`), so a look that is cut short is only made again.
"""

import threading

import msgspec
import structlog

from headrace.contracts.codec import decode_retrain
from headrace.contracts.events import RetrainProposed
from headrace.contracts.topics import RETRAINS
from headrace.errors import HeadraceError, Transient
from headrace.history import History
from services.registry.asking import Asking
from services.registry.decisions import Absent
from services.registry.domain import proposals as rules
from services.registry.domain.audit import By
from services.registry.domain.forecast import Forecast
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.proposals import Begin, PassOver
from services.registry.domain.retraining import Policy
from services.registry.proposals import EVENT, Answering, ProposalStore, proposal_of
from services.registry.tables import ProposalRow

log = structlog.get_logger("registry.proposing")

LOOK_SECONDS = 5.0
LONGEST_EVENT = 20_000
"""Bytes of an event that is kept: whoever may write to the topic must not fill the database."""
LONGEST_ID = 200
CLOCK = "the clock"
"""Who it is that asks, on the trail."""


class Proposing:
    """Keeps proposals and lets them begin; `look` is for one thread, the rest for any."""

    def __init__(self, asking: Asking, store: ProposalStore, history: History) -> None:
        self.store = store
        self._asking = asking
        self._policies = asking.policies
        self._history = history
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_round, name="proposing", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join(10.0)

    def _go_round(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
            except HeadraceError as error:
                log.warning("not looked yet", reason=str(error))
            except Exception:
                log.exception("looking failed")

    def look(self) -> None:
        """Begin what is due by the clock, keep what was proposed since the last time, and let begin what may.

        Raises `Transient`.
        """
        for stream, policy in self._policies.take_due():
            self._begin_by_clock(stream, policy)
        for row in self.store.waiting():
            self._advance(row)
        self._read()

    def approve(self, stream: str, number: int, by: By) -> None:
        """A person lets it begin now. Raises `Conflict` if that cannot be, and says why; as `Asking.begin` does."""
        row = self.store.get(stream, number)
        policy = self._policies.get(stream)
        if policy is None:
            raise Conflict(f"nothing says what is tried: give {stream} a retraining policy first")
        self._begin(row, policy, by, approved=True)

    def expected(self, row: ProposalRow) -> Forecast:
        """What its retraining would take, and may gain. Raises as `Asking.begin` does."""
        policy = self._policies.get(row.stream)
        if policy is None:
            raise Conflict("no retraining policy says what is tried")
        event = proposal_of(row).event
        return self._asking.expected(row.stream, rules.ask_of(policy, event), event)

    def _begin_by_clock(self, stream: str, policy: Policy) -> None:
        by = By(CLOCK, "every so often")
        try:
            self._tell(stream, self._asking.begin(stream, policy.ask, by, cause=by.reason), by.reason)
        except Transient:
            raise
        except (HeadraceError, Absent) as reason:  # nobody waits for an answer: the log has to say it
            log.warning("no retraining", stream=stream, cause=by.reason, reason=str(reason))

    # -- events -------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        known = self._policies.read_up_to(RETRAINS.name)
        first, end = self._history.bounds(RETRAINS.name, 0)
        done = max(known, first)
        for batch in self._history.read(RETRAINS.name, 0, done, end):
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                event = _proposed(value)
                if event is not None:
                    self._keep(event)
                done = offset + 1
        if done > known:
            self._policies.has_read(RETRAINS.name, done)

    def _keep(self, event: RetrainProposed) -> None:
        try:
            number = self.store.keep(event)
        except Absent as reason:
            log.warning("nothing to retrain", id=event.id, stream=event.stream, reason=str(reason))
            return
        if number is not None:
            self._advance(self.store.get(event.stream, number))

    def _advance(self, row: ProposalRow) -> None:
        """Let one begin if it may; pass it over if nothing will come of it, or if it cannot be begun."""
        if not row.waiting:
            return
        match self.store.next(row):
            case Begin(policy):
                try:
                    self._begin(row, policy, By(EVENT, proposal_of(row).event.cause), approved=False)
                except Transient:
                    raise
                except (HeadraceError, Absent) as reason:
                    row = self.store.get(row.stream, row.number)
                    nobody_was_faster = row.waiting and isinstance(self.store.next(row), Begin)
                    if nobody_was_faster:
                        self._pass_over(row, f"it could not begin: {reason}")
            case PassOver(says):
                self._pass_over(row, says)

    def _begin(self, row: ProposalRow, policy: Policy, by: By, *, approved: bool) -> None:
        event = proposal_of(row).event
        number = self._asking.begin(
            row.stream, rules.ask_of(policy, event), by, cause=event.cause,
            answering=Answering(row.number, event, approved),
        )  # fmt: skip
        self._tell(row.stream, number, event.cause)

    def _pass_over(self, row: ProposalRow, says: str) -> None:
        self.store.pass_over(row.stream, row.number, says)
        log.info("passed over", stream=row.stream, proposal=row.number, reason=says)

    @staticmethod
    def _tell(stream: str, number: int, cause: str) -> None:
        log.info("retraining", stream=stream, number=number, cause=cause)


def _proposed(value: bytes | None) -> RetrainProposed | None:
    """An event, if it is one that can be kept: a database's text has no zero byte."""
    try:
        event = decode_retrain(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("this is no retrain event", reason=str(error))
        return None
    if (
        len(value or b"") > LONGEST_EVENT
        or not 0 < len(event.id) <= LONGEST_ID
        or b"\\u0000" in (value or b"")
    ):
        log.warning(
            "this retrain event cannot be kept", bytes=len(value or b""), stream=event.stream[:LONGEST_ID]
        )
        return None
    return event
