"""What becomes of a proposal to retrain: it waits, and then it is begun, dismissed or passed over, once and for ever.

Only what was decided is kept. What a waiting one waits for follows from what is so now (`step`), so it is never stale:

| what is so | what comes of one that waits |
|---|---|
| another model answers, or none | passed over |
| there is no policy; it has no `on_events`, or asks for approval; or that was so when it came | waits for a person |
| the same, and nobody has decided for as long as the policy gives | passed over |
| a race, or a challenger's way before it answers everybody, is under way | waits for its turn |
| the last race began less than the cool-down ago | waits for the cool-down |
| none of this | begun |

A person who approves need not wait for the cool-down, only for its turn; and there has to be a policy, as it says what
is tried. A policy that comes later never begins what has waited for a person.
"""

from typing import Any, Literal

import msgspec

from headrace.contracts.events import RetrainProposed
from services.registry.domain.lifecycle import Conflict
from services.registry.domain.retraining import EXPIRES_SECONDS, Ask, Policy
from services.registry.domain.rollouts import Contender

Status = Literal["waiting", "begun", "dismissed", "passed_over"]
Awaited = Literal["policy", "approval", "turn", "cool_down"]


class Proposal(msgspec.Struct, frozen=True):
    """A proposal. for_person: when it came, no policy let it begin by itself. by, says: who ended its wait, and why.

    retraining: the number of the one that it has begun.
    """

    event: RetrainProposed
    for_person: bool
    status: Status = "waiting"
    by: str = ""
    says: str = ""
    retraining: int | None = None


class Circumstances(msgspec.Struct, frozen=True):
    """What is so on a stream. under_way: what has to end first, in words; "": nothing.

    last_begun_ms: when its newest retraining began; None: it had none.
    """

    champion: Contender | None
    policy: Policy | None
    under_way: str
    last_begun_ms: int | None


class Begin(msgspec.Struct, frozen=True):
    """Its time has come, by this policy."""

    policy: Policy


class PassOver(msgspec.Struct, frozen=True):
    """Nothing will come of it; says why."""

    says: str


class Wait(msgspec.Struct, frozen=True):
    """It waits on. until_ms: when that ends by itself; None: not known."""

    awaited: Awaited
    says: str
    until_ms: int | None = None


Step = Begin | PassOver | Wait


def step(
    proposal: Proposal, came_ms: int, known: Circumstances, now_ms: int, *, approved: bool = False
) -> Step:
    """What comes next of a proposal that waits. approved: a person lets it begin now."""
    event, champion, policy = proposal.event, known.champion, known.policy
    if champion is None:
        return PassOver("nobody answers on the stream")
    if event.model not in ("", champion.model) or event.version not in (0, champion.version):
        return PassOver(f"{event.model}@{event.version} does not answer any more: {champion} does")
    if policy is None or (not approved and _needs_person(proposal, policy)):
        seconds = EXPIRES_SECONDS if policy is None else policy.expires_seconds
        until = came_ms + 1000 * seconds
        if now_ms >= until:
            return PassOver(f"nobody decided about it within {seconds:,} s")
        if policy is None:
            return Wait("policy", "nothing says what is tried: give the stream a policy, then approve", until)
        return Wait("approval", "a person has to approve it", until)
    if known.under_way:
        return Wait("turn", f"{known.under_way} is under way")
    if not approved and known.last_begun_ms is not None:
        until = known.last_begun_ms + 1000 * policy.cool_down_seconds
        if now_ms < until:
            return Wait("cool_down", "the last retraining began a short while ago", until)
    return Begin(policy)


def begins_by_itself(policy: Policy | None) -> bool:
    """Whether what is proposed under a policy may begin without a person."""
    return policy is not None and policy.on_events and not policy.approval


def ask_of(policy: Policy, event: RetrainProposed) -> Ask:
    """What is tried by a policy for an event: from where it says on; a policy itself has no offsets."""
    return msgspec.structs.replace(policy.ask, start=event.since)


def waits(proposal: Proposal) -> Proposal:
    """The proposal, if it waits. Raises `Conflict` if it does no more, as the three below."""
    if proposal.status != "waiting":
        raise Conflict(f"the proposal waits no more: {in_words(proposal)}")
    return proposal


def begun(proposal: Proposal, retraining: int, by: str) -> Proposal:
    """It has begun a retraining."""
    return _ended(proposal, status="begun", by=by, retraining=retraining)


def dismissed(proposal: Proposal, by: str, why: str) -> Proposal:
    """A person does not want it."""
    return _ended(proposal, status="dismissed", by=by, says=why)


def passed_over(proposal: Proposal, says: str, by: str) -> Proposal:
    """Nothing will come of it."""
    return _ended(proposal, status="passed_over", by=by, says=says)


def _needs_person(proposal: Proposal, policy: Policy) -> bool:
    return proposal.for_person or not begins_by_itself(policy)


def _ended(proposal: Proposal, **changes: Any) -> Proposal:
    return msgspec.structs.replace(waits(proposal), **changes)


def in_words(proposal: Proposal) -> str:
    """How it stands, for people."""
    match proposal.status:
        case "begun":
            return f"retraining {proposal.retraining} was begun for it by {proposal.by}"
        case "dismissed":
            return f"{proposal.by} has dismissed it"
        case "passed_over":
            return f"passed over, {proposal.says}"
        case _:
            return "it waits"
