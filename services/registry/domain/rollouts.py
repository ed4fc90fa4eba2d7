"""How a model takes a champion's place: as a shadow, as a canary, as the champion under guard; or how it does not.

A rollout is a value; every rule is a function from one to the next, with the moves that the stream's line-up must make
for it (`lifecycle`). Nothing here looks at a clock or a database: the same evidence leads to the same end.

- *shadow*: the challenger is asked on every event, the champion answers. If the challenger is better (`evidence`), it
  goes on; if it is worse, or the labels run out, it is dropped.
- *canary*: it answers a share of the entities, one share after the other. The champion, who is asked beside it, may
  still prove it worse.
- *guard*: it is the champion. The old one is asked beside it, and comes back if it proves the better one.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from headrace.contracts.stream import Task
from headrace.errors import Unusable
from services.registry.domain.evidence import Differences, Evidence, Verdict, weigh
from services.registry.domain.lifecycle import Conflict

Stage = Literal["shadow", "canary", "guard", "kept", "dropped", "rolled_back", "aborted"]
ENDS: tuple[Stage, ...] = ("kept", "dropped", "rolled_back", "aborted")

Ruling = Literal["better", "worse", "no_worse", "undecided"]
"""What ends a stage: a verdict, or that its labels came without one."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of a challenger.

    warm_up_labels: that the shadow may learn before any count, as one that knows nothing yet is worse than anybody.
    error_rate: how often one that is not better may be called better. harm_rate: how often one that is not worse may
    be called worse, as a shadow, canary or under guard. most_labels: of the shadow; without a verdict by then it is
    dropped. canary: shares of the entities, rising; each for `canary_labels` labels. guard_labels: for how long the old
    champion stays beside it; 0: not at all. approval: a second person has to agree before it answers anybody.
    """

    warm_up_labels: int = 1_000
    error_rate: float = 0.05
    harm_rate: float = 0.05
    most_labels: int = 100_000
    canary: tuple[float, ...] = ()
    canary_labels: int = 1_000
    guard_labels: int = 10_000
    approval: bool = False


class Contender(msgspec.Struct, frozen=True):
    """A version of a model."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


class Passed(msgspec.Struct, frozen=True):
    """A stage that is over: what the labels said, and what was concluded by whom. ruling "": a person decided."""

    stage: Stage
    evidence: Evidence
    ruling: Ruling | Literal[""]
    at_ms: int
    by: str
    share: float = 0.0


class Rollout(msgspec.Struct, frozen=True):
    """A challenger's way. step: which of the plan's canary shares. held: it stays where it is until it is resumed.

    awaits: it has won, and a second person has to agree. warmed: labels of the warm-up so far. evidence: the present
    stage's.
    """

    challenger: Contender
    champion: Contender
    task: Task
    plan: Plan
    proposed_by: str
    stage: Stage = "shadow"
    step: int = 0
    held: bool = False
    awaits: bool = False
    approved_by: str = ""
    warmed: int = 0
    evidence: Evidence = Evidence()
    past: tuple[Passed, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether anything can still become of it."""
        return self.stage not in ENDS

    @property
    def share(self) -> float:
        """Share of the entities that the challenger answers as a canary."""
        return self.plan.canary[self.step] if self.stage == "canary" else 0.0


Move = tuple[Literal["promote", "retire"], str] | tuple[Literal["share"], str, float]
"""What the line-up does: (what, which model, its share)."""

Turn = tuple[Rollout, list[Move]]
"""What comes of a step: the rollout after it, and what the line-up does for it."""

Act = Callable[[Rollout, int], Turn]
"""A step to be taken on whatever the rollout is by then, at a time in ms."""


def check(plan: Plan) -> Plan:
    """Return a plan that can be kept, else raise `Unusable`."""
    for name in ("error_rate", "harm_rate"):
        if not 1e-9 <= getattr(plan, name) <= 0.5:
            raise Unusable("a rate is between 1e-9 and 0.5", where=f"plan.{name}")
    for name, least in (("warm_up_labels", 0), ("most_labels", 1), ("canary_labels", 1), ("guard_labels", 0)):
        if not least <= getattr(plan, name) <= 10**12:
            raise Unusable(f"at least {least}", where=f"plan.{name}")
    shares = plan.canary
    if (
        len(shares) > 10
        or any(not 0.0 < share <= 1.0 for share in shares)
        or list(shares) != sorted(set(shares))
    ):
        raise Unusable("at most 10 shares, rising, above 0 and at most 1", where="plan.canary")
    return plan


def pair(rollout: Rollout) -> tuple[Contender, Contender]:
    """(who answers, who is asked beside) on the events that count now."""
    if rollout.stage == "shadow":
        return rollout.champion, rollout.challenger
    return rollout.challenger, rollout.champion


def weighed(rollout: Rollout, differences: Differences) -> tuple[Rollout, Ruling | None]:
    """The rollout after some more paired outcomes (losses of `pair`'s first minus its second's), and what they decide.

    No more are counted than the stage waits for, however many come at once.
    """
    plan = rollout.plan
    if rollout.stage == "shadow" and rollout.warmed < plan.warm_up_labels:
        skipped = min(len(differences), plan.warm_up_labels - rollout.warmed)
        rollout = _change(rollout, warmed=rollout.warmed + skipped)
        differences = differences[skipped:]
    most = {"shadow": plan.most_labels, "canary": plan.canary_labels, "guard": plan.guard_labels}
    room = most[rollout.stage] - rollout.evidence.labels
    rates = (plan.error_rate, plan.harm_rate)
    if rollout.stage != "shadow":  # the champion is beside it now: that it is better means harm
        rates = (plan.harm_rate, plan.error_rate)
    evidence, verdict = weigh(rollout.evidence, differences[:room], *rates)
    after = _change(rollout, evidence=evidence)
    return after, ruling(after, verdict)


def ruling(rollout: Rollout, verdict: Verdict | None) -> Ruling | None:
    """What the evidence, with the verdict it has reached, means for the challenger; None: not enough yet.

    A verdict is about who is asked beside: of the champion, once the challenger answers.
    """
    plan, labels = rollout.plan, rollout.evidence.labels
    if rollout.stage == "shadow":
        return verdict or ("undecided" if labels >= plan.most_labels else None)
    if verdict == "better":
        return "worse"
    if rollout.stage == "canary":
        return "no_worse" if labels >= plan.canary_labels else None
    if verdict == "worse":
        return "better"
    return "no_worse" if labels >= plan.guard_labels else None


def settle(rollout: Rollout, found: Ruling, at_ms: int, by: str) -> Turn:
    """What comes of a ruling."""
    if rollout.stage == "shadow" and found == "better":
        if rollout.plan.approval and not rollout.approved_by:
            return _change(rollout, awaits=True), []
        return _onward(rollout, found, at_ms, by)
    if rollout.stage == "shadow" or found == "worse":
        return _lost(rollout, found, at_ms, by)
    if rollout.stage == "canary":
        return _onward(rollout, found, at_ms, by)
    return _pass(rollout, "kept", found, at_ms, by), [("retire", rollout.champion.model)]


def approve(rollout: Rollout, at_ms: int, by: str) -> Turn:
    """A second person agrees."""
    _open(rollout)
    if by == rollout.proposed_by:
        raise Conflict(f"{by} proposed it: a second person has to approve")
    approved = _change(rollout, approved_by=by, awaits=False)
    return settle(approved, "better", at_ms, by) if rollout.awaits else (approved, [])


def promote(rollout: Rollout, at_ms: int, by: str) -> Turn:
    """A person makes it the champion now, whatever the labels say yet."""
    _open(rollout)
    if rollout.stage == "guard":
        raise Conflict(f"{rollout.challenger} is the champion already")
    if rollout.plan.approval and not rollout.approved_by:
        raise Conflict("a second person has to approve first")
    return _crowned(rollout, "", at_ms, by)


def roll_back(rollout: Rollout, at_ms: int, by: str) -> Turn:
    """A person brings the old champion back."""
    if rollout.stage != "guard":
        raise Conflict(f"{rollout.challenger} is not under guard: there is nothing to roll back")
    return _lost(rollout, "", at_ms, by)


def abort(rollout: Rollout, at_ms: int, by: str) -> Turn:
    """A person ends it. A shadow or canary leaves; a champion under guard stays, its guard leaves."""
    _open(rollout)
    leaver = rollout.champion if rollout.stage == "guard" else rollout.challenger
    return _pass(rollout, "aborted", "", at_ms, by), [("retire", leaver.model)]


def hold(rollout: Rollout, held: bool) -> Rollout:
    """Stop it where it is, or let it go on; labels that come in the meantime do not count."""
    _open(rollout)
    return _change(rollout, held=held)


def _onward(rollout: Rollout, found: Ruling, at_ms: int, by: str) -> Turn:
    step = rollout.step + 1 if rollout.stage == "canary" else 0
    if step >= len(rollout.plan.canary):
        return _crowned(rollout, found, at_ms, by)
    after = _change(_pass(rollout, "canary", found, at_ms, by), step=step)
    return after, [("share", rollout.challenger.model, after.share)]


def _crowned(rollout: Rollout, found: Ruling | Literal[""], at_ms: int, by: str) -> Turn:
    moves: list[Move] = [("promote", rollout.challenger.model)]
    if rollout.plan.guard_labels:
        return _pass(rollout, "guard", found, at_ms, by), moves
    return _pass(rollout, "kept", found, at_ms, by), [*moves, ("retire", rollout.champion.model)]


def _lost(rollout: Rollout, found: Ruling | Literal[""], at_ms: int, by: str) -> Turn:
    """The challenger leaves; the old champion comes back if its place was taken already."""
    leaves: Move = ("retire", rollout.challenger.model)
    if rollout.stage == "guard":
        moves: list[Move] = [("promote", rollout.champion.model), leaves]
        return _pass(rollout, "rolled_back", found, at_ms, by), moves
    return _pass(rollout, "dropped", found, at_ms, by), [leaves]


def _pass(rollout: Rollout, stage: Stage, found: Ruling | Literal[""], at_ms: int, by: str) -> Rollout:
    passed = Passed(rollout.stage, rollout.evidence, found, at_ms, by, rollout.share)
    return _change(
        rollout, stage=stage, evidence=Evidence(), past=(*rollout.past, passed), awaits=False, held=False
    )


def _change(rollout: Rollout, **changes: object) -> Rollout:
    return msgspec.structs.replace(rollout, **changes)


def _open(rollout: Rollout) -> None:
    if not rollout.is_open:
        raise Conflict(f"this rollout is over: {rollout.stage}")
