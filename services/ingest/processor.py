"""The inbox: untrusted records from producers that speak Kafka, into the log or into the rejects.

The heart of ingest's Kafka side: one record in, exactly one record out, in order. It keeps no state, so a restart or
a redelivered batch costs nothing; the host's transaction makes the copy exactly-once. The clock is injected and is
read once a batch: before the log is the one place where the wall clock may still decide something (the event time of
an event that brought none, and whether an event comes from the future). Ids are not the clock's business: they come
from topic, partition and offset, so the same record always gets the same id.
"""

from collections.abc import Callable
from functools import partial

from headrace.contracts import topics
from headrace.contracts.codec import encode
from headrace.errors import Poison, Unusable
from headrace.processor import BY_KEY, Batch, Message, Outputs
from services.ingest.domain.ids import placed_id
from services.ingest.domain.lines import EventCleanser, reject_message, unforeseen


class InboxProcessor:
    """One partition of S.inbox to S.log (kept) and S.rejected (refused), without state; see `headrace.processor`.

    cleanser: gives the one for the stream's contract as it is now, asked once a batch. clock_ms: milliseconds since
    1970 UTC, asked once a batch.
    """

    def __init__(
        self, stream: str, cleanser: Callable[[], EventCleanser], clock_ms: Callable[[], int]
    ) -> None:
        self._log = (topics.topic(topics.LOG, stream), BY_KEY)
        self._rejected = (topics.topic(topics.REJECTED, stream), BY_KEY)
        self._cleanser = cleanser
        self._clock_ms = clock_ms

    def process(self, batch: Batch) -> Outputs:
        """Every record of the batch goes to exactly one of the two topics; none raises."""
        now_ms = self._clock_ms()
        cleanser = self._cleanser()
        kept: list[Message] = []
        refused: list[Message] = []
        topic, partition = batch.topic, batch.partition
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
            try:
                event = cleanser.event(
                    value, now_ms=now_ms, new_id=partial(placed_id, topic, partition, offset)
                )
                kept.append({"key": event.entity.encode(), "value": encode(event)})
            except Exception as error:
                poison = error if isinstance(error, Poison) else unforeseen(error)
                origin = f"{topic}/{partition}/{offset}"
                refused.append(reject_message(value or b"", poison, now_ms=now_ms, origin=origin, key=key))
        outputs: Outputs = {}
        if kept:
            outputs[self._log] = kept
        if refused:
            outputs[self._rejected] = refused
        return outputs

    def snapshot(self) -> bytes:
        """Nothing: the processor keeps no state."""
        return b""

    def restore(self, state: bytes) -> None:
        """Accepts the empty state only. Raises `Unusable` for any other."""
        if state:
            raise Unusable("the inbox keeps no state, so there is none to restore")

    def fingerprints(self) -> dict[str, str]:
        """None: there is no model here."""
        return {}
