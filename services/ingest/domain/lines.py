"""Raw lines through the contract: log messages for those that keep it, a named refusal for each that does not.

The hot loop of ingest. It runs in slices so that its caller can let others have the event loop between two slices;
everything that can be done once a slice or once a contract is done outside the loop.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol

import msgspec

from headrace.contracts.codec import encode
from headrace.contracts.events import Label, Observation, Rejected
from headrace.errors import Poison
from headrace.processor import Message

ORIGINAL_BYTES = 512 * 1024
"""Most of an original that a reject carries, so that base64 of it fits a Kafka record of 1 MB; the text says if cut."""

Kind = Literal["observation", "label", "event"]
"""What an address takes; `event`: both, mixed, in the order in which they became known."""


class EventCleanser(Protocol):
    """What is needed of `headrace.contracts.cleanse.Cleanser`: raw bytes to a checked event, or `Poison`."""

    def observation(self, raw: bytes | None, *, now_ms: int, new_id: Callable[[], str]) -> Observation: ...
    def label(self, raw: bytes | None, *, now_ms: int) -> Label: ...
    def event(self, raw: bytes | None, *, now_ms: int, new_id: Callable[[], str]) -> Observation | Label: ...


class LineError(msgspec.Struct):
    """One refused line of a body. line: from 1, as the sender counts. rule, field: see docs/bad-input.md."""

    line: int
    rule: str
    reason: str
    field: str = ""


class Cleansed(NamedTuple):
    """A slice of lines, taken apart: `messages` for S.log with their `ids`, `refused` lines and their `rejects`."""

    ids: list[str]
    messages: list[Message]
    refused: list[LineError]
    rejects: list[Message]


def reject_message(
    raw: bytes, poison: Poison, *, now_ms: int, origin: str, key: bytes | None = None
) -> Message:
    """The S.rejected record for a refused original (see `Rejected`); a huge original is cut and says so."""
    reason = poison.reason
    if len(raw) > ORIGINAL_BYTES:
        reason = f"{reason} (the original is {len(raw)} bytes; its first {ORIGINAL_BYTES} are kept)"
    rejected = Rejected(
        at=now_ms,
        rule=poison.rule,
        reason=reason,
        original=raw[:ORIGINAL_BYTES],
        field=poison.field,
        origin=origin,
    )
    return {"key": key, "value": encode(rejected)}


def unforeseen(error: Exception) -> Poison:
    """The refusal of an event that the cleanser could not judge: kept and named, so that it never stops the rest."""
    return Poison(f"the event could not be checked: {type(error).__name__}", rule="unreadable")


def cleanse(
    cleanser: EventCleanser,
    kind: Kind,
    lines: Sequence[bytes],
    *,
    first_line: int,
    enveloped: bool,
    now_ms: int,
    new_id: Callable[[int], str],
) -> Cleansed:
    """Check a slice of lines against the contract, in order; blank lines are passed over.

    first_line: the number of `lines[0]` in the body. enveloped: lines are CloudEvents, whose type must agree with
    `kind`. new_id: makes the id of an observation that brought none, given its line number.
    """
    result = Cleansed([], [], [], [])
    ids, messages, refused, rejects = result
    read = _reader(cleanser, kind, enveloped)
    for number, raw in enumerate(lines, first_line):
        if not raw or raw.isspace():
            continue
        try:
            event = read(raw, now_ms, partial(new_id, number))
            messages.append({"key": event.entity.encode(), "value": encode(event)})
            ids.append(event.id)
        except Exception as error:
            poison = error if isinstance(error, Poison) else unforeseen(error)
            refused.append(LineError(number, poison.rule, poison.reason, poison.field))
            rejects.append(reject_message(raw, poison, now_ms=now_ms, origin="http"))
    return result


def _reader(
    cleanser: EventCleanser, kind: Kind, enveloped: bool
) -> Callable[[bytes, int, Callable[[], str]], Observation | Label]:
    if kind == "event":
        return lambda raw, now_ms, new_id: cleanser.event(raw, now_ms=now_ms, new_id=new_id)
    wanted: type[Observation] | type[Label] = Observation if kind == "observation" else Label

    def from_envelope(raw: bytes, now_ms: int, new_id: Callable[[], str]) -> Observation | Label:
        event = cleanser.event(raw, now_ms=now_ms, new_id=new_id)
        if not isinstance(event, wanted):
            raise Poison(
                f"this address takes a {kind}, the CloudEvent's type says otherwise",
                rule="kind",
                field="type",
            )
        return event

    if enveloped:
        return from_envelope
    if kind == "label":
        return lambda raw, now_ms, _: cleanser.label(raw, now_ms=now_ms)
    return lambda raw, now_ms, new_id: cleanser.observation(raw, now_ms=now_ms, new_id=new_id)
