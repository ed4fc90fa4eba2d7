"""Scoring's binding to Kafka: one `ScoringProcessor` per partition of every stream's log, on the transactional host."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from headrace.contracts.topics import LOG, SCORING_GROUP, topic
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.metrics import catalogue
from headrace.replay.sources import Sources
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.scoring.processor import UNMETERED, Meter, ScoringProcessor
from services.scoring.settings import ScoringSettings

if TYPE_CHECKING:
    from headrace.traces import Traces

METRICS = CollectorRegistry()
RECORDS = catalogue.SCORING_RECORDS.on(METRICS)
EMITTED = catalogue.SCORING_EMITTED.on(METRICS)


def build_host(
    settings: ScoringSettings,
    follower: RegistryFollower,
    meter: Callable[[str, int], Meter] = lambda _topic, _partition: UNMETERED,
    traces: "Traces | None" = None,
) -> KafkaHost:
    """The host that runs the shards of every stream the registry knows; meter: for each that begins."""

    def logs() -> list[str]:
        follower.check()
        return [topic(LOG, stream) for stream in list(follower.streams)]

    snapshots = SnapshotStore(settings.snapshot_folder, Keys.at(settings.snapshot_key_file))
    sources = Sources(settings.bootstrap, snapshots, settings.archive)
    rebuilder = sources.rebuilder
    return KafkaHost(
        HostSettings(
            settings.bootstrap,
            SCORING_GROUP,
            settings.instance,
            batch_records=settings.batch_records,
            snapshot_records=settings.snapshot_records,
            whole_log=True,
        ),
        lambda name, partition: ScoringProcessor(name, partition, rebuilder, meter(name, partition)),
        logs,
        snapshots=snapshots,
        history=(lambda: sources.history) if settings.archive else None,
        observe=_observe,
        metrics=METRICS,
        traces=traces,
    )


def _observe(log_topic: str, records: int, outputs: int) -> None:
    RECORDS.labels(log_topic).inc(records)
    EMITTED.labels(log_topic).inc(outputs)
