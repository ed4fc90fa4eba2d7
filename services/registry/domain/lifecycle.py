"""What may become of the models on one stream.

The state is the stream's *line-up*: its models by name, each with its version and role. Every rule is a function from
a line-up to the next one, or None if it is so already, so that a request sent twice does no harm; a request that the
rules forbid raises `Conflict` and says what to do instead. The fold mirrors these rules (`headrace.fold.shard`): if
they ever differ, what the registry shows is not what answers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from headrace.errors import HeadraceError, Unusable
from services.registry.domain.controls import Verb

Standing = Literal["champion", "challenger", "retired"]

LONGEST_NAME = 63
MODEL_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}")
MOST_MODELS = 32
"""Models on one stream at once: every one of them answers every observation."""


class Conflict(HeadraceError):
    """What was asked contradicts what is. Duty: look at the present state and ask for something else."""

    def __init__(self, reason: str, changes: list[str] | None = None) -> None:
        super().__init__(reason)
        self.changes = changes or []


@dataclass(frozen=True, slots=True)
class Deployed:
    """A model's place on a stream. digest: of its specification. share: of the entities that a canary answers."""

    model: str
    version: int
    digest: str
    role: Standing
    frozen: bool = False
    share: float = 0.0


LineUp = Mapping[str, Deployed]


def check_model_name(name: str) -> str:
    """Return `name` if a model may be called so, else raise `Unusable`."""
    if not MODEL_NAME.fullmatch(name):
        raise Unusable(
            f"{name!r} is no model name: use a-z, 0-9, _ and -, begin with a letter, at most {LONGEST_NAME} long",
            where="name",
        )
    return name


def champion(line_up: LineUp) -> Deployed | None:
    """Who answers, if anybody."""
    return next((deployed for deployed in line_up.values() if deployed.role == "champion"), None)


def deploy(
    line_up: LineUp, model: str, version: int, digest: str, role: Literal["champion", "challenger"]
) -> LineUp | None:
    """Put a version of a model on the stream, untrained; another version of it that is there gives way."""
    present = line_up.get(model)
    if present is not None and present.role != "retired":
        if present.version == version:
            if present.role == role:
                return None
            if role == "champion":
                raise Conflict(
                    f"{model} version {version} is deployed as challenger: promote it, it keeps its state"
                )
        if present.role == "champion" and role == "challenger":
            raise Conflict(
                f"{model} is the champion: promote another model before it is replaced by a challenger"
            )
    else:
        active = [deployed for deployed in line_up.values() if deployed.role != "retired"]
        if len(active) >= MOST_MODELS:
            raise Conflict(f"at most {MOST_MODELS} models on a stream: retire one first")
    after = {**line_up, model: Deployed(model, version, digest, role)}
    return _with_champion(after, model) if role == "champion" else after


def promote(line_up: LineUp, model: str) -> LineUp | None:
    """Make a deployed model the champion; the old champion goes on as a challenger. Both keep what they learnt."""
    if _active(line_up, model).role == "champion":
        return None
    return _with_champion(line_up, model)


def retire(line_up: LineUp, model: str) -> LineUp | None:
    """Take a model off the stream; what it learnt is dropped. A champion goes last."""
    present = line_up.get(model)
    if present is None:
        raise _unknown(model)
    if present.role == "retired":
        return None
    others = [deployed for deployed in line_up.values() if deployed.role == "challenger"]
    if present.role == "champion" and others:
        raise Conflict(f"{model} is the champion: promote another model first, or retire the challengers")
    return {**line_up, model: replace(present, role="retired", frozen=False, share=0.0)}


def freeze(line_up: LineUp, model: str, frozen: bool) -> LineUp | None:
    """Stop (or resume) a model's learning; it goes on answering."""
    present = _active(line_up, model)
    return None if present.frozen == frozen else {**line_up, model: replace(present, frozen=frozen)}


def change(line_up: LineUp, model: str, verb: Verb) -> LineUp | None:
    """Promote, retire, freeze or unfreeze a deployed model."""
    match verb:
        case "promote":
            return promote(line_up, model)
        case "retire":
            return retire(line_up, model)
        case _:
            return freeze(line_up, model, verb == "freeze")


def share(line_up: LineUp, model: str, part: float) -> LineUp | None:
    """Let a challenger answer a part of the entities, 0 to 1; whoever did so before does no more."""
    present = _active(line_up, model)
    if present.role == "champion":
        raise Conflict(f"{model} is the champion: it answers whom no canary answers")
    if present.share == part:
        return None
    others = {name: replace(deployed, share=0.0) for name, deployed in line_up.items()}
    return {**others, model: replace(present, share=part)}


def rebuild(line_up: LineUp, model: str, version: int, digest: str) -> LineUp:
    """Let a deployed model go on as another version of itself, in the same role, learning."""
    present = _active(line_up, model)
    return {**line_up, model: replace(present, version=version, digest=digest, frozen=False)}


def _active(line_up: LineUp, model: str) -> Deployed:
    present = line_up.get(model)
    if present is None:
        raise _unknown(model)
    if present.role == "retired":
        raise Conflict(f"{model} is retired: deploy it again")
    return present


def _unknown(model: str) -> Conflict:
    return Conflict(f"{model} is not deployed on this stream: deploy it first")


def _with_champion(line_up: LineUp, model: str) -> LineUp:
    """The line-up with `model` as its only champion, and no canary."""
    changed = {}
    for name, deployed in line_up.items():
        role: Standing = "challenger" if deployed.role == "champion" else deployed.role
        changed[name] = replace(deployed, role="champion" if name == model else role, share=0.0)
    return changed
