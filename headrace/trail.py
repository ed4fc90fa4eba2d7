"""The announced ends of the audit trail, and the trail held against them: what a public key is enough for.

The registry writes the trail and can tell of each record whether it is as it was written, for which it takes the secret
(`services.registry.domain.audit`). An auditor with the public key alone can tell which ends the registry has announced,
and that the trail, whoever shows it, has these records under these digests, in one chain without a gap.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec

from headrace.contracts.codec import decode_audit_head, encode
from headrace.contracts.events import AuditHead
from headrace.errors import Unusable
from headrace.signatures import Signer, Trusted

GENESIS = "0" * 64
"""What the first record follows."""
PURPOSE = "audit head"

Wrong = Literal["missing", "altered", "detached", "replaced", "cut"]


class Link(Protocol):
    """What a record is in the chain. digest: its own, previous: of the one before it."""

    @property
    def sequence(self) -> int: ...
    @property
    def previous(self) -> str: ...
    @property
    def digest(self) -> str: ...


class Linked(NamedTuple):
    """A record of which no more is known."""

    sequence: int
    previous: str
    digest: str


class Fault(NamedTuple):
    """The first record that is not as it was written. sequence: its number; wrong: how; says: the same for people."""

    sequence: int
    wrong: Wrong
    says: str


Record = TypeVar("Record", bound=Link)


def signed_head(signer: Signer, head: AuditHead) -> AuditHead:
    """The head, to be announced. The same one gives the same announcement."""
    unsigned = msgspec.structs.replace(head, signature="", key=signer.public.id)
    return msgspec.structs.replace(unsigned, signature=signer.sign(PURPOSE, encode(unsigned)).hex())


def opened_head(trusted: Trusted, announced: bytes) -> AuditHead | None:
    """An announced head; None if none of the keys has signed it."""
    try:
        head = decode_audit_head(announced)
        unsigned = msgspec.structs.replace(head, signature="")
        trusted.check(head.key, PURPOSE, bytes.fromhex(head.signature), encode(unsigned))
    except (msgspec.DecodeError, ValueError, Unusable):
        return None
    return head


def is_older_head(announced: bytes) -> bool:
    """Whether it says that it is from before heads were signed with Ed25519: only the registry can verify those."""
    try:
        return not decode_audit_head(announced).key
    except msgspec.DecodeError:
        return False


class Examination:
    """Reads a chain from its first record on, in order, and stops at the first fault.

    heads: everything that was announced, in any order, read before the chain was: whoever appends meanwhile makes the
    chain longer than what was announced, never shorter. None: one that is not believed.
    """

    def __init__(self, heads: Iterable[AuditHead | None]) -> None:
        self._announced: dict[int, set[str]] = {}
        self.heads = 0
        """Announcements that are believed, those made twice too."""
        self.strange_heads = 0
        """Announcements that are not."""
        self.records = 0
        """How many are in order."""
        self.fault: Fault | None = None
        self._digest = GENESIS
        for head in heads:
            if head is None:
                self.strange_heads += 1
            else:
                self.heads += 1
                self._announced.setdefault(head.sequence, set()).add(head.digest)

    @property
    def announced(self) -> int:
        """Number of the last record that an announcement covers."""
        return max(self._announced, default=0)

    @property
    def contradicted(self) -> Fault | None:
        """The first record under whose number two were announced, whatever the chain is."""
        numbers = [number for number, digests in self._announced.items() if len(digests) > 1]
        return (
            Fault(min(numbers), "replaced", "two records were announced under its number")
            if numbers
            else None
        )

    def read(self, records: Iterable[Record], wrote: Callable[[Record], bool] = lambda _: True) -> bool:
        """Examine the next records; False once there is a fault. wrote: whether one is as it was written."""
        for record in records:
            self.fault = self._wrong(record, wrote)
            if self.fault is not None:
                return False
            self.records, self._digest = record.sequence, record.digest
        return True

    def end(self) -> Fault | None:
        """There are no more records: the first fault, if there is any."""
        if self.fault is None and self.announced > self.records:
            said = f"the table ends before it, though record {self.announced} was announced"
            self.fault = Fault(self.records + 1, "cut", said)
        return self.fault

    def _wrong(self, record: Record, wrote: Callable[[Record], bool]) -> Fault | None:
        number = self.records + 1
        if record.sequence != number:
            return Fault(number, "missing", f"it is missing: the next one is {record.sequence}")
        if not wrote(record):
            return Fault(number, "altered", "its digest is wrong: altered, or not written with this key")
        if record.previous != self._digest:
            return Fault(number, "detached", f"it does not follow record {number - 1} as that is now")
        if self._announced.get(number, {record.digest}) != {record.digest}:
            return Fault(number, "replaced", "another record was announced under its number")
        return None
