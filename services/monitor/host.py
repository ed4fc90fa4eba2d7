"""The monitor's binding to the transactional host: one `Summariser` per partition of every stream's topics.

Records are fetched in large portions (the broker holds a fetch back until it is worth it), because every transaction
emits the windows it touched: that, not a timer in the processor, is what keeps an idle stream's summaries few.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, REJECTED, stream_of, topic
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore
from services.monitor.domain.tolerance import Tolerances
from services.monitor.processor import Summariser
from services.monitor.settings import MonitorSettings
from services.monitor.watchboard import Watchboard

if TYPE_CHECKING:
    from headrace.traces import Traces

GROUP = "headrace.monitor"
SUMMARISED = (LOG, PREDICTIONS, OUTCOMES, REJECTED)


def build_host(
    settings: MonitorSettings,
    follower: RegistryFollower,
    tolerances: Tolerances,
    board: Watchboard,
    observe: Callable[[str, int, int], None],
    metrics: CollectorRegistry | None = None,
    traces: "Traces | None" = None,
) -> KafkaHost:
    """The host that summarises and watches every stream the registry knows.

    The group carries the windows' length: another length is another count, from the logs' start.
    """
    shape = settings.shape

    def topics() -> list[str]:
        follower.check()
        return [topic(kind, stream) for stream in list(follower.streams) for kind in SUMMARISED]

    def made(name: str, partition: int) -> Summariser:
        stream = stream_of(name)
        tolerance = tolerances.of(stream, follower.streams[stream].partitions)
        return board.admit(Summariser(name, partition, shape, tolerance))

    def noted(name: str, records: int, outputs: int) -> None:
        observe(name, records, outputs)
        board.note(name)

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
        made,
        topics,
        snapshots=SnapshotStore(settings.snapshot_folder, Keys.at(settings.snapshot_key_file)),
        observe=noted,
        metrics=metrics,
        traces=traces,
    )
