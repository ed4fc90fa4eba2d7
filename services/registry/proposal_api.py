"""Proposals to retrain over HTTP: what was proposed, what came of it, and a person's word on what waits."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from headrace.errors import HeadraceError
from services.registry.api import ByOperator, Limit, Number, StreamName, reader, told
from services.registry.decisions import Absent, rollout_of
from services.registry.domain.forecast import Forecast
from services.registry.domain.retraining import Retraining
from services.registry.domain.rollouts import Rollout
from services.registry.domain.story import Lasted
from services.registry.proposal_views import Proposals, StoryView, shown_proposal, shown_story
from services.registry.proposals import proposal_of, proposal_version
from services.registry.proposing import Proposing
from services.registry.request import show
from services.registry.retrainings import RetrainingStore, retraining_of
from services.registry.rollouts import RolloutStore
from services.registry.route import RegistryRoute
from services.registry.tables import ProposalRow


def build_proposal_routes(
    proposing: Proposing, retrainings: RetrainingStore, rollouts: RolloutStore
) -> APIRouter:
    """All routes under `/v1/streams/{stream}/proposals`."""
    router = APIRouter(prefix="/v1/streams/{stream}/proposals", tags=["proposals"], route_class=RegistryRoute)
    store = proposing.store

    def story(stream: str, number: int) -> StoryView:
        row = store.get(stream, number)
        show(proposal_version(row))
        race = _race(row, retrainings)
        return shown_story(
            row,
            store.next(row) if row.waiting else None,
            race,
            None if race is None else _way(stream, race.it, rollouts),
            _expected(row, race, proposing),
        )

    @router.get("", dependencies=[Depends(reader)], summary="Proposals to retrain a stream, newest first")
    def list_proposals(
        stream: StreamName,
        limit: Limit = 20,
        below: Annotated[int | None, Query(ge=1, description="`next` of the page before")] = None,
    ) -> Proposals:
        with told():
            rows = store.all(stream, limit + 1, below)
        return Proposals(
            proposals=[shown_proposal(row, store.next(row) if row.waiting else None) for row in rows[:limit]],
            next=rows[limit - 1].number if len(rows) > limit else None,
        )

    @router.get("/{number}", dependencies=[Depends(reader)], summary="Show a proposal, and what came of it")
    def show_proposal(stream: StreamName, number: Number) -> StoryView:
        with told():
            return story(stream, number)

    @router.post("/{number}/approve", summary="Let its retraining begin now")
    def approve(stream: StreamName, number: Number, by: ByOperator) -> StoryView:
        with told():
            proposing.approve(stream, number, by)
            return story(stream, number)

    @router.post("/{number}/dismiss", summary="Let nothing come of it")
    def dismiss(stream: StreamName, number: Number, by: ByOperator) -> StoryView:
        with told():
            store.dismiss(stream, number, by)
            return story(stream, number)

    return router


def _race(row: ProposalRow, retrainings: RetrainingStore) -> Lasted[Retraining] | None:
    number = proposal_of(row).retraining
    if number is None:
        return None
    found = retrainings.get(row.stream, number)
    return Lasted(retraining_of(found), found.created_ms, found.changed_ms)


def _way(stream: str, race: Retraining, rollouts: RolloutStore) -> tuple[int, Lasted[Rollout]] | None:
    if race.rollout is None:
        return None
    found = rollouts.get(stream, race.rollout)
    return found.number, Lasted(rollout_of(found), found.created_ms, found.changed_ms)


def _expected(row: ProposalRow, race: Lasted[Retraining] | None, proposing: Proposing) -> Forecast | str:
    """What was said when it began; of one that waits, what can be said now."""
    if race is not None:
        return race.it.forecast or "it began before forecasts were made"
    if not row.waiting:
        return "nothing came of it"
    try:
        return proposing.expected(row)
    except (HeadraceError, Absent) as reason:
        return f"it cannot be told: {reason}"
