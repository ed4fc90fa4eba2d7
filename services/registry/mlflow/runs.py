"""`experiments` and `runs`: each stream's retrainings are an experiment, each of their trials is a run.

A run is read, never written: what it says was found by the registry's own trainer. Ids are `STREAM-RETRAINING-TRIAL`.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel

from services.registry.api import told
from services.registry.dialects import refused
from services.registry.domain.race import State, Trial
from services.registry.domain.retraining import Retraining
from services.registry.mlflow.forms import MOST_RESULTS, Reader, Tag, add_refusal
from services.registry.registry import Registry
from services.registry.retrainings import RetrainingStore, retraining_of
from services.registry.tables import RetrainingRow, StreamRow

EXPERIMENT = ".retrainings"
"""Ends an experiment's name, behind the stream's."""
LONGEST_PARAMETER = 6_000
READ_ONLY = (
    "Runs are the trials of retrainings, and made by them alone: `headrace retrain start STREAM SEARCH.yaml`."
)
REFUSED = [
    ("POST", path)
    for path in (
        "experiments/create", "experiments/update", "experiments/delete", "experiments/set-experiment-tag",
        "runs/create", "runs/update", "runs/delete", "runs/log-metric", "runs/log-parameter", "runs/log-batch",
        "runs/set-tag", "runs/delete-tag",
    )
]  # fmt: skip
STATUS: dict[State, str] = {"racing": "RUNNING", "out": "FINISHED", "won": "FINISHED", "stopped": "FAILED"}


class Experiment(BaseModel):
    """The retrainings of a stream."""

    experiment_id: str
    name: str
    artifact_location: str = ""
    lifecycle_stage: Literal["active"] = "active"
    creation_time: int
    last_update_time: int


class ExperimentAnswer(BaseModel):
    """One experiment."""

    experiment: Experiment


class ExperimentsAnswer(BaseModel):
    """A page of experiments, by name."""

    experiments: list[Experiment]
    next_page_token: str = ""


class Metric(BaseModel):
    """What was measured at a rung. step: labels by then."""

    key: str
    value: float
    timestamp: int
    step: int


class RunInfo(BaseModel):
    """Of which experiment a run is, and how it stands."""

    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None
    lifecycle_stage: Literal["active"] = "active"
    artifact_uri: str = ""


class RunData(BaseModel):
    """What went in and what came out. metrics: the last of each."""

    metrics: list[Metric]
    params: list[Tag]
    tags: list[Tag]


class Run(BaseModel):
    """A trial."""

    info: RunInfo
    data: RunData


class RunAnswer(BaseModel):
    """One run."""

    run: Run


class RunsAnswer(BaseModel):
    """A page of runs: newest retraining first, its trials in order."""

    runs: list[Run]
    next_page_token: str = ""


class MetricsAnswer(BaseModel):
    """A metric's history."""

    metrics: list[Metric]


class ExperimentSearch(BaseModel):
    """Which experiments: all of them, a page at a time. view_type: there are active ones only."""

    max_results: int = MOST_RESULTS
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: str = ""


class RunSearch(BaseModel):
    """Which runs: all of some experiments, a page at a time. run_view_type: there are active ones only."""

    experiment_ids: list[str] = []
    max_results: int = MOST_RESULTS
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    run_view_type: str = ""


def add_experiment_routes(router: APIRouter, registry: Registry) -> None:
    """Routes under `/experiments`."""

    @router.get("/experiments/get-by-name", summary="A stream's retrainings, by the experiment's name")
    def by_name(experiment_name: Annotated[str, Query(max_length=80)], _: Reader) -> ExperimentAnswer:
        with told():
            row = registry.store.stream(experiment_name.removesuffix(EXPERIMENT))
        return ExperimentAnswer(experiment=_experiment(row))

    @router.get("/experiments/get", summary="A stream's retrainings, as an experiment")
    def by_id(experiment_id: Annotated[str, Query(max_length=63)], _: Reader) -> ExperimentAnswer:
        with told():
            return ExperimentAnswer(experiment=_experiment(registry.store.stream(experiment_id)))

    @router.post("/experiments/search", summary="All experiments, by name")
    def search_experiments(request: Annotated[ExperimentSearch, Body()], _: Reader) -> ExperimentsAnswer:
        _plain(request.filter, request.order_by)
        limit = min(max(request.max_results, 1), MOST_RESULTS)
        rows = registry.store.streams(limit + 1, request.page_token)
        return ExperimentsAnswer(
            experiments=[_experiment(row) for row in rows[:limit]],
            next_page_token=rows[limit - 1].name if len(rows) > limit else "",
        )


def add_run_routes(router: APIRouter, retrainings: RetrainingStore) -> None:
    """Routes under `/runs` and `/metrics`, and all that would write."""

    def found(run_id: str) -> tuple[RetrainingRow, Retraining, Trial]:
        stream, number, trial = _parts(run_id)
        with told():
            row = retrainings.get(stream, number)
        known = retraining_of(row)
        trials = known.race.trials
        if trial >= len(trials):
            raise refused(
                404, "RESOURCE_DOES_NOT_EXIST", f"Retraining {number} of {stream} has no trial {trial}."
            )
        return row, known, trials[trial]

    @router.get("/runs/get", summary="A trial of a retraining")
    def get_run(run_id: Annotated[str, Query(max_length=120)], _: Reader) -> RunAnswer:
        return RunAnswer(run=_run(*found(run_id)))

    @router.post("/runs/search", summary="Trials of a stream's retrainings, newest retraining first")
    def search_runs(request: Annotated[RunSearch, Body()], _: Reader) -> RunsAnswer:
        _plain(request.filter, request.order_by)
        limit = min(max(request.max_results, 1), MOST_RESULTS)
        runs: list[Run] = []
        if len(request.experiment_ids) != 1:
            raise refused(400, "INVALID_PARAMETER_VALUE", "Give one experiment: the stream's name.")
        stream, below, first = request.experiment_ids[0], None, 0
        if request.page_token:
            place = _parts(request.page_token)
            below, first = place[1] + 1, place[2]
        with told():
            rows = retrainings.all(stream, limit + 1, below)
        for row in rows:
            known = retraining_of(row)
            for trial in known.race.trials[first:]:
                run = _run(row, known, trial)
                if len(runs) == limit:
                    return RunsAnswer(runs=runs, next_page_token=run.info.run_id)
                runs.append(run)
            first = 0
        return RunsAnswer(runs=runs)

    @router.get("/metrics/get-history", summary="A metric of a trial, rung by rung")
    def history(
        run_id: Annotated[str, Query(max_length=120)],
        metric_key: Annotated[str, Query(max_length=250)],
        _: Reader,
    ) -> MetricsAnswer:
        row, _known, trial = found(run_id)
        measured = [_metrics(row, trial, rung) for rung in range(len(trial.steps))]
        return MetricsAnswer(metrics=[one for some in measured for one in some if one.key == metric_key])

    for method, path in REFUSED:
        add_refusal(router, method, f"/{path}", READ_ONLY)


def _plain(words: str, order_by: list[str]) -> None:
    if words or order_by:
        raise refused(
            400, "INVALID_PARAMETER_VALUE", "Neither filter nor order_by is understood here: leave them out."
        )


def _parts(run_id: str) -> tuple[str, int, int]:
    parts = run_id.rsplit("-", 2)
    if len(parts) != 3 or not all(part.isdigit() and len(part) < 10 for part in parts[1:]):
        raise refused(400, "INVALID_PARAMETER_VALUE", "A run is STREAM-RETRAINING-TRIAL.")
    return parts[0], int(parts[1]), int(parts[2])


def _experiment(row: StreamRow) -> Experiment:
    return Experiment(
        experiment_id=row.name,
        name=f"{row.name}{EXPERIMENT}",
        creation_time=row.created_ms,
        last_update_time=row.created_ms,
    )


def _run(row: RetrainingRow, known: Retraining, trial: Trial) -> Run:
    run_id = f"{row.stream}-{row.number}-{trial.number}"
    status = "KILLED" if known.status == "cancelled" and trial.state == "racing" else STATUS[trial.state]
    tags = {
        "headrace.digest": trial.digest,
        "headrace.reference": str(trial.reference).lower(),
        "headrace.state": trial.state,
        **({"headrace.why": trial.why} if trial.why else {}),
        **{f"headrace.environment.{name}": str(value) for name, value in known.environment.items()},
    }
    if trial.state == "won" and known.version is not None:
        tags["headrace.version"] = f"{known.model}@{known.version}"
    latest = _metrics(row, trial, len(trial.steps) - 1) if trial.steps else []
    return Run(
        info=RunInfo(
            run_id=run_id,
            run_uuid=run_id,
            run_name=f"retraining {row.number}, trial {trial.number}",
            experiment_id=row.stream,
            user_id=known.asked_by,
            status=status,
            start_time=row.created_ms,
            end_time=None if status == "RUNNING" else row.changed_ms,
        ),
        data=RunData(
            metrics=latest,
            params=[Tag(key=key, value=value) for key, value in _leaves("", trial.specification)],
            tags=[Tag(key=key, value=value) for key, value in tags.items()],
        ),
    )


def _metrics(row: RetrainingRow, trial: Trial, rung: int) -> list[Metric]:
    """What a trial was by a rung, infinite and unknown figures left out."""
    step = trial.steps[rung]
    figures: dict[str, Any] = {
        **step.metrics,
        "loss": trial.loss(rung),
        "cpu_seconds": sum(one.cpu_seconds for one in trial.steps[: rung + 1]),
        "memory_mb": step.memory_mb,
    }
    return [
        Metric(key=key, value=float(value), timestamp=row.changed_ms, step=step.labels)
        for key, value in sorted(figures.items())
        if isinstance(value, int | float) and abs(value) < float("inf")
    ]


def _leaves(path: str, value: Any) -> list[tuple[str, str]]:
    """A specification's values by their place in it, as text."""
    if isinstance(value, dict) and value:
        return [
            leaf for name, one in value.items() for leaf in _leaves(f"{path}.{name}" if path else name, one)
        ]
    if isinstance(value, list) and value:
        return [leaf for number, one in enumerate(value) for leaf in _leaves(f"{path}.{number}", one)]
    return [(path, str(value)[:LONGEST_PARAMETER])]
