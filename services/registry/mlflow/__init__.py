"""The registry as MLflow's clients know one: `/api/2.0/mlflow`, a subset (docs/fits-in.md).

An adapter and nothing more: it reads what the registry holds, in MLflow's words. What MLflow lets people do to a model
and Headrace does otherwise (a version from an artifact, an alias by hand, a stage) is refused, and the refusal says how
it is done here. One module for each kind of thing that MLflow knows: `registered_models`, `model_versions`, `runs` (the
trials of retrainings, and the experiments that they are of); `forms` has what they share.
"""

from fastapi import APIRouter, Depends

from services.registry.api import reader
from services.registry.dialects import refused
from services.registry.mlflow.forms import PREFIX, ROUTE, Showing
from services.registry.mlflow.model_versions import add_version_routes
from services.registry.mlflow.registered_models import add_model_routes
from services.registry.mlflow.runs import add_experiment_routes, add_run_routes
from services.registry.registry import Registry
from services.registry.retrainings import RetrainingStore

METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"]


def build_mlflow_routes(registry: Registry, retrainings: RetrainingStore) -> APIRouter:
    """All routes under `/api/2.0/mlflow`."""
    router = APIRouter(prefix=PREFIX, route_class=ROUTE, tags=["mlflow"])
    showing = Showing(registry)
    add_model_routes(router, registry, showing)
    add_version_routes(router, registry, showing)
    add_experiment_routes(router, registry)
    add_run_routes(router, retrainings)

    @router.api_route(
        "/{rest:path}", methods=METHODS, include_in_schema=False, dependencies=[Depends(reader)]
    )
    def elsewhere(rest: str) -> None:
        raise refused(
            404,
            "ENDPOINT_NOT_FOUND",
            f"Headrace's registry does not answer {PREFIX}/{rest}: it has registered models, their versions, "
            "and retrainings as experiments; no artifacts.",
        )

    return router
