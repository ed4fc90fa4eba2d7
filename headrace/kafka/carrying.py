"""Takes the `traceparent` of sampled records over to what comes of them. The host's business: no processor knows of it.

A processor gets columns and gives messages; which message came of which record is not told. It need not be: an event
keeps its id from the inbox to its outcome. So a sampled record is known by its id, and the outputs of its batch are
searched for it. Batches without a sampled record are not looked at, and their outputs are produced as ever.

Rejects and window summaries carry nothing: a reject has no id, a summary is of many records. An outcome that comes of
time alone (an expiry) was caused by no record of its own.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS
from headrace.processor import Batch, Message, Outputs
from headrace.recovery import Place
from headrace.step import Run

if TYPE_CHECKING:
    from headrace.traces import Traces

TRACEPARENT = "traceparent"
CARRYING = frozenset({LOG.name, PREDICTIONS.name, OUTCOMES.name})

Headers = Mapping[int, str]
"""`traceparent` by position among the messages for one place."""

Identify = Callable[[str, int, int, bytes], str]
"""The id of what comes of a record: (topic, partition, offset, value) -> id, empty if it cannot be seen."""


class Carried(Outputs):
    """Outputs some of which carry a header: by place, then position."""

    def __init__(self, outputs: Outputs, headers: dict[Place, dict[int, str]]) -> None:
        super().__init__(outputs)
        self.headers = headers


def headers_of(outputs: Outputs, place: Place) -> Headers:
    """What the messages for one place carry."""
    return outputs.headers.get(place, {}) if isinstance(outputs, Carried) else {}


def in_order(
    messages: list[Message],
    headers: Headers,
    many: Callable[[list[Message]], None],
    one: Callable[[int], None],
) -> None:
    """Hand messages over in order: `many` of them without a header at a time, `one` that carries one by position."""
    start = 0
    for position in sorted(headers):
        many(messages[start:position])
        one(position)
        start = position + 1
    many(messages[start:] if start else messages)


class _Named(msgspec.Struct):
    id: str = ""


_decode = msgspec.json.Decoder(_Named).decode


def id_of(_topic: str, _partition: int, _offset: int, value: bytes) -> str:
    """The id of an event as Headrace writes it."""
    try:
        return _decode(value).id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


class Carrier:
    """One host's. Its methods are for the host's thread."""

    def __init__(self, traces: "Traces", identify: Identify | None) -> None:
        self._traces = traces
        self._identify = identify or id_of
        self._sampled: dict[Place, dict[int, str]] = {}

    def look(self, messages: Iterable[Any]) -> None:
        """Note which of the records in hand are sampled, and forget those before."""
        from headrace.traces import is_sampled

        self._sampled = {}
        for message in messages:
            headers = message.headers()
            if headers:
                text = next((value for name, value in headers if name == TRACEPARENT and value), b"")
                traceparent = text.decode("latin-1")
                if is_sampled(traceparent):
                    place = (message.topic(), message.partition())
                    self._sampled.setdefault(place, {})[message.offset()] = traceparent

    def feed(self, run: Run, batch: Batch) -> Outputs:
        """`run.feed`, with spans for what is sampled; relived records had theirs in an earlier life."""
        sampled = {
            offset: traceparent
            for offset, traceparent in self._sampled.pop((batch.topic, batch.partition), {}).items()
            if offset >= max(run.position, run.silent_until)
        }
        if not sampled:
            return run.feed(batch)
        began_ns = time.time_ns()
        outputs = run.feed(batch)
        carried = self._traces.batch(batch.topic, batch.partition, len(batch.offsets), sampled, began_ns)
        return Carried(outputs, self._matched(batch, carried, outputs))

    def _matched(
        self, batch: Batch, carried: Mapping[int, str], outputs: Outputs
    ) -> dict[Place, dict[int, str]]:
        names = {
            self._identify(batch.topic, batch.partition, offset, value): carried[offset]
            for offset, value in zip(batch.offsets, batch.values, strict=True)
            if offset in carried and value is not None
        }
        names.pop("", None)
        found: dict[Place, dict[int, str]] = {}
        for place, messages in outputs.items():
            if place[0].rpartition(".")[2] in CARRYING:
                for position, message in enumerate(messages):
                    traceparent = names.get(id_of(*place, 0, message["value"] or b""))
                    if traceparent is not None:
                        found.setdefault(place, {})[position] = traceparent
        return found
