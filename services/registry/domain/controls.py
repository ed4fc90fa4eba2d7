"""Control records: what a decision looks like in the log.

Ids are deterministic (stream, what, a number that counts the stream's decisions), so that writing one again after a
crash is seen as the repeat it is. `at` is 0, "no event time": the registry's clock is not the stream's, and a replayed
year would expire at once if a deployment of today moved its watermark.
"""

from typing import Any, Literal

from headrace.contracts.codec import encode
from headrace.contracts.events import (
    ContractAdopted,
    Control,
    LearningFrozen,
    ModelDeployed,
    ModelPromoted,
    ModelRebuilt,
    ModelRetired,
    TrafficShared,
)
from headrace.contracts.left_out import LeftOut

Verb = Literal["promote", "retire", "freeze", "unfreeze"]

NO_EVENT_TIME = 0


def adopted(stream: str, version: int, contract: dict[str, Any]) -> tuple[str, bytes]:
    """Id and bytes of the record that makes the stream follow a contract version."""
    return _written(ContractAdopted(f"contract/{stream}/{version}", NO_EVENT_TIME, version, contract))


def deployed(
    stream: str,
    sequence: int,
    model: str,
    version: int,
    specification: dict[str, Any],
    role: Literal["champion", "challenger"],
    *,
    learnt: bool = False,
    without: LeftOut = LeftOut(),  # noqa: B008  # it is frozen
) -> tuple[str, bytes]:
    """Id and bytes of the record that puts a model on the stream.

    learnt: with what the log would have taught it, but for `without`.
    """
    identity = f"deploy/{stream}/{model}/{version}/{sequence}"
    control = ModelDeployed(identity, NO_EVENT_TIME, model, version, specification, role, learnt, without)
    return _written(control)


def rebuilt(stream: str, sequence: int, model: str, version: int, without: LeftOut) -> tuple[str, bytes]:
    """Id and bytes of the record that makes a model go on as if some records had never been learnt."""
    identity = f"rebuild/{stream}/{model}/{version}/{sequence}"
    return _written(ModelRebuilt(identity, NO_EVENT_TIME, model, version, without))


def shared(stream: str, sequence: int, model: str, share: float) -> tuple[str, bytes]:
    """Id and bytes of the record that makes a challenger a canary."""
    return _written(TrafficShared(f"share/{stream}/{model}/{sequence}", NO_EVENT_TIME, model, share))


def changed(stream: str, sequence: int, model: str, verb: Verb) -> tuple[str, bytes]:
    """Id and bytes of the record that changes a deployed model."""
    identity = f"{verb}/{stream}/{model}/{sequence}"
    match verb:
        case "promote":
            return _written(ModelPromoted(identity, NO_EVENT_TIME, model))
        case "retire":
            return _written(ModelRetired(identity, NO_EVENT_TIME, model))
        case _:
            return _written(LearningFrozen(identity, NO_EVENT_TIME, model, verb == "freeze"))


def _written(control: Control) -> tuple[str, bytes]:
    return control.id, encode(control)
