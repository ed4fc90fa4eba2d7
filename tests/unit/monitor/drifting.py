"""What the tests of drift detection share: made-up streams, and the same records cut into batches in different ways."""

import msgspec
import numpy as np
from hypothesis import strategies as st

cuts = st.lists(st.integers(0, 700), max_size=8)
"""Batch lengths; what is left comes in one batch."""


def spans(count, lengths):
    """Batches of `count` records as (start, end), empty ones too."""
    found, start = [], 0
    for length in lengths:
        end = min(start + length, count)
        found.append((start, end))
        start = end
    return [*found, (start, count)]


def restored(state):
    """A state that has been JSON in between."""
    return msgspec.json.decode(msgspec.json.encode(state), type=type(state))


def bits(rate, count, seed):
    """Independent 0/1, a byte each."""
    return (np.random.default_rng(seed).random(count) < rate).astype(np.uint8).tobytes()


def normal(fields, count, seed, phi=0.0):
    """Columns of stationary normal series of variance 1 by name."""
    series = np.random.default_rng(seed).standard_normal((fields, count))
    for at in range(1, count if phi else 0):
        series[:, at] = phi * series[:, at - 1] + np.sqrt(1 - phi * phi) * series[:, at]
    return {f"f{at}": column for at, column in enumerate(series)}


def piece(columns, start, end):
    """Some records of all columns."""
    return {name: column[start:end] for name, column in columns.items()}
