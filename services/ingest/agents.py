"""Ingest's binding to Kafka: one `InboxProcessor` per partition of every stream's inbox, on the transactional host."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from headrace.contracts import topics
from headrace.contracts.codec import decode_rejected
from headrace.kafka.host import HostSettings, KafkaHost
from headrace.processor import Batch, Outputs
from services.ingest import metrics
from services.ingest.domain.ids import id_given
from services.ingest.processor import InboxProcessor
from services.ingest.streams import Streams

if TYPE_CHECKING:
    from headrace.traces import Traces

GROUP = "headrace.ingest"


class CountedInbox(InboxProcessor):
    """An inbox processor whose outputs are counted, so that the processor itself need not know of metrics."""

    def process(self, batch: Batch) -> Outputs:
        """Like the processor's, and counts what came out (a batch that is delivered again counts again)."""
        outputs = super().process(batch)
        for (name, _), messages in outputs.items():
            stream, _, kind = name.rpartition(".")
            if kind == topics.LOG.name:
                metrics.ACCEPTED.labels(stream, "any", "inbox").inc(len(messages))
            else:
                for message in messages:
                    rule = decode_rejected(message["value"] or b"").rule
                    metrics.REJECTED.labels(stream, rule, "inbox").inc()
        return outputs


def build_host(
    bootstrap: str,
    instance: str,
    streams: Streams,
    clock_ms: Callable[[], int],
    *,
    batch_records: int,
    still_well: Callable[[], None],
    traces: "Traces | None" = None,
) -> KafkaHost:
    """The host that empties the inbox of every stream the registry knows.

    still_well: called between batches; what it raises ends the host and with it the process.
    """

    def build(inbox: str, _: int) -> InboxProcessor:
        stream = topics.stream_of(inbox)
        return CountedInbox(stream, lambda: streams.get(stream), clock_ms)

    def inboxes() -> Iterable[str]:
        still_well()
        return [topics.topic(topics.INBOX, stream) for stream in streams.names()]

    settings = HostSettings(
        bootstrap, GROUP, instance, batch_records=batch_records, snapshot_records=0, stateless=True
    )
    return KafkaHost(settings, build, inboxes, metrics=metrics.METRICS, traces=traces, identify=id_given)
