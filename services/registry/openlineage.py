"""Tells a lineage server of retrainings, as OpenLineage run events (openlineage.io): a run has begun, a run has ended.

Each is told at least once, in order, as long as it takes for the server to answer: what has been told is in the
database. Run ids follow from the retraining, so hearing twice is harmless.
"""

import threading
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    RunFacet,
    dataset_version_dataset,
    error_message_run,
    execution_parameters_run,
    input_statistics_input_dataset,
    job_type_job,
    processing_engine_run,
    set_producer,
)
from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport

import headrace
from headrace.contracts.topics import LOG, topic
from headrace.errors import Transient
from services.registry.domain.retraining import Retraining
from services.registry.retrainings import RetrainingStore, retraining_of
from services.registry.tables import RetrainingRow

log = structlog.get_logger("registry.openlineage")

ROUND_SECONDS = 2.0
ANSWER_SECONDS = 5.0
NAMESPACE = "headrace"
PRODUCER = f"headrace/{headrace.__version__}"
ENDED = {"done": RunState.COMPLETE, "cancelled": RunState.ABORT}

set_producer(PRODUCER)


class Teller:
    """Tells the server at `url`, on a thread of its own. key: a bearer token; "": none. kafka: where the logs lie."""

    def __init__(self, store: RetrainingStore, url: str, key: str, kafka: str) -> None:
        self._store = store
        self._kafka = f"kafka://{kafka.split(',', maxsplit=1)[0]}"
        settings = HttpConfig(url=url, timeout=ANSWER_SECONDS, retry={"total": 0})
        if key:
            settings.auth = ApiKeyTokenProvider({"apiKey": key})
        self._client = OpenLineageClient(transport=HttpTransport(settings))
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to tell."""
        threading.Thread(target=self._go_round, name="openlineage", daemon=True).start()

    def stop(self) -> None:
        """End after what is being told."""
        self._stopping.set()

    def _go_round(self) -> None:
        while not self._stopping.wait(ROUND_SECONDS):
            try:
                self.tell()
            except Transient as error:
                log.warning("nothing told yet", reason=str(error))
            except Exception as error:  # the client lets through whatever its transport raises
                log.warning("the lineage server was not reached", reason=type(error).__name__)

    def tell(self) -> None:
        """Tell everything that has not been told. Raises what the client does when the server does not answer."""
        for row in self._store.untold():
            known = retraining_of(row)
            if row.told == 0:
                self._client.emit(self._event(row, known, RunState.START, row.created_ms))
                self._store.was_told(row.stream, row.number, 1)
            if not known.is_open:
                state = (
                    ENDED[known.status] if known.race.winner or known.status == "cancelled" else RunState.FAIL
                )
                self._client.emit(self._event(row, known, state, row.changed_ms))
                self._store.was_told(row.stream, row.number, 2)

    def _event(self, row: RetrainingRow, known: Retraining, state: RunState, at_ms: int) -> RunEvent:
        facets: dict[str, RunFacet] = {
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
                headrace.__version__, "Headrace"
            ),
            "executionParameters": execution_parameters_run.ExecutionParametersRunFacet(_parameters(known)),
        }
        if state is RunState.FAIL:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(known.says, "python")
        kind = job_type_job.JobTypeJobFacet("BATCH", "HEADRACE", "RETRAINING")
        records = sum(end - start for start, end in known.race.spans.values())
        read = InputDataset(
            self._kafka,
            topic(LOG, row.stream),
            inputFacets={
                "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet(records)
            },
        )
        outputs = []
        if known.version is not None:
            version = dataset_version_dataset.DatasetVersionDatasetFacet(str(known.version))
            outputs = [OutputDataset(NAMESPACE, f"models/{known.model}", facets={"version": version})]
        return RunEvent(
            eventType=state,
            eventTime=datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            producer=PRODUCER,
            run=Run(str(run_id(row.stream, row.number)), facets),
            job=Job(NAMESPACE, f"{row.stream}.retraining", {"jobType": kind}),
            inputs=[read],
            outputs=outputs,
        )


def run_id(stream: str, number: int) -> UUID:
    """The run that a retraining is, the same whenever it is told."""
    return uuid5(NAMESPACE_URL, f"headrace:{stream}/retrainings/{number}")


def _parameters(known: Retraining) -> list[execution_parameters_run.ExecutionParameter]:
    told = {
        "cause": known.cause,
        "asked_by": known.asked_by,
        "champion": str(known.champion),
        "trials": len(known.race.trials),
        "seed": known.search.seed,
        "eta": known.race.eta,
        "spans": ", ".join(
            f"{part}:{start}..{end}" for part, (start, end) in sorted(known.race.spans.items())
        ),
    }
    return [
        execution_parameters_run.ExecutionParameter(name, name, value=str(value))
        for name, value in told.items()
    ]
