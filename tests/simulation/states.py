"""States after faults against states of one clean fold of the same log: I4, I6, and I7's statistics.

Only the product can read its own states, so this side may call it: a fresh processor, the whole partition in one batch,
no host. Outputs are compared as bytes, states by what they answer for (counters, models' fingerprints, features,
metrics) and by what they do next.
"""

import json
from typing import Any

import msgspec

from headrace import checkpoint
from headrace.contracts.events import Checkpoint, Snapshot
from headrace.contracts.topics import STATISTICS
from headrace.errors import Unusable
from headrace.memory import Record
from headrace.processor import Batch, Message, Processor
from headrace.recovery import Place, checkpoints_topic, folder_of
from services.monitor.processor import Summariser
from services.scoring.processor import ScoringProcessor
from tests.simulation.checker import Violation
from tests.simulation.world import PLACES, SHAPE, World

MOVING = ("through_offset", "watermark", "final_before")
"""Where a summariser stood when it told of a window: this depends on batches."""

_decode = msgspec.json.Decoder(Checkpoint).decode


def check_states(world: World) -> None:
    """Raise `Violation` if a state differs from a clean fold's, or a snapshot from its offset."""
    for place in PLACES["scoring"]:
        _check_place(world, "scoring", place)
    for place in PLACES["monitor"]:
        _check_place(world, "monitor", place)
    _check_statistics(world)


def _check_place(world: World, stage: str, place: Place) -> None:
    records = world.broker.read(*place)
    pointers = _pointers(world, stage, place)
    clean = _fresh(stage, place)
    done = 0
    for pointer in pointers:
        before = [record for record in records[done:] if record.offset < pointer.offset]
        _feed(clean, place, before)
        done += len(before)
        restored = _restored(world, stage, place, pointer)
        if pointer.fingerprints != clean.fingerprints():
            raise Violation(
                "I6", f"the snapshot of {place} at {pointer.offset} is announced as {pointer.fingerprints}"
            )
        if _summary(restored) != _summary(clean):
            text = _difference(_summary(restored), _summary(clean))
            raise Violation("I6", f"the snapshot of {place} at {pointer.offset} holds another state: {text}")
        world.checker.checks["snapshots equal to a clean fold"] += 1
    rest = _feed(clean, place, records[done:])
    if pointers:
        restored = _restored(world, stage, place, pointers[-1])
        if _feed(restored, place, records[done:]) != rest:
            raise Violation("I6", f"the snapshot of {place} at {pointers[-1].offset} goes on otherwise")
    run = world.stages[stage].host(place).runs.get(place)
    if run is not None:
        if _summary(run.processor) != _summary(clean):
            text = _difference(_summary(run.processor), _summary(clean))
            raise Violation("I4", f"{place} is in another state than a clean fold of its log: {text}")
        world.checker.checks["states equal to a clean fold"] += 1


def _check_statistics(world: World) -> None:
    """The last summary under each key says what a summariser says that saw everything at once.

    Where it stood when it said so (offset, watermark) depends on batches, but for the totals.
    """
    told = {key: json.loads(value or b"null") for _, key, value in world.broker.read(STATISTICS.name, 0)}
    clean: dict[bytes | None, Any] = {}
    for place in PLACES["monitor"]:
        for message in _feed(_fresh("monitor", place), place, world.broker.read(*place)):
            clean[message["key"]] = json.loads(message["value"] or b"null")
    for key in clean.keys() | told.keys():
        mine, other = told.get(key), clean.get(key)
        if mine is None or other is None or _said(mine) != _said(other):
            raise Violation("I7", f"statistics {key!r} say {mine}, a clean run {other}")
        world.checker.checks["statistics equal to a clean run"] += 1


def _said(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in MOVING or "start" not in summary}


def _pointers(world: World, stage: str, place: Place) -> list[Snapshot]:
    """Every snapshot that a committed pointer names or named, and that is still there and was not spoilt."""
    key = folder_of(stage, place)
    named: dict[int, Snapshot] = {}
    for record in world.broker.read(checkpoints_topic(place), place[1]):
        if record.key == key.encode():
            kept = _decode(record.value or b"").snapshots
            if [one.offset for one in kept] != sorted({one.offset for one in kept}):
                raise Violation("I6", f"the snapshots of {place} are out of order: {kept}")
            named |= {one.offset: one for one in kept}
    store = world.stages[stage].snapshots
    return [
        one
        for _, one in sorted(named.items())
        if one.digest not in store.spoilt and f"{key}/{one.digest}" in store.blobs
    ]


def _restored(world: World, stage: str, place: Place, pointer: Snapshot) -> Processor:
    processor = _fresh(stage, place)
    try:
        processor.restore(world.stages[stage].snapshots.within(folder_of(stage, place)).get(pointer.digest))
    except Unusable as reason:
        raise Violation("I6", f"{place} points to a snapshot that cannot be used: {reason}") from None
    return processor


def _fresh(stage: str, place: Place) -> Processor:
    return ScoringProcessor(*place) if stage == "scoring" else Summariser(*place, SHAPE)


def _feed(processor: Processor, place: Place, records: list[Record]) -> list[Message]:
    """Everything that comes out, topic by topic."""
    if not records:
        return []
    offsets, keys, values = zip(*records, strict=True)
    outputs = processor.process(Batch(*place, offsets, keys, values))
    return [message for where in sorted(outputs) for message in outputs[where]]


def _summary(processor: Processor) -> Any:
    """What a state answers for; of a summariser all of it, but for the batch in which each window was last told."""
    if isinstance(processor, Summariser):
        state = json.loads(processor.snapshot())
        for window in (state["total"], *state["open"].values(), *state["kept"].values()):
            for name in MOVING:
                window.pop(name, None)
        return state
    assert isinstance(processor, ScoringProcessor)
    shard = processor.shard
    models = [
        (
            slot.model, slot.version, slot.role, slot.frozen, slot.answered, slot.learned, slot.failures,
            slot.fingerprint(), checkpoint.fingerprint(slot.plan), slot.metrics.overall().view(),
        )
        for slot in shard.slots.values()
    ]  # fmt: skip
    champion = shard.champion.model if shard.champion is not None else ""
    return shard.offset, shard.watermark, shard.pending, champion, msgspec.to_builtins(shard.counters), models


def _difference(mine: Any, clean: Any) -> str:
    """Where two states differ first, as words."""
    if isinstance(mine, dict) and isinstance(clean, dict):
        pairs = [(name, mine.get(name), clean.get(name)) for name in sorted({*mine, *clean})]
    elif isinstance(mine, list | tuple) and isinstance(clean, list | tuple) and len(mine) == len(clean):
        pairs = [(str(place), *both) for place, both in enumerate(zip(mine, clean, strict=True))]
    else:
        return f"{mine!r}, not {clean!r}"
    return next(f"{name}: {_difference(got, wanted)}" for name, got, wanted in pairs if got != wanted)
