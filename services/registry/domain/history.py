"""Who stood on a stream at any time: its decisions up to then, made again by the rules that made them."""

from collections.abc import Iterable
from typing import NamedTuple

from headrace.contracts.events import (
    Control,
    LearningFrozen,
    ModelDeployed,
    ModelPromoted,
    ModelRebuilt,
    ModelRetired,
    TrafficShared,
)
from services.registry.domain import lifecycle
from services.registry.domain.lifecycle import LineUp


class Decision(NamedTuple):
    """A decision of the journal. offsets: from where on in each partition of the log; None: pending."""

    sequence: int
    control: Control
    made_ms: int
    made_by: str
    offsets: dict[str, int] | None


class Standing(NamedTuple):
    """A line-up and the last decision about each model in it.

    previous: (model, version) of the champion before the present one, or of the last if there is none now.
    """

    line_up: LineUp
    decided: dict[str, Decision]
    previous: tuple[str, int] | None


def standing(decisions: Iterable[Decision]) -> Standing:
    """What the decisions, oldest first, come to."""
    line_up: LineUp = {}
    decided: dict[str, Decision] = {}
    last: tuple[str, int] | None = None
    before: tuple[str, int] | None = None
    for decision in decisions:
        after = followed(line_up, decision.control)
        for model in after:
            if after[model] != line_up.get(model):
                decided[model] = decision
        line_up = after
        first = lifecycle.champion(line_up)
        if first is not None and (first.model, first.version) != last:
            last, before = (first.model, first.version), last
    return Standing(line_up, decided, last if lifecycle.champion(line_up) is None else before)


def followed(line_up: LineUp, control: Control) -> LineUp:
    """The line-up after a decision."""
    match control:
        case ModelDeployed(model=model, version=version, role=role):
            after = lifecycle.deploy(line_up, model, version, "", role)
        case ModelPromoted(model=model):
            after = lifecycle.promote(line_up, model)
        case TrafficShared(model=model, share=part):
            after = lifecycle.share(line_up, model, part)
        case ModelRetired(model=model):
            after = lifecycle.retire(line_up, model)
        case LearningFrozen(model=model, frozen=frozen):
            after = lifecycle.freeze(line_up, model, frozen)
        case ModelRebuilt(model=model, version=version):
            after = lifecycle.rebuild(line_up, model, version, "")
        case _:
            after = None  # a contract
    return line_up if after is None else after
