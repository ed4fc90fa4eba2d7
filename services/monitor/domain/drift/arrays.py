"""Arrays in a state that is plain JSON: their bytes, with type and shape."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Cells = NDArray[np.uint8]


class Packed(msgspec.Struct, frozen=True):
    """An array, little-endian, in C order."""

    type: str
    shape: list[int]
    data: bytes


def pack(array: NDArray[Any]) -> Packed:
    """The array as it is now."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return Packed(little.dtype.str, list(array.shape), little.tobytes())


def unpack(packed: Packed) -> NDArray[Any]:
    """The array again, writable."""
    native = np.dtype(packed.type).newbyteorder("=")
    return np.frombuffer(packed.data, packed.type).reshape(packed.shape).astype(native)
