"""What came of a proposal, as one story: from what has moved to another champion, or to none.

Nothing of it is written down anywhere: it follows from the proposal, the retraining that it has begun, and the rollout
of that one's winner.
"""

from typing import Generic, Literal, NamedTuple, TypeVar

from services.registry.domain.proposals import Proposal
from services.registry.domain.retraining import Retraining
from services.registry.domain.rollouts import Rollout, Stage

Outcome = Literal[
    "waiting", "dismissed", "passed_over",
    "racing", "cancelled", "no_winner", "registered",
    "shadow", "canary", "guard", "promoted", "dropped", "rolled_back", "aborted",
]  # fmt: skip
"""How far it is, or how it ended. registered: the winner is a version, but no rollout of it began."""


Of = TypeVar("Of")


class Lasted(NamedTuple, Generic[Of]):
    """Something, with when it was made and when it changed last, in ms."""

    it: Of
    created_ms: int
    changed_ms: int


class Happened(NamedTuple):
    """A step. by: who took it; "": the text says so."""

    at_ms: int
    what: str
    by: str
    says: str


def outcome(proposal: Proposal, retraining: Retraining | None, rollout: Rollout | None) -> Outcome:
    """How far a proposal has come."""
    match proposal.status:
        case "waiting" | "dismissed" | "passed_over" as status:
            return status
    if retraining is None or retraining.is_open:
        return "racing"
    if retraining.status == "cancelled":
        return "cancelled"
    if rollout is None:
        return "no_winner" if retraining.version is None else "registered"
    match rollout.stage:
        case "kept":
            return "promoted"
        case "aborted":  # its guard may have left: then it stays
            return "promoted" if rollout.past and rollout.past[-1].stage == "guard" else "aborted"
        case stage:
            return stage


def story(
    proposal: Lasted[Proposal],
    retraining: Lasted[Retraining] | None,
    rollout: Lasted[Rollout] | None,
    *,
    proposed_by: str,
    trained_by: str,
) -> list[Happened]:
    """Every step so far, in order."""
    told = [Happened(proposal.created_ms, "proposed", proposed_by, proposal.it.event.cause)]
    if proposal.it.status in ("dismissed", "passed_over"):
        told.append(Happened(proposal.changed_ms, proposal.it.status, proposal.it.by, proposal.it.says))
    if retraining is not None:
        told += _raced(proposal.it, retraining, trained_by, None if rollout is None else rollout.created_ms)
    if rollout is not None:
        told += _rolled_out(rollout)
    return told


def _raced(
    proposal: Proposal, retraining: Lasted[Retraining], by: str, handed_over_ms: int | None
) -> list[Happened]:
    known = retraining.it
    records = sum(end - start for start, end in known.race.spans.values())
    says = f"retraining {proposal.retraining}: {len(known.race.trials)} trials over {records:,} records"
    told = [Happened(retraining.created_ms, "begun", proposal.by, says)]
    if known.status == "cancelled":
        told.append(Happened(retraining.changed_ms, "cancelled", "", known.says))
    elif not known.is_open:
        gain = "" if known.gain is None else f"; the winner lost {known.gain:.4g} an event less"
        # It is noted as over once its winner is on its way.
        over_ms = min(retraining.changed_ms, handed_over_ms or retraining.changed_ms)
        told.append(Happened(over_ms, "raced", by, f"{known.says}{gain}"))
    return told


def _rolled_out(rollout: Lasted[Rollout]) -> list[Happened]:
    known = rollout.it
    says = f"{known.challenger} beside {known.champion}"
    told = [Happened(rollout.created_ms, "shadow", known.proposed_by, says)]
    stages: list[Stage] = [*(passed.stage for passed in known.past[1:]), known.stage]
    for passed, stage in zip(known.past, stages, strict=False):
        ruling = passed.ruling.replace("_", " ") or "decided by hand"
        says = f"{ruling} after {passed.evidence.labels:,} labels as {passed.stage}"
        told.append(Happened(passed.at_ms, stage, passed.by, says))
    return told
