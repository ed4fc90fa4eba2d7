"""Ways to break the Kafka host on purpose, so that the checker can show that it would notice.

Each patches the product inside a child process, and fails if what it patches is not there any more.
"""

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import TopicPartition

from headrace import recovery
from headrace.kafka import host, transactions
from headrace.step import Run
from tests.chaos.points import find


def _patch(module: str, dotted: str, new: Callable[..., Any]) -> Any:
    owner, attribute = find(module, dotted)
    original = getattr(owner, attribute)
    setattr(owner, attribute, new)
    return original


def _nothing(*_: Any) -> None:
    """What a call left out does."""


def skip_offsets() -> None:
    """Commit outputs without the offsets they came from."""
    _patch(transactions.__name__, "Producer.send_offsets_to_transaction", _nothing)


def commit_early() -> None:
    """Commit the offsets by themselves, before the outputs are written."""
    skip_offsets()
    original: Any = None

    def transact(self: host.KafkaHost, batches: Any) -> None:
        ends = [TopicPartition(*place, batch.offsets[-1] + 1) for place, batch in batches.items()]
        self._consumer.commit(offsets=ends, asynchronous=False)
        original(self, batches)

    original = _patch(host.__name__, "KafkaHost._transact", transact)


def recover_aloud() -> None:
    """Emit again what is relived."""

    class Loud(Run):
        def __init__(self, processor: Any, *, position: int, silent_until: int) -> None:
            super().__init__(processor, position=position, silent_until=position)

    for module in (host, recovery):
        assert module.Run is Run  # type: ignore[attr-defined]  # imported there
        module.Run = Loud  # type: ignore[attr-defined,misc]  # as above


def stay_ahead() -> None:
    """After an abort go on as if it had been a commit."""

    def rewind(self: host.KafkaHost) -> None:
        self._rebuild = False

    _patch(host.__name__, "KafkaHost._rewind", rewind)


def keep_the_state() -> None:
    """After an abort read again, with processors that have seen it all."""

    def rewind(self: host.KafkaHost) -> None:
        self._rebuild = False
        for place, run in self._runs.items():
            offset = self._consumer.committed([TopicPartition(*place)], timeout=30.0)[0].offset
            run.position = max(0, offset)
            self._consumer.seek(TopicPartition(*place, run.position))

    _patch(host.__name__, "KafkaHost._rewind", rewind)


MUTANTS: Mapping[str, Callable[[], None]] = {
    "skip_offsets": skip_offsets,
    "commit_early": commit_early,
    "recover_aloud": recover_aloud,
    "stay_ahead": stay_ahead,
    "keep_the_state": keep_the_state,
}
