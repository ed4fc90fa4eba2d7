"""A retraining: a race between specifications over a stream's log, and what becomes of its winner.

It is the record of an experiment, too: what was searched, with which seed, on which offsets, in which environment, the
curve of every trial, what it took, and what came of it.
"""

from typing import Any, Literal

import msgspec

from headrace.contracts.payoff import Counts
from headrace.errors import Unusable
from services.registry.domain.forecast import Forecast, Gain
from services.registry.domain.lifecycle import LONGEST_NAME
from services.registry.domain.race import Limits, Race, Trial
from services.registry.domain.rollouts import Contender, Plan
from services.registry.domain.search import Search

Status = Literal["racing", "handing_over", "done", "cancelled"]
ENDS: tuple[Status, ...] = ("done", "cancelled")

LEAST_SECONDS = 60
"""Between two retrainings by the clock."""
EXPIRES_SECONDS = 7 * 86_400
"""For which a proposal waits for a person, unless a policy says otherwise."""
ROUNDING = 1e-9
"""A gain of less than this part of the loss is none: the same losses, summed in another order."""
ANEW = "-anew"
"""Ends the name of a challenger that came out of a retraining, where the champion's own name is taken by itself."""


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person, a clock or an event asks for.

    model: the winner's name; "": one beside the champion's. start: first offset that is learnt, by partition; left out,
    the log's first. last: instead, about so many of the newest records, in all. plan: of the winner's rollout; None: it
    is only registered. whatever: also if it lost more than the champion.
    horizon_decisions: over which its gain is told.
    """

    search: Search
    model: str = ""
    start: dict[int, int] = {}
    last: int | None = None
    plan: Plan | None = None
    whatever: bool = False
    eta: int = 3
    limits: Limits = Limits()
    horizon_decisions: int = 100_000


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a stream is retrained by itself. every_seconds: by the clock; 0: not. on_events: when one is proposed.

    cool_down_seconds: so long after a retraining began, no event begins another. approval: what an event proposes waits
    until a person lets it begin. expires_seconds: so long it waits for that.
    """

    ask: Ask
    every_seconds: int = 0
    on_events: bool = False
    cool_down_seconds: int = 3_600
    approval: bool = False
    expires_seconds: int = EXPIRES_SECONDS


class Served(msgspec.Struct, frozen=True):
    """What the champion's answers lost, as they were served, on the labels that decided the race."""

    labels: int
    loss: float
    counts: Counts = Counts()

    @property
    def mean(self) -> float | None:
        """Loss an event; None if no label came."""
        return self.loss / self.labels if self.labels else None


class Retraining(msgspec.Struct, frozen=True):
    """What is known of a retraining.

    model: the name under which the winner is registered. champion: who stood when it began. plan: of the winner's
    rollout; None: it is registered only. whatever: the winner is taken further even if it lost more than the champion.
    cause: what asked for it. forecast: what it was to take; None: it is older than forecasts. worth: what an answer of
    the champion and of the winner was worth; None: not known, or nobody said what answers are worth. says: what came of
    it, in words. version, rollout: of the winner. proposal, drift: the number of what asked for it, and
    the id of what had moved; None and "": it was no event.
    """

    model: str
    champion: Contender
    search: Search
    race: Race
    plan: Plan | None
    whatever: bool
    cause: str
    asked_by: str
    environment: dict[str, Any]
    status: Status = "racing"
    says: str = ""
    served: Served | None = None
    version: int | None = None
    rollout: int | None = None
    forecast: Forecast | None = None
    worth: Gain | None = None
    horizon_decisions: int = 100_000
    proposal: int | None = None
    drift: str = ""

    @property
    def is_open(self) -> bool:
        """Whether anything is still to be done."""
        return self.status not in ENDS

    @property
    def gain(self) -> float | None:
        """How much less than the champion the winner lost an event; None if one of the two is not known."""
        winner = self.race.winner
        served = None if self.served is None else self.served.mean
        return None if winner is None or served is None else served - last_loss(winner)


def challenger_name(champion: str) -> str:
    """A name for the winner other than the champion's: of the pair NAME and NAME-anew the one that it has not.

    So the versions of a model that is retrained again and again stay under two names.
    """
    if champion.endswith(ANEW):
        return champion.removesuffix(ANEW)
    return champion[: LONGEST_NAME - len(ANEW)] + ANEW


def origin(stream: str, number: int, retraining: Retraining) -> str:
    """Where a winner comes from, for its lineage."""
    asked = "" if retraining.proposal is None else f", for proposal {retraining.proposal}"
    drift = f" (drift {retraining.drift})" if retraining.drift else ""
    return f"retraining {number} of {stream}{asked}{drift}"


def last_loss(trial: Trial) -> float:
    """What a trial lost on average between the last two rungs that it reached."""
    return trial.loss(len(trial.steps) - 1)


def raced(retraining: Retraining, race: Race) -> Retraining:
    """After a step of the race; once it is over, the winner is handed over next."""
    after = msgspec.structs.replace(retraining, race=race)
    if not race.is_over:
        return after
    if race.winner is None:
        return ended(after, "every trial was stopped: see why beside each")
    return msgspec.structs.replace(after, status="handing_over")


def ended(retraining: Retraining, says: str, **known: Any) -> Retraining:
    """At its end."""
    return msgspec.structs.replace(retraining, status="done", says=says, **known)


def cancelled(retraining: Retraining, by: str) -> Retraining:
    """Given up by a person."""
    return msgspec.structs.replace(retraining, status="cancelled", says=f"cancelled by {by}")


def worth_it(retraining: Retraining) -> bool:
    """Whether the winner is to be taken further: it lost less than the champion did, or nobody can tell."""
    gain, served = retraining.gain, retraining.served
    if retraining.whatever or gain is None or served is None or served.mean is None:
        return True
    return gain > ROUNDING * served.mean


def check_policy(policy: Policy) -> Policy:
    """Return a policy that can be kept, else raise `Unusable`."""
    if policy.every_seconds and policy.every_seconds < LEAST_SECONDS:
        raise Unusable(f"at least {LEAST_SECONDS} s, or 0 for not at all", where="every_seconds")
    if not 0 <= policy.cool_down_seconds <= 10**9:
        raise Unusable("0 or more", where="cool_down_seconds")
    if not 1 <= policy.expires_seconds <= 10**9:
        raise Unusable("1 or more", where="expires_seconds")
    check_horizon(policy.ask.horizon_decisions)
    if policy.ask.start:
        raise Unusable("offsets are past by then: give `last`, or nothing", where="ask.start")
    return policy


def check_horizon(horizon_decisions: int) -> int:
    """Return a horizon over which a gain can be told, else raise `Unusable`."""
    if not 1 <= horizon_decisions <= 10**12:
        raise Unusable("1 to 1,000,000,000,000 decisions", where="horizon_decisions")
    return horizon_decisions
