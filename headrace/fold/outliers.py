"""Outliers and anomalies: what an observation looks like beside those before it, told with its prediction.

Bounds look at each field by itself, trees at all fields together: River's half-space trees, which find what is rare
although each of its values is not. An observation is judged first and learnt from then, so that it never has a say in
its own judgement. All of it is a function of the observations so far: no clock, a seed from the stream's name, and
numbers are added in the log's order. Whatever is seen is learnt, outliers too, so a stream that has moved for good is
normal again once its field's windows have moved with it. What is missing, or no number, is never an outlier.
"""

import math
from collections import deque
from hashlib import blake2b
from heapq import heappush, heapreplace
from sys import float_info

import msgspec
from river.anomaly import HalfSpaceTrees

from headrace.contracts.events import Features, Prediction
from headrace.contracts.outliers import UNWATCHED, watched
from headrace.contracts.stream import StreamContract

RENEWALS = 4
"""How often deciles are taken anew within a window; the first are taken when so much of it is there."""
TREES = 25
HEIGHT = 6
"""More levels found no more on real streams, and made states three times as large."""
REACH = 4.0
"""Trees tell values apart up to so many times as far from the median as the outer decile."""
RANKS = 4
"""Scores of a block that are kept: the lowest of them is the bound of the next. More would be steadier, and slower."""


class Span(msgspec.Struct):
    """The newest values of one field, and what they make of the next: median, distance of the outer deciles, bounds."""

    name: str
    recent: deque[float]
    fresh: int = 0
    middle: float = 0.0
    below: float = math.inf
    above: float = math.inf
    low: float = -math.inf
    high: float = math.inf

    def renew(self, fence: float) -> None:
        """Take the deciles anew. A side on which the outer decile is the median has no bound: one value is too usual.

        Deciles, as up to one value in ten may then be wrong on one side before a bound follows. Each side by itself, as
        few fields are symmetric.
        """
        values = sorted(self.recent)
        place = len(values) // 10
        self.fresh = 0
        self.middle = middle = values[len(values) // 2]
        self.below, self.above = middle - values[place], values[-1 - place] - middle
        self.low = middle - fence * self.below if self.below else -math.inf
        self.high = middle + fence * self.above if self.above else math.inf

    def place(self, value: float) -> float:
        """Where a value stands in [0, 1]: the median at a half, what is far out at an end."""
        distance = value - self.middle
        if not distance:
            return 0.5
        unit = self.above if distance > 0 else self.below
        if not unit:
            return 1.0 if distance > 0 else 0.0
        return max(0.0, min(1.0, 0.5 + distance / unit / (2 * REACH)))


class Rarest(msgspec.Struct):
    """Tells whether a score is among the highest `share`.

    The bound is the k-th highest score of the block before. With blocks of k / share - 1 scores, and scores that do not
    depend on their place, one more exceeds it with a chance of exactly `share`, whatever they are distributed like
    (less, if many are equal). It must be among the k highest of its own block so far as well: on a stream that has
    moved, all would be rare until the block ends, which helps nobody. Blocks double up to `RANKS`, so that the first
    bound comes early and later ones are steady.
    """

    share: float
    rank: int = 1
    bound: float = math.inf
    seen: int = 0
    highest: list[float] = msgspec.field(default_factory=list)

    def exceeds(self, score: float) -> bool:
        """Judge a score, then learn it."""
        among = True
        if len(self.highest) < self.rank:
            heappush(self.highest, score)
        elif score > self.highest[0]:
            heapreplace(self.highest, score)
        else:
            among = False
        exceeds = among and score > self.bound
        self.seen += 1
        if self.seen >= round(self.rank / self.share) - 1:
            self.bound = self.highest[0]
            self.rank, self.seen, self.highest = min(2 * self.rank, RANKS), 0, []
        return exceeds


class Outliers:
    """Watches one partition's observations as a contract says. Keeps `window` values of each field, and the trees."""

    def __init__(self, contract: StreamContract) -> None:
        spec = contract.outliers
        self._spec = spec
        self._renewal = spec.window // RENEWALS
        self._spans = [Span(name, deque(maxlen=spec.window)) for name in watched(contract)]
        self._bounds = "bounds" in spec.methods
        self._trees: HalfSpaceTrees | None = None
        if "trees" in spec.methods:
            seed = int.from_bytes(blake2b(contract.name.encode(), digest_size=4).digest(), "big")
            self._trees = HalfSpaceTrees(TREES, HEIGHT, spec.window, seed=seed)
        self._rarest = Rarest(spec.share)
        self._seen = 0

    def watches_as(self, contract: StreamContract) -> bool:
        """Whether the contract asks for just this, so that what was learnt stands."""
        names = [span.name for span in self._spans]
        return contract.outliers == self._spec and watched(contract) == names

    def mark(self, prediction: Prediction, x: Features) -> None:
        """Judge an observation, write that into its prediction, and learn the observation."""
        self._seen += 1
        renewal = self._renewal
        trees = self._trees
        places: dict[str, float] = {}
        for span in self._spans:
            value = x.get(span.name)
            kind = type(value)
            if not (kind is float or kind is int) or not -float_info.max <= value <= float_info.max:  # type: ignore[operator]  # narrowed by `kind`
                if trees is not None:
                    places[span.name] = 0.5
                continue
            number = float(value)  # type: ignore[arg-type]  # as above
            if self._bounds and not span.low <= number <= span.high:
                if prediction.outliers is None:
                    prediction.outliers = []
                prediction.outliers.append(span.name)
            if trees is not None:
                places[span.name] = span.place(number)
            span.recent.append(number)
            span.fresh += 1
            if span.fresh >= renewal:
                span.renew(self._spec.fence)
        if trees is not None and self._seen > renewal:
            if self._seen > renewal + self._spec.window:
                prediction.anomaly = score = float(trees.score_one(places))
                prediction.anomalous = self._rarest.exceeds(score)
            trees.learn_one(places)


def watching(contract: StreamContract, before: Outliers | None) -> Outliers | None:
    """Who watches from this contract on: as before if it asks for the same, else afresh; None: nobody."""
    if contract.outliers == UNWATCHED:
        return None
    return before if before is not None and before.watches_as(contract) else Outliers(contract)
