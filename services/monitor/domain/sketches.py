"""The distribution of a field's numbers in at most `BUCKETS` buckets, from which ranks and quantiles are read.

A double's bits, read as an integer, rise with its value: logarithmically over the octaves, evenly within one. A bucket
is all doubles that agree but for their last `shift` bits, and the shift is the smallest that leaves at most `BUCKETS`
buckets. So few different values are told exactly, prices are resolved by their size, and times or degrees, which all
lie within an octave, evenly. Nothing is random and nothing depends on order: the same numbers give the same sketch,
whatever the batches, restarts and partitions were, which neither KLL nor t-digest promise (decision 0017).
"""

from struct import pack, unpack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.contracts.statistics import Sketch

BUCKETS = 256

Numbers = NDArray[np.float64]
Keys = NDArray[np.int64]

_MAGNITUDE = 0x7FFF_FFFF_FFFF_FFFF
_LARGEST = 0x7FEF_FFFF_FFFF_FFFF
"""The key of the largest double."""


def add(sketch: Sketch, values: Numbers) -> None:
    """Count finite numbers."""
    if values.size:
        keys, counts = np.unique(_keys(values) >> sketch.shift, return_counts=True)
        _put(sketch, keys, counts, sketch.shift)


def merge(into: Sketch, other: Sketch) -> None:
    """Count what another sketch has counted."""
    if other.buckets:
        _put(into, *_columns(other), other.shift)


def quantile(sketch: Sketch, q: float) -> float | None:
    """The number that a share `q` of all did not exceed, to within its bucket; None of nothing."""
    total = sum(sketch.buckets.values())
    if not total:
        return None
    rank = q * (total - 1)
    below, low, high = 0, 0.0, 0.0
    for bucket, count in sorted(sketch.buckets.items()):
        low, high = bounds(sketch, bucket)
        if below + count > rank:
            return low + (high - low) * ((rank - below + 0.5) / count)
        below += count
    return high


def bounds(sketch: Sketch, bucket: int) -> tuple[float, float]:
    """The smallest and the largest number of a bucket."""
    low = bucket << sketch.shift
    return _number(low), _number(low + (1 << sketch.shift) - 1)


def _keys(values: Numbers) -> Keys:
    bits = (values + 0.0).view(np.int64)  # -0.0 becomes 0.0
    return bits ^ ((bits >> 63) & _MAGNITUDE)


def _number(key: int) -> float:
    key = min(max(key, ~_LARGEST), _LARGEST)
    number: float = unpack("<d", pack("<q", key if key >= 0 else key ^ _MAGNITUDE))[0]
    return number


def _columns(sketch: Sketch) -> tuple[Keys, Keys]:
    size = len(sketch.buckets)
    return (
        np.fromiter(sketch.buckets.keys(), np.int64, size),
        np.fromiter(sketch.buckets.values(), np.int64, size),
    )


def _summed(keys: Keys, counts: Keys) -> tuple[Keys, Keys]:
    """Different keys, rising, and their counts."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first: NDArray[Any] = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[first], np.add.reduceat(counts[order], first)


def _put(sketch: Sketch, keys: Keys, counts: Keys, shift: int) -> None:
    """Add counts of keys without their last `shift` bits, and coarsen the sketch as far as need be."""
    mine, my_counts = _columns(sketch)
    coarser = max(sketch.shift, shift)
    keys, counts = _summed(
        np.concatenate((mine >> (coarser - sketch.shift), keys >> (coarser - shift))),
        np.concatenate((my_counts, counts)),
    )
    if keys.size > BUCKETS:
        # Neighbours that first differ in bit n fall together from a shift of n + 1 on.
        apart = (keys[1:] ^ keys[:-1]).view(np.uint64)
        more = min(int(np.partition(apart, -BUCKETS)[-BUCKETS]).bit_length(), 63 - coarser)
        keys, counts = _summed(keys >> more, counts)
        coarser += more
    sketch.shift = coarser
    sketch.buckets = dict(zip(keys.tolist(), counts.tolist(), strict=True))
