"""What a shard holds of each record while it waits, and what a run of records gives."""

from hashlib import blake2b
from typing import NamedTuple

import msgspec

from headrace.contracts.events import Answer, Features, Label, ModelDeployed, Outcome, Prediction
from headrace.contracts.left_out import Below
from headrace.fold.slot import ModelSlot


class Refused(NamedTuple):
    """A record that the fold could not use: its offset, the rule it broke, why, and event time then (0 unknown)."""

    offset: int
    rule: str
    reason: str
    at: int = 0


Asked = tuple[ModelSlot, Features, Answer | Prediction]
"""A model that was asked, what it saw, what it said."""


PLACES = 1 << 32


def place(model: str, entity: str) -> int:
    """Where an entity stands among `PLACES`, for one model: what a canary answers are the first of them.

    By model, so that it is not the same entities on whom everything new is tried.
    """
    digest = blake2b(f"{model}/{entity}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


class Rebuild(NamedTuple):
    """A model that the log up to an offset makes without some records.

    since: offset of its deployment, which stands whatever is left out. until: the first offset not folded. deployed: of
    one that learnt before its deployment; `since` means nothing then.
    """

    model: str
    since: int
    without: tuple[Below, ...]
    until: int
    deployed: ModelDeployed | None = None


class Waiting(msgspec.Struct, gc=False):
    """An observation without its label. (A struct, as one is made per observation.)"""

    prediction: Prediction
    x: Features
    asked: tuple[Asked, ...]


class Early(NamedTuple):
    """A label whose observation has not come yet."""

    label: Label
    offset: int


class Folded:
    """What a run of records gave, in log order."""

    __slots__ = ("outcomes", "predictions", "refused")

    def __init__(self) -> None:
        self.predictions: list[Prediction] = []
        self.outcomes: list[Outcome] = []
        self.refused: list[Refused] = []
