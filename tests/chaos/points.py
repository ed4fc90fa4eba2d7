"""Named places in the services at which a test can stop a process dead, or make a call fail.

A place is a method and a side of it. Nothing of this is in the product: `child` wraps the methods before the service
starts. What is to happen is read from a file at each call, so that a running process can be armed: `NAME COUNT ACTION`,
where ACTION is `kill` or `fail` (raise the error after which a client has to abort its transaction).
"""

import functools
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException

ARMED = "CHAOS_ARMED"
"""Environment variable: the file that arms this process."""


class Place(NamedTuple):
    """A method, by module and dotted name, and whether the place lies before or after it."""

    module: str
    name: str
    after: bool


HOST_POINTS = {
    "before_produce": Place("headrace.kafka.transactions", "_Writer.produce", False),
    "after_produce": Place("headrace.kafka.transactions", "_Writer.produce", True),
    "before_offsets": Place("headrace.kafka.transactions", "Producer.send_offsets_to_transaction", False),
    "after_offsets_before_commit": Place(
        "headrace.kafka.transactions", "Producer.send_offsets_to_transaction", True
    ),
    "before_commit": Place("headrace.kafka.transactions", "Producer.commit_transaction", False),
    "after_commit": Place("headrace.kafka.transactions", "Producer.commit_transaction", True),
}
SNAPSHOT_POINTS = {
    "before_snapshot": Place("headrace.snapshots", "SnapshotStore.put", False),
    "after_snapshot": Place("headrace.snapshots", "SnapshotStore.put", True),
    "during_recovery": Place("headrace.recovery", "Checkpoints.restore", True),
}
INGEST_POINTS = {
    "after_acknowledged": Place("services.ingest.intake", "Intake._landed", True),
    "before_acknowledged": Place("services.ingest.intake", "Intake._landed", False),
}
POINTS = {
    "scoring": {**HOST_POINTS, **SNAPSHOT_POINTS},
    "ingest": {**HOST_POINTS, **INGEST_POINTS},
    "monitor": {**HOST_POINTS, **SNAPSHOT_POINTS},
    "registry": {
        "before_publish": Place("headrace.kafka.producer", "LogProducer.send", False),
        "after_publish": Place("headrace.kafka.producer", "LogProducer.send", True),
    },
}


def arm(file: Path, point: str, count: int, action: str = "kill") -> None:
    """Let the process that watches `file` do `action` when it comes by `point` for the `count`th time from now."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{point} {count} {action}")
    fresh.replace(file)


def install(service: str, file: Path) -> None:
    """Wrap every place of the service. Fails if one does not exist (it was renamed: mend the table)."""
    for name, place in POINTS[service].items():
        owner, attribute = find(place.module, place.name)
        setattr(owner, attribute, _wrapped(getattr(owner, attribute), name, place.after, file))


def find(module: str, dotted: str) -> tuple[Any, str]:
    """The object that holds a dotted name, and the name's last part; a client's class is made writable first."""
    owner: Any = importlib.import_module(module)
    *path, attribute = dotted.split(".")
    for part in path:
        found = getattr(owner, part)
        if not found.__flags__ & HEAP_TYPE:  # written in C: a subclass in its place can be changed
            found = type(part, (found,), {})
            setattr(owner, part, found)
        owner = found
    assert hasattr(owner, attribute), f"{module} has no {dotted}"
    return owner, attribute


HEAP_TYPE = 1 << 9


def _wrapped(original: Callable[..., Any], name: str, after: bool, file: Path) -> Callable[..., Any]:
    if _is_async(original):

        @functools.wraps(original)
        async def passing_async(*args: Any, **kwargs: Any) -> Any:
            if not after:
                _pass(name, file)
            result = await original(*args, **kwargs)
            if after:
                _pass(name, file)
            return result

        return passing_async

    @functools.wraps(original)
    def passing(*args: Any, **kwargs: Any) -> Any:
        if not after:
            _pass(name, file)
        result = original(*args, **kwargs)
        if after:
            _pass(name, file)
        return result

    return passing


def _is_async(function: Callable[..., Any]) -> bool:
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & 0x80)


def _pass(name: str, file: Path) -> None:
    """Come by a place: do what the file says, if it means this place and it is the last time to count."""
    try:
        wanted, count, action = file.read_text().split()
    except (OSError, ValueError):
        return
    if wanted != name:
        return
    if int(count) > 1:
        arm(file, name, int(count) - 1, action)
        return
    file.unlink(missing_ok=True)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise KafkaException(KafkaError(KafkaError._FAIL, f"injected at {name}", False, False, True))
