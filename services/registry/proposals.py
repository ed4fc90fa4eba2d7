"""The registry's memory of proposals to retrain: each is kept once, and leaves the wait once.

At most one of a stream waits: a newer one takes its place, as it is about the same champion and knows more. The
retraining that one begins is written in the transaction that ends its wait (`RetrainingStore.begin`), which looks at
everything anew. So of two registries, of a person and the clock, or of two persons, one is told that it has been done.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from headrace.contracts.events import RetrainProposed
from services.registry.database import Database, compare_and_set
from services.registry.decisions import deciding, line_up, newest_first, numbered, stream_row
from services.registry.domain import lifecycle
from services.registry.domain import proposals as rules
from services.registry.domain.audit import By, Change
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.proposals import Begin, Circumstances, PassOver, Proposal, Step
from services.registry.domain.rollouts import Contender
from services.registry.policies import policy_of
from services.registry.request import Version, expect
from services.registry.tables import ProposalRow, RetrainingPolicyRow, RetrainingRow, RolloutRow
from services.registry.trail import Trail

MOST_KEPT = 500
"""Of a stream that are over; the oldest go."""
EVENT, ITSELF = "a retrain event", "the registry"
"""Who it is that proposes, and that passes over, on the trail."""


class Answering(NamedTuple):
    """That a retraining answers a proposal. approved: a person lets it begin now."""

    number: int
    event: RetrainProposed
    approved: bool


class ProposalStore:
    """Proposals, those that are over too. Safe to use from several threads. Raises `Transient` as the database does."""

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._write = database.write
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append

    def keep(self, event: RetrainProposed) -> int | None:
        """Keep what an event proposes; its number, also if it is known already.

        None: its retraining is older than proposals are kept, or another stream has an event with its id. Raises
        `Absent` if there is no such stream.
        """

        def work(session: Session) -> int | None:
            stream = event.stream
            deciding(session, stream, check=False)
            known = session.scalar(select(ProposalRow).where(ProposalRow.event == event.id))
            if known is not None:
                return known.number if known.stream == stream else None
            if (
                session.scalar(select(RetrainingRow.number).where(RetrainingRow.event == event.id))
                is not None
            ):
                return None
            newest = select(func.max(ProposalRow.number)).where(ProposalRow.stream == stream)
            number, now = 1 + (session.scalar(newest) or 0), self._now_ms()
            what: dict[str, Any] = {"proposal": number, "event": event.id, "drift": event.drift}
            found = circumstances(session, stream)
            proposal = Proposal(event, for_person=not rules.begins_by_itself(found.policy))
            match rules.step(proposal, now, found, now):
                case PassOver(says):
                    proposal = rules.passed_over(proposal, says, ITSELF)
                    what["passed_over"] = says
                case _:
                    for row in session.scalars(_waiting().where(ProposalRow.stream == stream)).all():
                        says = f"proposal {number} came after it"
                        _put(session, row, rules.passed_over(proposal_of(row), says, ITSELF), now)
                        what["instead_of"] = row.number
            session.add(
                ProposalRow(
                    stream=stream, number=number, event=event.id, revision=1, waiting=proposal.status == "waiting",
                    state=_plain(proposal), created_ms=now, changed_ms=now,
                )
            )  # fmt: skip
            _forget_oldest(session, stream)
            self._record(
                session, now, By(EVENT, event.cause), Change("propose", {}, what, stream, event.model)
            )
            return number

        return self._write(work)

    def get(self, stream: str, number: int) -> ProposalRow:
        """A proposal, or `Absent`."""

        def work(session: Session) -> ProposalRow:
            stream_row(session, stream)
            return numbered(session, ProposalRow, stream, number)

        return self._read(work)

    def all(self, stream: str, limit: int, below: int | None = None) -> list[ProposalRow]:
        """Proposals of a stream, newest first, those below a number. Raises `Absent`."""
        return self._read(lambda session: newest_first(session, ProposalRow, stream, limit, below))

    def waiting(self) -> list[ProposalRow]:
        """Of every stream the one that waits."""
        return self._read(lambda session: list(session.scalars(_waiting().order_by(ProposalRow.stream))))

    def next(self, row: ProposalRow) -> Step:
        """What comes next of one that waits."""
        known = self._read(lambda session: circumstances(session, row.stream))
        return rules.step(proposal_of(row), row.created_ms, known, self._now_ms())

    def dismiss(self, stream: str, number: int, by: By) -> bool:
        """End its wait: it is not wanted. Raises `Conflict` if it waits no more; `Absent`."""

        def work(session: Session) -> bool:
            deciding(session, stream, check=False)
            row = numbered(session, ProposalRow, stream, number)
            expect(proposal_version(row))
            after, now = rules.dismissed(proposal_of(row), by.name, by.reason), self._now_ms()
            _put(session, row, after, now)
            what = {"proposal": number, "event": row.event}
            self._record(session, now, by, Change("dismiss", {}, what, stream, after.event.model))
            return True

        return self._decide(work)

    def pass_over(self, stream: str, number: int, says: str) -> None:
        """End its wait, if it still waits: nothing will come of it."""

        def work(session: Session) -> None:
            deciding(session, stream, check=False)
            row = numbered(session, ProposalRow, stream, number)
            if row.waiting:
                after, now = rules.passed_over(proposal_of(row), says, ITSELF), self._now_ms()
                _put(session, row, after, now)
                what = {"proposal": number, "event": row.event}
                change = Change("pass-over", {}, what, stream, after.event.model)
                self._record(session, now, By(ITSELF, says), change)

        self._write(work)


def to_begin(session: Session, stream: str, answering: Answering, now_ms: int) -> ProposalRow:
    """The row of one that may begin now. Raises `Conflict` if it may not, `Unmatched`, `Absent`."""
    row = numbered(session, ProposalRow, stream, answering.number)
    expect(proposal_version(row))
    proposal = rules.waits(proposal_of(row))
    found = circumstances(session, stream)
    match rules.step(proposal, row.created_ms, found, now_ms, approved=answering.approved):
        case Begin():
            return row
        case other:
            raise Conflict(other.says)


def has_begun(session: Session, row: ProposalRow, retraining: int, now_ms: int, by: By) -> None:
    """It waits no more: this retraining answers it, begun in this transaction."""
    _put(session, row, rules.begun(proposal_of(row), retraining, by.name), now_ms)


def circumstances(session: Session, stream: str) -> Circumstances:
    """What is so on a stream in this transaction."""
    champion = lifecycle.champion(line_up(session, stream))
    policy = session.get(RetrainingPolicyRow, stream)
    race = _newest(session, RetrainingRow, stream)
    rollout = _newest(session, RolloutRow, stream)
    under_way = ""
    if race is not None and race.open:
        under_way = f"retraining {race.number}"
    elif rollout is not None and rollout.open and rollout.state["stage"] != "guard":
        under_way = f"rollout {rollout.number}"
    return Circumstances(
        None if champion is None else Contender(champion.model, champion.version),
        None if policy is None else policy_of(policy),
        under_way,
        None if race is None else race.created_ms,
    )


def proposal_version(row: ProposalRow) -> Version:
    """A proposal: what was decided of it."""
    return Version("proposal", f"{row.stream}/{row.number}", row.revision)


def proposal_of(row: ProposalRow) -> Proposal:
    """The proposal that a row holds."""
    return msgspec.convert(row.state, Proposal, str_keys=True)


def _plain(proposal: Proposal) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(proposal, str_keys=True)
    return plain


def _put(session: Session, row: ProposalRow, after: Proposal, now_ms: int) -> None:
    compare_and_set(
        session,
        row,
        update(ProposalRow)
        .where(
            ProposalRow.stream == row.stream,
            ProposalRow.number == row.number,
            ProposalRow.revision == row.revision,
        )
        .values(
            revision=row.revision + 1,
            waiting=after.status == "waiting",
            state=_plain(after),
            changed_ms=now_ms,
        ),
    )


def _waiting() -> Any:
    return select(ProposalRow).where(ProposalRow.waiting)


def _newest(session: Session, kind: Any, stream: str) -> Any:
    return session.scalar(select(kind).where(kind.stream == stream).order_by(kind.number.desc()).limit(1))


def _forget_oldest(session: Session, stream: str) -> None:
    session.flush()
    over = select(ProposalRow).where(ProposalRow.stream == stream, ~ProposalRow.waiting)
    for row in session.scalars(over.order_by(ProposalRow.number.desc()).offset(MOST_KEPT)).all():
        session.delete(row)
