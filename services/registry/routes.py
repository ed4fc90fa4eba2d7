"""All routes of the registry, in one place."""

from fastapi import APIRouter

from services.registry.api import build_routes
from services.registry.asking import Asking
from services.registry.audit_api import build_audit_routes
from services.registry.catalog import Catalog
from services.registry.contract_api import build_contract_routes
from services.registry.dataset_api import build_dataset_routes
from services.registry.mlflow import build_mlflow_routes
from services.registry.past_api import build_past_routes
from services.registry.payoff_api import build_payoff_routes
from services.registry.proposal_api import build_proposal_routes
from services.registry.proposing import Proposing
from services.registry.registry import Registry
from services.registry.retraining_api import build_retraining_routes
from services.registry.rollout_api import build_rollout_routes
from services.registry.schemas_api import build_schema_routes


def all_routes(registry: Registry, asking: Asking, proposing: Proposing, catalog: Catalog) -> list[APIRouter]:
    """What the service answers; the app needs `app.state.answers` for them (`route.RegistryRoute`)."""
    return [
        build_routes(registry),
        build_rollout_routes(registry),
        build_past_routes(registry, catalog),
        build_contract_routes(registry),
        build_dataset_routes(catalog),
        build_audit_routes(registry),
        build_retraining_routes(asking),
        build_proposal_routes(proposing, asking.store, registry.rollouts),
        build_payoff_routes(registry),
        build_mlflow_routes(registry, asking.store),
        build_schema_routes(registry),
    ]
