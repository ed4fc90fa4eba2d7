"""What scoring shows of its shards: counts and live metrics, a partition at a time and in total."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headrace.fold.counters import Counters
from headrace.fold.shard import Shard
from headrace.fold.slot import ModelSlot


def stream_view(stream: str, shards: Mapping[int, Shard]) -> dict[str, Any]:
    """The metrics document of one stream (shape: docs/scoring.md)."""
    return {
        "stream": stream,
        "partitions": {str(partition): _shard_view(shard) for partition, shard in sorted(shards.items())},
        "total": _total_view(shards.values()),
    }


def _shard_view(shard: Shard) -> dict[str, Any]:
    return {
        "offset": shard.offset,
        "watermark": shard.watermark,
        **_counts(shard.counters, shard.pending),
        "models": [
            {
                **_model_view([slot]),
                "since": slot.since,
                "left_out": list(msgspec.to_builtins(slot.left_out)),
                "deployed": msgspec.to_builtins(slot.deployed),
            }
            for slot in shard.slots.values()
        ],
    }


def _total_view(shards: Iterable[Shard]) -> dict[str, Any]:
    counters = Counters()
    pending = 0
    slots: dict[tuple[str, int], list[ModelSlot]] = {}
    watermark: int | None = None
    for shard in shards:
        for name in counters.__struct_fields__:
            setattr(counters, name, getattr(counters, name) + getattr(shard.counters, name))
        pending += shard.pending
        watermark = shard.watermark if watermark is None else min(watermark, shard.watermark)
        for slot in shard.slots.values():
            slots.setdefault((slot.model, slot.version), []).append(slot)
    return {
        "watermark": watermark or 0,
        **_counts(counters, pending),
        "models": [_model_view(group) for group in slots.values()],
    }


def _counts(counters: Counters, pending: int) -> dict[str, int]:
    return {
        "predictions": counters.observations,
        "outcomes": counters.labelled + counters.expired + counters.corrected + counters.unmatched
        + counters.second_labels,
        "pending": pending,
        **msgspec.to_builtins(counters),
    }  # fmt: skip


def _model_view(slots: list[ModelSlot]) -> dict[str, Any]:
    """One model over one or more shards; sums and histograms merge exactly."""
    first = slots[0]
    overall, windowed = first.metrics.overall(), first.metrics.windowed()
    for slot in slots[1:]:
        overall.merge(slot.metrics.overall())
        windowed.merge(slot.metrics.windowed())
    return {
        "model": first.model,
        "version": first.version,
        "role": first.role,
        "frozen": first.frozen,
        "answered": sum(slot.answered for slot in slots),
        "learned": sum(slot.learned for slot in slots),
        "failures": sum(slot.failures for slot in slots),
        "metrics": {"overall": overall.view(), "windowed": windowed.view()},
    }
