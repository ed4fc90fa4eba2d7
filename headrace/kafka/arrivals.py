"""What a consumer was given, as batches: the one place where messages of the client become columns."""

from typing import Any

from headrace.processor import Batch
from headrace.recovery import Place


def by_place(messages: list[Any]) -> dict[Place, Batch]:
    """Sort a consumed run of messages into columns by partition, keeping each partition's order."""
    grouped: dict[Place, list[Any]] = {}
    for message in messages:
        grouped.setdefault((message.topic(), message.partition()), []).append(message)
    return {
        place: Batch(
            place[0],
            place[1],
            [message.offset() for message in run],
            [message.key() for message in run],
            [message.value() for message in run],
        )
        for place, run in grouped.items()
    }
