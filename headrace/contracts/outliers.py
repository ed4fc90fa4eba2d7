"""What a stream's observations are watched for: the part of a contract that says so.

Part of the contract, not a setting, because flags stand in predictions: so they come from the log alone, and a replay
gives the same ones. How an observation is judged stands in `headrace.fold.outliers`.
"""

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from headrace.contracts.coherence import NUMERIC
from headrace.errors import Unusable

if TYPE_CHECKING:
    from headrace.contracts.stream import StreamContract

WATCHED = 64
"""Most fields that are watched: each keeps `window` values."""

WINDOW = (20, 4_000)
"""Fewest and most values that a field's bounds are made of."""

SHARE = (1e-5, 0.1)
"""Least and largest share."""

FENCE = (1.0, 1e6)
"""Nearest and farthest bounds."""


class OutlierSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How observations are watched; without a method they are not.

    methods: `bounds` (each field by itself) and `trees` (all fields together). fields: which; None: every feature that
    is a number or an integer, the first `WATCHED` of them. fence: bounds lie so many times as far from the median as
    the outer decile on that side. share: of observations that trees flag on a stream that does not change. window:
    newest values of a field from which its median and deciles are taken.
    """

    methods: list[Literal["bounds", "trees"]] = []
    fields: list[str] | None = None
    fence: float = 4.0
    share: float = 0.001
    window: int = 1000


UNWATCHED = OutlierSpec()
"""One object, as the plain form of a contract leaves out what is the default itself."""


def watched(contract: "StreamContract") -> list[str]:
    """The names of the fields that are watched, in the contract's order. The contract is a checked one."""
    spec = contract.outliers
    if not spec.methods:
        return []
    numeric = [field.name for field in contract.fields if field.feature and field.type in NUMERIC]
    return numeric[:WATCHED] if spec.fields is None else [name for name in numeric if name in spec.fields]


def check_outliers(contract: "StreamContract") -> None:
    """Raise `Unusable`, naming the place, for what cannot be watched. Features are settled."""
    spec = contract.outliers
    if spec == UNWATCHED:
        return
    if not spec.methods or len(set(spec.methods)) != len(spec.methods):
        raise Unusable("bounds, trees, or both, each once", where="outliers.methods")
    if spec.fields is not None:
        if not 1 <= len(spec.fields) <= WATCHED or len(set(spec.fields)) != len(spec.fields):
            raise Unusable(f"1 to {WATCHED} fields, each once", where="outliers.fields")
        numeric = {field.name for field in contract.fields if field.feature and field.type in NUMERIC}
        for index, name in enumerate(spec.fields):
            if name not in numeric:
                raise Unusable(
                    f"{name!r} is no feature that is a number or an integer",
                    where=f"outliers.fields[{index}]",
                )
    elif not watched(contract):
        raise Unusable("no feature is a number or an integer: there is nothing to watch", where="outliers")
    for name, value, (least, most) in (
        ("fence", spec.fence, FENCE),
        ("share", spec.share, SHARE),
        ("window", spec.window, WINDOW),
    ):
        if not (math.isfinite(value) and least <= value <= most):
            raise Unusable(f"between {least:g} and {most:g}", where=f"outliers.{name}")
