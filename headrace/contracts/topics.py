"""The only place that names a Kafka topic.

A stream `S` owns `S.inbox`, `S.log`, `S.rejected`, `S.predictions`, `S.outcomes`, `S.checkpoints`; `headrace.*` topics
serve all streams. Stream names have no dot, so that the last dot always parts name and kind.
"""

import re
from dataclasses import dataclass
from typing import Literal

from headrace.errors import Unusable

STREAM_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")

Cleanup = Literal["delete", "compact"]


@dataclass(frozen=True, slots=True)
class TopicKind:
    """One kind of topic: its name, who keys it by what, and how long Kafka keeps it.

    retention_seconds: -1 keeps for ever. follows_stream: partitions follow the stream's contract; else one partition.
    compression: `producer` stores what was sent; `uncompressed` is for topics that Faust reads, whose client knows no
    lz4, snappy or zstd and stops at the first such batch.
    """

    name: str
    key: str
    holds: str
    cleanup: Cleanup = "delete"
    retention_seconds: int = 7 * 24 * 3600
    follows_stream: bool = True
    compression: Literal["producer", "uncompressed"] = "producer"


INBOX = TopicKind("inbox", "any", "untrusted JSON from producers that speak Kafka")
LOG = TopicKind("log", "entity", "the truth: observations, labels, control records", retention_seconds=-1)
REJECTED = TopicKind(
    "rejected", "entity", "original bytes, rule, reason, origin", retention_seconds=30 * 24 * 3600
)
PREDICTIONS = TopicKind("predictions", "entity", "one per observation", retention_seconds=30 * 24 * 3600)
OUTCOMES = TopicKind("outcomes", "entity", "predictions joined with labels", retention_seconds=30 * 24 * 3600)
CHECKPOINTS = TopicKind("checkpoints", "partition", "where the shard's snapshots lie", cleanup="compact")

STREAM_TOPICS = (INBOX, LOG, REJECTED, PREDICTIONS, OUTCOMES, CHECKPOINTS)

REGISTRY = TopicKind(
    "headrace.registry", "kind/stream/model", "contracts, versions, deployments", "compact", -1, False
)
ALERTS = TopicKind(
    "headrace.alerts", "stream and rule", "what people are told", "delete", 90 * 24 * 3600, False
)
MUTES = TopicKind(
    "headrace.mutes", "mute", "which alerts people are not told", "delete", 90 * 24 * 3600, False
)
DRIFT = TopicKind(
    "headrace.drift", "stream", "what has moved, since when", "delete", 90 * 24 * 3600, False, "uncompressed"
)
RETRAINS = TopicKind(
    "headrace.retrains", "stream", "what should be retrained, and why", "delete", 90 * 24 * 3600, False
)
AUDIT = TopicKind("headrace.audit", "head", "signed heads of the registry's audit trail", "delete", -1, False)
CHANGES = TopicKind(
    "headrace.changes", "rows", "every row that the registry has written, signed", "delete", -1, False
)
STATISTICS = TopicKind(
    "headrace.statistics",
    "stream/kind/partition/length/start",
    "mergeable window summaries",
    "compact",
    -1,
    False,
    "uncompressed",
)

USAGE = TopicKind(
    "headrace.usage",
    "stream/partition/length/start/life",
    "processor time and memory by model",
    "compact",
    -1,
    False,
)

SCORING_GROUP = "headrace.scoring"
"""Consumer group that folds the logs; its committed offsets say what has been answered, its snapshots bear its name."""

PLATFORM_TOPICS = (REGISTRY, ALERTS, MUTES, DRIFT, RETRAINS, AUDIT, CHANGES, STATISTICS, USAGE)


def check_stream_name(name: str) -> str:
    """Return `name` if a stream may be called so, else raise `Unusable`."""
    if not STREAM_NAME.fullmatch(name) or name == "headrace":
        raise Unusable(
            f"{name!r} is no stream name: use a-z, 0-9, _ and -, begin with a letter, at most 63 long"
        )
    return name


def topic(kind: TopicKind, stream: str) -> str:
    """The name of a stream's topic, e.g. `topic(LOG, "flights") == "flights.log"`."""
    return f"{stream}.{kind.name}"


def stream_of(topic_name: str) -> str:
    """The stream a topic belongs to: what stands before its last dot."""
    return topic_name.rpartition(".")[0]
