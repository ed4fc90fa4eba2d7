"""Changes of the registry as messages: rows as lines of text, cut into parts that a topic takes, put together again.

Every message is signed with the audit trail's key (Ed25519, for a purpose of its own): whoever can write to the topic
still cannot put a model on a stream of a registry that is made again from it. A change may be written twice, by two
registries or after a crash, and another registry may use the topic: what was read before and what was signed by
somebody else is passed over. A change that is missing is not: what comes after it would make another registry.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from headrace.contracts.codec import decode_rows_written, encode
from headrace.contracts.events import RowsWritten
from headrace.errors import Unusable
from services.registry.domain.audit import Seal

PART_CHARACTERS = 128 * 1024
"""At most six bytes each in JSON: less than the million bytes that a message may have."""
NO_CHANGE = 0
PURPOSE = "changes"


class Line(msgspec.Struct, frozen=True):
    """A row. how: it `is` so now, it is `gone` (row: its key), or it `has` these values beside what it had."""

    table: str
    row: dict[str, Any]
    how: Literal["is", "gone", "has"] = "is"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def cut(lines: Iterable[Line], sequence: int, schema: str, *, everything: str = "") -> Iterator[RowsWritten]:
    """A change as messages, not signed yet; at least one."""
    part, text = 1, ""
    for line in lines:
        text += _encode(line).decode() + "\n"
        while len(text) > PART_CHARACTERS:
            yield RowsWritten(sequence, part, False, schema, text[:PART_CHARACTERS], everything)
            part, text = part + 1, text[PART_CHARACTERS:]
    yield RowsWritten(sequence, part, True, schema, text, everything)


def beside(line: Line, schema: str) -> RowsWritten:
    """What came of a change later, as a message."""
    return RowsWritten(NO_CHANGE, 1, True, schema, _encode(line).decode() + "\n")


def sealed(seal: Seal, told: RowsWritten) -> RowsWritten:
    """The message with its signature."""
    return msgspec.structs.replace(told, signature=seal.sign(PURPOSE, _unsigned(told)))


def opened(seal: Seal | None, value: bytes | None) -> RowsWritten | None:
    """A message that was read; None if it was not signed with this key. Without a seal any is taken."""
    try:
        told = decode_rows_written(value or b"")
    except msgspec.MsgspecError:
        return None
    return told if seal is None or seal.signed(PURPOSE, _unsigned(told), told.signature) else None


def _unsigned(told: RowsWritten) -> bytes:
    return encode(msgspec.structs.replace(told, signature=""))


Kind = Literal["begins", "goes on", "beside", "stray"]
"""A message is the first of a change, its next one, of no change, or one that counts no more."""


def newest_run(messages: Iterable[RowsWritten]) -> str:
    """The id of the last time that everything was told, to the end; "" if it never was: then all changes were."""
    found, reached = "", {"": 0}
    for told in messages:
        if told.everything and told.part == reached.get(told.everything, 0) + 1:
            reached[told.everything] = told.part
            if told.last:
                found = told.everything
    return found


class Changes:
    """Puts messages together again, in the order of the topic. run: of `newest_run`; what was told before is stray."""

    def __init__(self, run: str = "") -> None:
        self.sequence = 0
        """Number of the last change that was read whole; 0: none."""
        self.under_way: RowsWritten | None = None
        """The last message of a change that has not come to its end: its registry may have died."""
        self._run = run
        self._begun = not run
        self._rest = ""

    def read(self, told: RowsWritten) -> tuple[Kind, list[Line]]:
        """What the next message is, and its rows. Raises `Unusable` if something before it is missing."""
        kind = self._kind(told)
        if kind == "stray":
            return kind, []
        if kind == "beside":
            return kind, [
                _decode(line) for line in told.rows.split("\n") if line
            ]  # JSON has no bare one inside
        self._begun = True
        *lines, self._rest = (told.rows if kind == "begins" else self._rest + told.rows).split("\n")
        self.under_way = told
        if told.last:
            self.under_way, self.sequence = None, told.sequence
        return kind, [_decode(line) for line in lines]

    def _kind(self, told: RowsWritten) -> Kind:
        before = self.under_way
        if told.everything not in ("", self._run) or not (self._begun or told.everything):
            return "stray"
        if told.sequence == NO_CHANGE:
            return "beside"
        if before is not None and (before.sequence, before.everything) == (told.sequence, told.everything):
            if told.part <= before.part:
                return "stray"
            if told.part == before.part + 1:
                return "goes on"
        elif told.everything:
            return "stray" if self._begun else "begins"
        elif told.sequence <= self.sequence:
            return "stray"
        elif before is None and (told.sequence, told.part) == (self.sequence + 1, 1):
            return "begins"
        lacks = f"change {self.sequence + 1}"
        if before is not None:
            lacks = f"part {before.part + 1} of change {before.sequence}"
        raise Unusable(f"{lacks} is missing: what comes after it would make another registry")
