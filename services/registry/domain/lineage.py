"""What a model version learnt from: its lives on streams, made again from their decisions.

A version lives on a stream from the decision that puts it there to the one that takes it away. It has learnt the labels
of the log between the two, or from the log's start if it was deployed so; a rebuild goes on with its parent's
beginning, without some records. Nothing of this is written down anywhere: it follows from the journal.
"""

from collections.abc import Iterable
from typing import NamedTuple

from headrace.contracts.events import ContractAdopted, ModelDeployed, ModelRebuilt
from headrace.contracts.left_out import LeftOut
from services.registry.domain.history import Decision, followed
from services.registry.domain.lifecycle import Deployed, LineUp


class Place(NamedTuple):
    """How a model stood from a decision on."""

    decision: Decision
    deployed: Deployed


class Left(NamedTuple):
    """What a version never learnt, where it lies below the offsets of a decision."""

    what: LeftOut
    below: Decision


class Life(NamedTuple):
    """A version's life on a stream.

    beginning: the decision from whose offsets on it learns; a rebuild's is its parent's. without: what it never learnt.
    contracts: versions in force meanwhile. ended: None while it lives.
    """

    model: str
    version: int
    beginning: Decision
    without: tuple[Left, ...]
    contracts: tuple[int, ...]
    places: tuple[Place, ...]
    ended: Decision | None

    def range(self, partition: str) -> tuple[int, int | None] | None:
        """Offsets of a partition that it has learnt, from and before; before None: to the end. None: not there yet."""
        if self.beginning.offsets is None:
            return None
        end = None if self.ended is None or self.ended.offsets is None else self.ended.offsets[partition]
        control = self.beginning.control
        if isinstance(control, ModelDeployed) and control.learnt:  # all that lay there before, too
            return 0, end
        return self.beginning.offsets[partition], end


def lives(decisions: Iterable[Decision]) -> list[Life]:
    """All lives on a stream, in the order in which they began."""
    line_up: LineUp = {}
    over: list[Life] = []
    now: dict[str, Life] = {}
    contract = 0
    for decision in decisions:
        control = decision.control
        if isinstance(control, ContractAdopted):
            contract = control.version
            now = {name: life._replace(contracts=(*life.contracts, contract)) for name, life in now.items()}
            continue
        after = followed(line_up, control)
        for model, deployed in after.items():
            before = now.get(model)
            begins = isinstance(control, ModelDeployed | ModelRebuilt) and control.model == model
            if before is not None and (begins or deployed.role == "retired"):
                over.append(before._replace(ended=decision))
                del now[model]
            if begins and isinstance(control, ModelRebuilt) and before is not None:
                now[model] = before._replace(
                    version=control.version,
                    without=(*before.without, Left(control.without, decision)),
                    contracts=(contract,),
                    places=(),
                )
            elif begins:
                left_out = control.without if isinstance(control, ModelDeployed) else LeftOut()
                without = (Left(left_out, decision),) if left_out else ()
                now[model] = Life(model, deployed.version, decision, without, (contract,), (), None)
            if model in now and (begins or deployed != line_up.get(model)):
                life = now[model]
                now[model] = life._replace(places=(*life.places, Place(decision, deployed)))
        line_up = after
    return sorted([*over, *now.values()], key=lambda life: life.places[0].decision.sequence)
