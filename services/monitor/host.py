"""The monitor's binding to the transactional host: one `Summariser` per partition of every stream's topics.

Records are fetched in large portions (the broker holds a fetch back until it is worth it), because every transaction
emits the windows it touched: that, not a timer in the processor, is what keeps an idle stream's summaries few.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, REJECTED, topic
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.monitor.processor import Summariser
from services.monitor.settings import MonitorSettings

if TYPE_CHECKING:
    from headrace.traces import Traces

GROUP = "headrace.monitor"
SUMMARISED = (LOG, PREDICTIONS, OUTCOMES, REJECTED)


def build_host(
    settings: MonitorSettings,
    follower: RegistryFollower,
    observe: Callable[[str, int, int], None],
    metrics: CollectorRegistry | None = None,
    traces: "Traces | None" = None,
) -> KafkaHost:
    """The host that summarises and watches every stream the registry knows.

    The group carries the windows' length: another length is another count, from the logs' start.
    """
    shape, tolerance = settings.shape, settings.tolerance

    def topics() -> list[str]:
        follower.check()
        return [topic(kind, stream) for stream in list(follower.streams) for kind in SUMMARISED]

    return KafkaHost(
        HostSettings(
            settings.bootstrap,
            f"{GROUP}.{shape.length_seconds}",
            settings.instance,
            batch_records=settings.batch_records,
            snapshot_records=settings.snapshot_records,
            extra={
                "fetch.min.bytes": 1_000_000,
                "fetch.wait.max.ms": int(settings.batch_wait_seconds * 1000),
            },
        ),
        lambda name, partition: Summariser(name, partition, shape, tolerance),
        topics,
        snapshots=SnapshotStore(settings.snapshot_folder, Keys.at(settings.snapshot_key_file)),
        observe=observe,
        metrics=metrics,
        traces=traces,
    )
