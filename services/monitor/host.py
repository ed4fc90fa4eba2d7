"""The monitor's binding to the transactional host: one `Summariser` per partition of every stream's topics.

Records are fetched in large portions (the broker holds a fetch back until it is worth it), because every transaction
emits the windows it touched: that, not a timer in the processor, is what keeps an idle stream's summaries few.
"""

import os
from collections.abc import Callable
from pathlib import Path
from secrets import token_bytes

from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, REJECTED, topic
from headrace.kafka.follower import RegistryFollower
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.snapshots import SnapshotStore
from services.monitor.processor import Summariser
from services.monitor.settings import MonitorSettings

GROUP = "headrace.monitor"
SUMMARISED = (LOG, PREDICTIONS, OUTCOMES, REJECTED)


def build_host(
    settings: MonitorSettings, follower: RegistryFollower, observe: Callable[[str, int, int], None]
) -> KafkaHost:
    """The host that summarises every stream the registry knows.

    The group carries the windows' length: another length is another count, from the logs' start.
    """
    shape = settings.shape
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
        lambda name, partition: Summariser(name, partition, shape),
        lambda: [topic(kind, stream) for stream in list(follower.streams) for kind in SUMMARISED],
        snapshots=SnapshotStore(settings.snapshot_folder, snapshot_key(settings.snapshot_key_file)),
        observe=observe,
    )


def snapshot_key(path: Path) -> bytes:
    """The signing secret, made on first use; whole or not there at all, whoever else makes it at the same time."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()
