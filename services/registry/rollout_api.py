"""Rollouts over HTTP: begin one, look at it, and everything a person may do to it."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Body, Depends, Query

from services.registry import views
from services.registry.api import ByOperator, Limit, Number, StreamName, reader, told
from services.registry.decisions import rollout_of, rollout_version
from services.registry.domain import rollouts as rules
from services.registry.domain.evidence import Evidence
from services.registry.domain.rollouts import Plan, Rollout, Turn
from services.registry.registry import Registry
from services.registry.request import show
from services.registry.route import RegistryRoute
from services.registry.tables import RolloutRow

Action = Literal["promote", "roll-back", "abort", "approve", "hold", "resume"]


def build_rollout_routes(registry: Registry) -> APIRouter:
    """All routes under `/v1/streams/{stream}/rollouts`."""
    router = APIRouter(prefix="/v1/streams/{stream}/rollouts", tags=["rollouts"], route_class=RegistryRoute)

    @router.post("", status_code=201, summary="Begin to roll a model version out")
    def begin(
        stream: StreamName,
        request: Annotated[views.RolloutRequest, Body()],
        by: ByOperator,
    ) -> views.RolloutView:
        plan = msgspec.convert(request.plan.model_dump(), Plan)
        with told():
            if request.payoff is not None:  # refused before anything is decided
                registry.read_payoff(stream, request.payoff)
            number = registry.begin(stream, request.model, request.version, plan, by, learnt=request.learnt)
            if request.payoff is not None:
                registry.set_payoff(stream, request.model, request.payoff, by)
            return _shown(registry.rollouts.get(stream, number))

    @router.get("", dependencies=[Depends(reader)], summary="Rollouts of a stream, newest first")
    def list_rollouts(
        stream: StreamName,
        limit: Limit = 20,
        below: Annotated[int | None, Query(ge=1, description="`next` of the page before")] = None,
    ) -> views.Rollouts:
        with told():
            rows = registry.rollouts.all(stream, limit + 1, below)
        return views.Rollouts(
            rollouts=[shown_rollout(row) for row in rows[:limit]],
            next=rows[limit - 1].number if len(rows) > limit else None,
        )

    @router.get("/{number}", dependencies=[Depends(reader)], summary="Show a rollout")
    def show_rollout(stream: StreamName, number: Number) -> views.RolloutView:
        with told():
            return _shown(registry.rollouts.get(stream, number))

    def add(action: Action, turn: Callable[[Rollout, int, str], Turn], summary: str) -> None:
        @router.post(f"/{{number}}/{action}", summary=summary, name=f"{action} a rollout")
        def act(stream: StreamName, number: Number, by: ByOperator) -> views.RolloutView:
            with told():
                registry.turn(
                    stream,
                    number,
                    lambda rollout, now: turn(rollout, now, by.name),
                    by,
                    action=f"rollout-{action}",
                )
                return _shown(registry.rollouts.get(stream, number))

    add("promote", rules.promote, "Make the challenger the champion now")
    add("roll-back", rules.roll_back, "Bring the old champion back")
    add("abort", rules.abort, "End it: a shadow or canary leaves, a new champion stays without its guard")
    add("approve", rules.approve, "Agree, as a second person")
    add("hold", partial(_held, True), "Stop it where it is; labels do not count meanwhile")
    add("resume", partial(_held, False), "Let it go on")
    return router


def _held(held: bool, rollout: Rollout, _now_ms: int, _by: str) -> Turn:
    return rules.hold(rollout, held), []


def _shown(row: RolloutRow) -> views.RolloutView:
    show(rollout_version(row))
    return shown_rollout(row)


def shown_rollout(row: RolloutRow) -> views.RolloutView:
    """A rollout as it is answered."""
    rollout = rollout_of(row)
    plan = rollout.plan
    better, worse = plan.error_rate, plan.harm_rate
    if rollout.stage != "shadow":
        better, worse = worse, better
    return views.RolloutView(
        stream=row.stream,
        rollout=row.number,
        revision=row.revision,
        challenger=str(rollout.challenger),
        champion=str(rollout.champion),
        stage=rollout.stage,
        share=rollout.share,
        open=row.open,
        held=rollout.held,
        awaits_approval=rollout.awaits,
        proposed_by=rollout.proposed_by,
        approved_by=rollout.approved_by,
        warmed=rollout.warmed,
        plan=views.PlanRequest(**msgspec.to_builtins(plan) | {"canary": list(plan.canary)}),
        evidence=_evidence(rollout.evidence),
        decides_at={"better": 1 / better, "worse": 1 / worse},
        past=[
            views.PassedStage(
                stage=passed.stage,
                share=passed.share,
                evidence=_evidence(passed.evidence),
                ruling=passed.ruling,
                ended_at=views.rfc3339(passed.at_ms),
                decided_by=passed.by,
            )
            for passed in rollout.past
        ],
        created_at=views.rfc3339(row.created_ms),
        changed_at=views.rfc3339(row.changed_ms),
    )


def _evidence(evidence: Evidence) -> views.EvidenceView:
    return views.EvidenceView(
        labels=evidence.labels,
        mean_difference=evidence.mean,
        standard_error=evidence.deviation / max(evidence.labels, 1) ** 0.5,
        better=evidence.for_better,
        worse=evidence.for_worse,
    )
