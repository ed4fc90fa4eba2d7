"""What to do about an alarm, by stated rules: the first that fits speaks. All of them stand in `RULES`.

Rules look at what was measured around the alarm, not at how strong the alarm was. They advise; nothing follows by
itself.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from headrace.contracts.events import DriftDetected
from services.monitor.domain.why.parts import FEWEST_LABELS, LossChange, Part
from services.monitor.domain.why.shifts import Change

Action = Literal["retrain", "mend the source", "roll back", "ignore", "look closer"]

SOON = 1_000
"""Labels between a version's first answer and the change, up to which the one is taken for the cause of the other."""
LARGER = 0.2
"""By this share a loss that is larger is worth a look, even within chance."""
NAMED = 3
"""Fields, or parts, that a reason names."""


class Advice(msgspec.Struct, frozen=True):
    """What to do, by which rule, and why."""

    action: Action
    rule: str
    reason: str


class Takeover(msgspec.Struct, frozen=True):
    """Another version began to answer. labels: that became known of answers between it and the change."""

    offset: int
    at: int
    previous: str
    model: str
    labels: int


class Rival(msgspec.Struct, frozen=True):
    """Another version that was asked too, on the same records since the change. apart: its loss less the model's."""

    model: str
    loss: float
    apart: float
    error: float
    count: int
    better: bool


class Evidence(NamedTuple):
    """What the rules look at. waiting: observations since the change whose label is not known."""

    drift: DriftDetected
    changes: Sequence[Change]
    loss: LossChange | None
    recovered: bool
    parts: Sequence[Part]
    takeovers: Sequence[Takeover]
    rivals: Sequence[Rival]
    waiting: int


class Rule(NamedTuple):
    """name; action; when: in words; reason: in words if it fits, else None."""

    name: str
    action: Action
    when: str
    reason: Callable[[Evidence], str | None]


def advise(evidence: Evidence) -> Advice:
    """The first rule that fits; the last always does."""
    for rule in RULES:
        reason = rule.reason(evidence)
        if reason is not None:
            return Advice(rule.action, rule.name, reason)
    raise AssertionError("the last rule fits everything")


def _label_delay(evidence: Evidence) -> str | None:
    if evidence.drift.kind != "delay":
        return None
    return "labels take another time than they did: whoever sends them has changed something, or is late"


def _bias(evidence: Evidence) -> str | None:
    drift = evidence.drift
    if drift.kind != "bias":
        return None
    return (
        f"{drift.subject.replace('_', ' ')} of {drift.group} has moved apart from that of all others:"
        " whether that is right is for people to say"
    )


def _broken_source(evidence: Evidence) -> str | None:
    broken = [one for one in evidence.changes if one.broken]
    if evidence.drift.kind == "data":  # another field's trouble is another alarm's
        about = evidence.drift.subject.split(" x ")
        broken = [one for one in broken if one.name in about]
    return "; ".join(map(_trouble, broken[:NAMED])) if broken else None


def _trouble(one: Change) -> str:
    return {
        "missing": f"{one.name} is missing in {one.missing_after:.1%} of the records, was in {one.missing_before:.1%}",
        "outside": f"{one.new_after:.1%} of the records have a {one.name} outside of all that it was before",
        "unseen": f"{one.new_after:.1%} of the records have a {one.name} that was never seen before",
        "stuck": f"{one.name} has one and the same value now",
    }[one.broken]


def _roll_back(evidence: Evidence) -> str | None:
    name = f"{evidence.drift.model}@{evidence.drift.version}"
    if evidence.drift.kind != "concept":
        return None
    for takeover in evidence.takeovers:
        if takeover.model != name or takeover.labels > SOON:
            continue
        rival = next((one for one in evidence.rivals if one.model == takeover.previous), None)
        if rival is not None and rival.apart > 0:
            return None  # the one before is no better on the very records
        also = "" if rival is None else f", which was asked too and loses {rival.loss:.4g}"
        began = f"{name} had begun to answer instead of {takeover.previous}{also}"
        return f"it began {takeover.labels} labels after {began}"
    return None


def _rival(evidence: Evidence) -> str | None:
    better = [one for one in evidence.rivals if one.better]
    if evidence.drift.kind != "concept" or not better:
        return None
    best = min(better, key=lambda one: one.apart)
    return (
        f"{best.model} is asked too and loses {-best.apart:.4g} less on the same {best.count} records since:"
        " look at it as the next champion"
    )


def _unknown(evidence: Evidence) -> str | None:
    if evidence.loss is not None:
        return None
    waits = (
        f"{evidence.waiting} observations since wait for their label"
        if evidence.waiting
        else "too few are labelled"
    )
    return (
        f"what it does to the answers is not known yet: {waits}, and {FEWEST_LABELS} on each side are needed"
    )


def _recovered(evidence: Evidence) -> str | None:
    return "the loss has come back to what it was" if evidence.recovered else None


def _harmless(evidence: Evidence) -> str | None:
    loss = evidence.loss
    if evidence.drift.kind == "concept" or loss is None or (loss.sure and loss.change > 0) or _larger(loss):
        return None
    moved = "is smaller" if loss.sure else "has not moved beyond chance"
    return f"the {loss.name.replace('_', ' ')} {moved} ({loss.before:.4g} before, {loss.after:.4g} since)"


def _unsure(evidence: Evidence) -> str | None:
    loss = evidence.loss
    if loss is None or loss.sure or not _larger(loss):
        return None
    return (
        f"the {loss.name.replace('_', ' ')} is larger ({loss.before:.4g} before, {loss.after:.4g} since), but so few or"
        " so different records may show that by chance"
    )


def _larger(loss: LossChange) -> bool:
    return loss.change > LARGER * loss.before


def _worse(evidence: Evidence) -> str | None:
    loss = evidence.loss
    if loss is None or loss.change <= 0 or not loss.sure:
        return None
    where = [f"{part.how} at {part.field} {part.cell}" for part in evidence.parts if part.carried > 0][:NAMED]
    carried = f": {', '.join(where)}" if where else ", and about alike everywhere"
    return f"the {loss.name.replace('_', ' ')} rose from {loss.before:.4g} to {loss.after:.4g}{carried}"


def _otherwise(evidence: Evidence) -> str:
    del evidence
    return "what was seen does not show in the loss of the records around it; that is for people to look at"


RULES: tuple[Rule, ...] = (
    Rule("label-delay", "mend the source", "labels take longer, or shorter, than they did", _label_delay),
    Rule("bias", "look closer", "a group is treated otherwise than it was, and others are not", _bias),
    Rule(
        "broken-source", "mend the source",
        "a field is missing more often, has values it never had, or only one (data drift: the field that moved)",
        _broken_source,
    ),
    Rule(
        "new-version", "roll back",
        f"concept drift began within {SOON} labels of this version's first answer, and the version before is no worse",
        _roll_back,
    ),
    Rule("unknown", "look closer", "too few labels are known to say what it does to the loss", _unknown),
    Rule("recovered", "ignore", "the loss rose, and is by now what it was", _recovered),
    Rule("better-rival", "look closer", "another version that is asked too loses less since", _rival),
    Rule(
        "harmless", "ignore",
        "data or predictions moved, and the loss is not larger: not beyond chance, not by a fifth", _harmless,
    ),
    Rule("unsure", "look closer", "the loss is larger by a fifth or more, within chance", _unsure),
    Rule("worse", "retrain", "the loss rose beyond chance", _worse),
    Rule("otherwise", "look closer", "none of these", _otherwise),
)  # fmt: skip
