"""The files Kafka reads, rendered: `server.properties` and `log4j2.properties`.

Small-node settings: one broker on a laptop beside the programs that use it, so few threads, small buffers,
few internal partitions. Two groups of settings are not about size. Fast return: short broker and group
sessions, so that a killed broker or consumer is back in seconds. Nothing lost by default: no topics by typo,
no retention unless the topic says so (records carry event time, and a year-old flight would be deleted at
once by a seven-day retention), and consumer offsets that survive a long pause.

Paths are relative to the broker's home, which is the process's working folder: a home with spaces, commas or
letters that `.properties` files cannot hold still works, and the folder can be moved while the broker is
down.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.broker.ports import HOST, Ports

KIB = 1024
MIB = 1024 * KIB
DATA_FOLDER = "data"
LOG_FILE = "logs/kafka.log"
NODE_ID = 1

SMALL_NODE: Mapping[str, object] = {
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "queued.max.requests": 64,
    "message.max.bytes": 2 * MIB,
    "log.segment.bytes": 64 * MIB,
    "log.index.size.max.bytes": 1 * MIB,
    "log.cleaner.threads": 1,
    "log.cleaner.dedupe.buffer.size": 16 * MIB,
    "log.cleaner.io.buffer.size": 512 * KIB,
    "metadata.log.segment.bytes": 16 * MIB,
    "metadata.max.retention.bytes": 64 * MIB,
    "offsets.topic.num.partitions": 4,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.segment.bytes": 16 * MIB,
    "transaction.state.log.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.segment.bytes": 16 * MIB,
    "share.coordinator.state.topic.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
}

FAST_RETURN: Mapping[str, object] = {
    # After kill -9 the new process may register only once the old one's session has run out.
    "broker.session.timeout.ms": 2_000,
    "broker.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    "group.consumer.heartbeat.interval.ms": 2_000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.session.timeout.ms": 10_000,
    "group.consumer.min.session.timeout.ms": 3_000,
    "transaction.max.timeout.ms": 900_000,
    # How often timed-out transactions are looked for; at the default, a dead writer blocks readers 10 s longer.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
}

NOTHING_LOST: Mapping[str, object] = {
    "auto.create.topics.enable": "false",
    "log.retention.ms": -1,
    "log.retention.bytes": -1,
    "offsets.retention.minutes": 60 * 24 * 365,
}


def _identity(ports: Ports, advertised_port: int = 0) -> dict[str, object]:
    """What makes this node this node. The quorum is static, so a controller port may change between starts."""
    return {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@{HOST}:{ports.controller}",
        "listeners": f"CLIENTS://{HOST}:{ports.client},CONTROLLER://{HOST}:{ports.controller}",
        "advertised.listeners": f"CLIENTS://{HOST}:{advertised_port or ports.client}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": DATA_FOLDER,
    }


FIXED_KEYS = frozenset(_identity(Ports(1, 2)))


def check_overrides(overrides: Mapping[str, str]) -> None:
    """Refuse overrides that would break how the broker is found. Raises ValueError naming the key."""
    for key, value in overrides.items():
        if key in FIXED_KEYS:
            raise ValueError(
                f"setting {key!r} is decided by the embedded broker itself and cannot be overridden"
            )
        if not key or any(mark in key for mark in " =:\\\n\r#!") or any(mark in value for mark in "\n\r\\"):
            raise ValueError(f"setting {key!r} does not fit on one line of a properties file")


def server_properties(
    ports: Ports, overrides: Mapping[str, str] | None = None, advertised_port: int = 0
) -> str:
    """The text of `server.properties`, one `key=value` a line, sorted, overrides last to win.

    advertised_port: what clients are told; 0 is the client port itself.
    """
    chosen = dict(overrides or {})
    check_overrides(chosen)
    merged: dict[str, object] = {
        **SMALL_NODE,
        **FAST_RETURN,
        **NOTHING_LOST,
        **chosen,
        **_identity(ports, advertised_port),
    }
    lines = [f"{key}={_latin(str(value))}" for key, value in sorted(merged.items())]
    return "# Written at every start; changes made here are lost.\n" + "\n".join(lines) + "\n"


def log4j2_properties(*, file_bytes: int = 4 * MIB, files: int = 3) -> str:
    """The text of `log4j2.properties`: warnings and a few milestones to one file, at most (files + 1) * file_bytes."""
    return f"""# Written at every start; changes made here are lost.
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {LOG_FILE}
appender.file.filePattern = {LOG_FILE}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd'T'HH:mm:ss.SSSXXX}} %-5p %m (%c{{1}})%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = {file_bytes}
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = {files}
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
logger.recovery.name = org.apache.kafka.storage.internals.log.LogManager
logger.recovery.level = info
# While the broker starts, its own coordinators call it twenty times a second and warn each time.
logger.calls.name = org.apache.kafka.clients.NetworkClient
logger.calls.level = error
logger.version.name = org.apache.kafka.common.utils.AppInfoParser
logger.version.level = info
"""


def _latin(text: str) -> str:
    r"""`text` as a properties file can hold it: Kafka reads these files as latin-1 with \uXXXX escapes."""
    return "".join(mark if " " <= mark <= "~" else f"\\u{ord(mark):04x}" for mark in text)
