"""What the routes of retrainings take and answer; parts of the registry's OpenAPI document."""

from typing import Any, Literal

import msgspec
from pydantic import BaseModel, Field

from services.registry.domain import race as races
from services.registry.domain.forecast import Forecast, Gain
from services.registry.domain.race import Trial
from services.registry.domain.retraining import EXPIRES_SECONDS, Policy
from services.registry.domain.search import Search
from services.registry.retrainings import retraining_of
from services.registry.tables import RetrainingRow
from services.registry.views import PlanRequest, Strict, rfc3339

_LIMITS = races.Limits()
_SEARCH = Search()


class SearchRequest(Strict):
    """What is tried; see docs/retraining.md."""

    candidates: list[dict[str, Any]] = Field(default=[], description="Specifications, tried as they are")
    space: dict[str, Any] | None = Field(None, description="A specification with choices, drawn from")
    trials: int = Field(_SEARCH.trials, description="How many are tried in all")
    seed: int = Field(_SEARCH.seed, description="Of the draws")


class LimitsRequest(Strict):
    """What each trial may take, over all its rungs."""

    cpu_seconds: float = _LIMITS.cpu_seconds
    wall_seconds: float = _LIMITS.wall_seconds
    memory_mb: int = _LIMITS.memory_mb


class RetrainingRequest(Strict):
    """What is to be retrained, and what becomes of the winner. start, last: where in the log learning begins."""

    search: SearchRequest
    model: str = Field(
        "", max_length=63, description="The winner's name; left out, one beside the champion's"
    )
    start: dict[str, int] = Field(default={}, description="First offset that is learnt, by partition")
    last: int | None = Field(None, ge=1, description="Learn about so many of the newest records, not all")
    plan: PlanRequest | None = Field(PlanRequest(warm_up_labels=0), description="Its rollout; null: none")
    whatever: bool = Field(False, description="Take it further even if it lost more than the champion")
    eta: int = Field(3, description="One in so many goes on at each rung")
    limits: LimitsRequest = LimitsRequest()
    horizon_decisions: int = Field(100_000, description="Over so many decisions the winner's gain is told")


class PolicyRequest(Strict):
    """When a stream is retrained by itself, and how."""

    ask: RetrainingRequest
    every_seconds: int = Field(0, ge=0, description="By the clock; 0: not")
    on_events: bool = Field(False, description="When an event on headrace.retrains proposes it")
    cool_down_seconds: int = Field(3_600, description="So long after one began, no event begins another")
    approval: bool = Field(False, description="What an event proposes waits until a person approves it")
    expires_seconds: int = Field(EXPIRES_SECONDS, ge=1, description="So long it waits for a person")


class RungView(BaseModel):
    """What a trial came to at a rung. loss: on the labels since the rung before; metrics: since the beginning."""

    labels: int
    loss: float | None
    metrics: dict[str, Any]
    cpu_seconds: float
    wall_seconds: float
    memory_mb: float
    fingerprint: str


class TrialView(BaseModel):
    """A specification in the race. progress: (offsets folded, of how many) of the step under way."""

    trial: int
    reference: bool
    state: str
    why: str
    digest: str
    specification: dict[str, Any]
    rungs: list[RungView]
    progress: tuple[int, int] | None


class ForecastView(BaseModel):
    """What a retraining was expected to take when it began; null: not known. cost: at the price of then.

    lost: what the change that asked for it costs an event, in the measure of lost_of.
    """

    cpu_seconds: float | None
    cost: float | None
    most_cpu_seconds: float
    most_cost: float
    basis: str
    currency: str
    lost: float | None
    lost_of: str


class WorthView(BaseModel):
    """What an answer was worth on the labels that decided: the champion's, the winner's; gain: over the horizon."""

    champion: float
    winner: float
    horizon_decisions: int
    gain: float


class RetrainingView(BaseModel):
    """A retraining. gain: how much less than the champion the winner lost an event, on the labels that decided.

    forecast: what was said of its cost beforehand; null: it is older than forecasts. cost: of the time that it took.
    worth: null before the race is over, and if nobody has said what answers are worth.
    """

    stream: str
    retraining: int
    status: Literal["racing", "handing_over", "done", "cancelled"]
    says: str
    model: str
    champion: str
    cause: str
    asked_by: str
    proposal: int | None
    search: dict[str, Any]
    spans: dict[str, tuple[int, int]]
    rungs: list[float]
    rung: int
    limits: dict[str, Any]
    plan: dict[str, Any] | None
    trials: list[TrialView]
    winner: int | None
    served: dict[str, Any] | None
    gain: float | None
    cpu_seconds: float
    forecast: ForecastView | None
    cost: float | None
    worth: WorthView | None
    horizon_decisions: int
    version: int | None
    rollout: int | None
    environment: dict[str, Any]
    created_at: str
    changed_at: str


class Retrainings(BaseModel):
    """A page of retrainings, newest first. next: give it as `below` for the next page; None on the last."""

    retrainings: list[RetrainingView]
    next: int | None


def shown(row: RetrainingRow) -> RetrainingView:
    """A retraining as it is answered."""
    known = retraining_of(row)
    race = known.race
    cpu_seconds = sum(trial.cpu_seconds for trial in race.trials)
    return RetrainingView(
        stream=row.stream,
        retraining=row.number,
        status=known.status,
        says=known.says,
        model=known.model,
        champion=str(known.champion),
        cause=known.cause,
        asked_by=known.asked_by,
        proposal=known.proposal,
        search=row.state["search"],
        spans=race.spans,
        rungs=list(race.rungs),
        rung=race.rung,
        limits=row.state["race"]["limits"],
        plan=row.state["plan"],
        trials=[_trial(trial, row.progress.get(str(trial.number))) for trial in race.trials],
        winner=None if race.winner is None else race.winner.number,
        served=None
        if known.served is None or known.served.mean is None
        else {"labels": known.served.labels, "loss": known.served.mean},
        gain=known.gain,
        cpu_seconds=cpu_seconds,
        forecast=None if known.forecast is None else shown_forecast(known.forecast),
        cost=None if known.forecast is None else known.forecast.cost(cpu_seconds),
        worth=None if known.worth is None else shown_worth(known.worth, known.horizon_decisions),
        horizon_decisions=known.horizon_decisions,
        version=known.version,
        rollout=known.rollout,
        environment=known.environment,
        created_at=rfc3339(row.created_ms),
        changed_at=rfc3339(row.changed_ms),
    )


def shown_forecast(said: Forecast) -> ForecastView:
    """What was said beforehand, as it is answered."""
    return ForecastView(
        cpu_seconds=said.cpu_seconds,
        cost=said.cost(said.cpu_seconds),
        most_cpu_seconds=said.most_cpu_seconds,
        most_cost=said.cost(said.most_cpu_seconds) or 0.0,
        basis=said.basis,
        currency=said.price.currency,
        lost=said.lost,
        lost_of=said.lost_of,
    )


def shown_worth(gain: Gain, horizon_decisions: int) -> WorthView:
    """What answers were worth, as it is answered."""
    return WorthView(
        champion=gain.champion,
        winner=gain.winner,
        horizon_decisions=horizon_decisions,
        gain=gain.over(horizon_decisions),
    )


def _trial(trial: Trial, progress: tuple[int, int] | None) -> TrialView:
    rungs = [
        RungView(
            labels=step.labels,
            loss=None if trial.loss(number) == float("inf") else trial.loss(number),
            metrics=step.metrics,
            cpu_seconds=step.cpu_seconds,
            wall_seconds=step.wall_seconds,
            memory_mb=step.memory_mb,
            fingerprint=step.fingerprint,
        )
        for number, step in enumerate(trial.steps)
    ]
    return TrialView(
        trial=trial.number,
        reference=trial.reference,
        state=trial.state,
        why=trial.why,
        digest=trial.digest,
        specification=trial.specification,
        rungs=rungs,
        progress=progress if trial.state == "racing" else None,
    )


def shown_policy(policy: Policy) -> PolicyRequest:
    """A policy as it is answered."""
    plain = msgspec.to_builtins(policy, str_keys=True)
    return PolicyRequest.model_validate(plain, strict=False)
