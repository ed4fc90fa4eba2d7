"""One budget of false alarms for a stream, spread over everything that watches it.

Rates of false alarms add up, whatever the dependence between watches: if watch i alone is wrong at most once in n_i
records and the sum of 1 / n_i is at most 1 / N, then all of them together are wrong at most once in N records. So the
budget is a rate that is cut in pieces: first by kind of drift, then evenly (or by weight) among the watches of a kind.
More watches cost sensitivity, but only by the logarithm of their number.
"""

from collections.abc import Mapping

import msgspec

from headrace.contracts.events import DriftKind
from headrace.errors import Unusable

RECORDS = 100_000
"""By default a stream has at most one false alarm in so many records."""

WEIGHTS: dict[DriftKind, float] = {
    "concept": 4.0,
    "data": 3.0,
    "bias": 2.0,
    "prediction": 1.0,
    "volume": 0.5,
    "delay": 0.5,
    "quality": 0.0,
}
"""Falling quality is what people must know soonest. Rules on quality are not sequential tests and have no share."""


class Budget(msgspec.Struct, frozen=True):
    """At most one false alarm in `records` records of the stream, spread by `weights` over the kinds that are
    watched.
    """

    records: float = RECORDS
    weights: dict[DriftKind, float] = msgspec.field(default_factory=lambda: dict(WEIGHTS))

    def spread(self, watches: Mapping[DriftKind, Mapping[str, float]]) -> dict[DriftKind, dict[str, float]]:
        """Records for one false alarm, for each watch by kind and name.

        watches: each watch's weight among those of its kind. Kinds without watches leave their share to the others.
        Raises Unusable for a budget below one record, and for a watch or its kind without a positive weight.
        """
        if not self.records >= 1:
            raise Unusable("a budget is at least one record for a false alarm", where="budget.records")
        kinds = {kind: self.weights.get(kind, 0.0) for kind, named in watches.items() if named}
        for kind, named in watches.items():
            for name, weight in named.items():
                if not (weight > 0 and kinds[kind] > 0):
                    raise Unusable(
                        f"{kind} drift of {name!r} has no share of the budget", where="budget.weights"
                    )
        everything = sum(kinds.values())
        return {
            kind: {
                name: self.records * (everything / kinds[kind]) * (sum(named.values()) / weight)
                for name, weight in named.items()
            }
            for kind, named in watches.items()
        }
