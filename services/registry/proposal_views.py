"""What the routes of proposals answer; parts of the registry's OpenAPI document."""

from typing import Any

from pydantic import BaseModel

from services.registry.domain import story as stories
from services.registry.domain.forecast import Forecast
from services.registry.domain.proposals import Begin, PassOver, Status, Step, Wait
from services.registry.domain.retraining import Retraining
from services.registry.domain.rollouts import Rollout
from services.registry.domain.story import Lasted, Outcome
from services.registry.proposals import EVENT, proposal_of
from services.registry.retraining_views import (
    ForecastView,
    WorthView,
    shown_forecast,
    shown_worth,
)
from services.registry.tables import ProposalRow
from services.registry.training import TRAINER
from services.registry.views import rfc3339


class ProposalView(BaseModel):
    """A proposal to retrain. event: its id; drift: of what has moved; subject, before, after: what, and by how much.

    at: event time, ms. waits_for: `policy`, `approval` (a person), `turn`, `cool_down`, or `a moment`; "": for nothing.
    until: when that ends by itself, if that is known. by, says: who ended its wait, and why.
    """

    stream: str
    proposal: int
    status: Status
    waits_for: str
    until: str | None
    by: str
    says: str
    event: str
    drift: str
    cause: str
    model: str
    version: int
    subject: str
    before: float | None
    after: float | None
    since: dict[str, int]
    at: int
    retraining: int | None
    created_at: str
    changed_at: str


class Proposals(BaseModel):
    """A page of proposals, newest first. next: give it as `below` for the next page; None on the last."""

    proposals: list[ProposalView]
    next: int | None


class RaceView(BaseModel):
    """The retraining that answers a proposal. gain: how much less than the champion the winner lost an event."""

    retraining: int
    status: str
    says: str
    trials: int
    model: str
    version: int | None
    gain: float | None
    cpu_seconds: float
    cost: float | None
    worth: WorthView | None


class WayView(BaseModel):
    """The rollout of its winner. ruling: that ended the last stage. labels: that count in the present one, of most."""

    rollout: int
    stage: str
    open: bool
    ruling: str
    labels: int
    most_labels: int | None
    approved_by: str
    awaits_approval: bool


class StepView(BaseModel):
    """A step: when, what, who took it (empty: the text says so), and why."""

    at: str
    what: str
    by: str
    says: str


class StoryView(ProposalView):
    """A proposal with what came of it. expected: what a retraining would take and may gain, or what was said of it.

    untold: why nothing can be said of that. outcome: how far it is, or how it ended.
    """

    outcome: Outcome
    expected: ForecastView | None
    untold: str
    race: RaceView | None
    rollout: WayView | None
    steps: list[StepView]


def shown_proposal(row: ProposalRow, next_step: Step | None) -> ProposalView:
    """A proposal as it is answered; next_step: of one that waits."""
    return ProposalView(**_shown(row, next_step))


def _shown(row: ProposalRow, next_step: Step | None) -> dict[str, Any]:
    proposal = proposal_of(row)
    event, waits_for, says = proposal.event, "", proposal.says
    until: int | None = None
    match next_step:
        case Wait():
            waits_for, says, until = next_step.awaited, next_step.says, next_step.until_ms
        case Begin() | PassOver():
            waits_for = "a moment"
    return {
        "stream": row.stream,
        "proposal": row.number,
        "status": proposal.status,
        "waits_for": waits_for,
        "until": None if until is None else rfc3339(until),
        "by": proposal.by,
        "says": says,
        "event": event.id,
        "drift": event.drift,
        "cause": event.cause,
        "model": event.model,
        "version": event.version,
        "subject": event.subject,
        "before": event.before,
        "after": event.after,
        "since": {str(part): offset for part, offset in sorted(event.since.items())},
        "at": event.at,
        "retraining": proposal.retraining,
        "created_at": rfc3339(row.created_ms),
        "changed_at": rfc3339(row.changed_ms),
    }


def shown_story(
    row: ProposalRow,
    next_step: Step | None,
    retraining: Lasted[Retraining] | None,
    rollout: tuple[int, Lasted[Rollout]] | None,
    expected: Forecast | str,
) -> StoryView:
    """A proposal with all that came of it. expected: a text says why nothing can be told."""
    proposal = Lasted(proposal_of(row), row.created_ms, row.changed_ms)
    way = None if rollout is None else rollout[1]
    steps = stories.story(proposal, retraining, way, proposed_by=EVENT, trained_by=TRAINER)
    return StoryView(
        **_shown(row, next_step),
        outcome=stories.outcome(
            proposal.it, None if retraining is None else retraining.it, None if way is None else way.it
        ),
        expected=None if isinstance(expected, str) else shown_forecast(expected),
        untold=expected if isinstance(expected, str) else "",
        race=None if retraining is None else _race(proposal.it.retraining or 0, retraining.it),
        rollout=None if rollout is None else _way(rollout[0], rollout[1].it),
        steps=[StepView(at=rfc3339(one.at_ms), what=one.what, by=one.by, says=one.says) for one in steps],
    )


def _race(number: int, known: Retraining) -> RaceView:
    cpu_seconds = sum(trial.cpu_seconds for trial in known.race.trials)
    return RaceView(
        retraining=number,
        status=known.status,
        says=known.says,
        trials=len(known.race.trials),
        model=known.model,
        version=known.version,
        gain=known.gain,
        cpu_seconds=cpu_seconds,
        cost=None if known.forecast is None else known.forecast.cost(cpu_seconds),
        worth=None if known.worth is None else shown_worth(known.worth, known.horizon_decisions),
    )


def _way(number: int, known: Rollout) -> WayView:
    plan = known.plan
    most = {"shadow": plan.most_labels, "canary": plan.canary_labels, "guard": plan.guard_labels}
    return WayView(
        rollout=number,
        stage=known.stage,
        open=known.is_open,
        ruling=known.past[-1].ruling if known.past else "",
        labels=known.evidence.labels,
        most_labels=most.get(known.stage),
        approved_by=known.approved_by,
        awaits_approval=known.awaits,
    )
