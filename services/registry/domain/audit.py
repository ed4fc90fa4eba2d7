"""The audit trail: what was changed, by whom and why, as a chain that only the holder of a key can write.

Each record carries a MAC (HMAC-SHA256 with the registry's audit key) over its own canonical JSON, in which the MAC of
the record before it stands. So nobody without the key can alter a record, take one out, move one or add one without
its being found. What the chain alone cannot show is that its end is missing: therefore its head is announced outside
the database after each change (`AuditHead`), and `headrace.trail` holds the chain against every head that was ever
announced. Heads are signed with Ed25519, so that others can verify them: the private key is derived from the secret.
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from headrace.contracts.codec import decode_audit_head
from headrace.contracts.events import AuditHead
from headrace.errors import Unusable
from headrace.signatures import PublicKey, Signer, Trusted
from headrace.trail import GENESIS, opened_head, signed_head
from services.registry.domain.lifecycle import Deployed, LineUp
from services.registry.domain.rollouts import Rollout

LONGEST_REASON = 500
SIGNER = "registry"

_canonical = msgspec.json.Encoder(order="sorted").encode


class By(NamedTuple):
    """Who decides something, and why if that was said."""

    name: str
    reason: str = ""


class Record(msgspec.Struct, frozen=True):
    """One change. stream, model, rollout: what it is about ("" and 0: not about one).

    before, after: canonical JSON of what changed, as text: what is stored is what is signed, to the letter. why: the
    reason that was given. previous: digest of the record before it. digest: of this one, hexadecimal.
    """

    sequence: int
    at_ms: int
    who: str
    action: str
    stream: str
    model: str
    rollout: int
    before: str
    after: str
    why: str
    previous: str
    digest: str = ""


class Head(NamedTuple):
    """The end of a chain: its last record's number, digest and time."""

    sequence: int
    digest: str
    at_ms: int


EMPTY = Head(0, GENESIS, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be recorded of a change, before and after it."""

    action: str
    before: dict[str, Any]
    after: dict[str, Any]
    stream: str = ""
    model: str = ""
    rollout: int = 0


class Seal:
    """What only the holder of the key can make. key: at least 32 secret bytes. Raises `Unusable` if they are fewer."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._signer = Signer(key, SIGNER)
        self._trusted = Trusted([self._signer.public])

    @property
    def public(self) -> PublicKey:
        """What verifies the signatures."""
        return self._signer.public

    def record(self, head: Head, at_ms: int, by: By, change: Change) -> Record:
        """The record that follows `head`."""
        fresh = Record(
            head.sequence + 1,
            at_ms,
            by.name,
            change.action,
            change.stream,
            change.model,
            change.rollout,
            _canonical(change.before).decode(),
            _canonical(change.after).decode(),
            by.reason,
            head.digest,
        )
        return msgspec.structs.replace(fresh, digest=self.digest(fresh))

    def digest(self, record: Record) -> str:
        """What the record's digest must be."""
        return _mac(self._key, _canonical(msgspec.structs.replace(record, digest=""))).hexdigest()

    def wrote(self, record: Record) -> bool:
        """Whether the record is as it was written with this key."""
        # JSON writes bytes as text: what is no number and no text was not stored by us.
        sound = all(type(value) in (int, str) for value in msgspec.structs.astuple(record))
        return sound and _same(record.digest, self.digest(record))

    def head(self, head: Head) -> AuditHead:
        """A chain's end, signed, to be announced. The same end gives the same announcement."""
        return signed_head(self._signer, AuditHead(head.sequence, head.digest, head.at_ms))

    def opened(self, announced: bytes) -> AuditHead | None:
        """An announced head; None if it was not signed with this key."""
        return opened_head(self._trusted, announced) or self._opened_older(announced)

    def sign(self, purpose: str, message: bytes) -> str:
        """What only the holder of the key can write under a message; hexadecimal."""
        return self._signer.sign(purpose, message).hex()

    def signed(self, purpose: str, message: bytes, signature: str) -> bool:
        """Whether it was written under the message so."""
        try:
            self._trusted.check(self.public.id, purpose, bytes.fromhex(signature), message)
        except (ValueError, Unusable):
            return False
        return True

    def _opened_older(self, announced: bytes) -> AuditHead | None:
        """A head from before they were signed with Ed25519. Topics keep it for ever, and its MAC takes the same secret.

        Who has only the public key does not believe it.
        """
        try:
            head = decode_audit_head(announced)
        except msgspec.DecodeError:
            return None
        message = msgspec.json.encode(
            {"sequence": head.sequence, "digest": head.digest, "at": head.at, "signature": ""}
        )
        made = _mac(_mac(self._key, b"checkpoint").digest(), message).hexdigest()
        return head if not head.key and _same(head.signature, made) else None


def moved(before: LineUp, after: LineUp) -> tuple[dict[str, Any], dict[str, Any]]:
    """The places of those models whose place changed, before and after."""
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return {"places": _places(before, names)}, {"places": _places(after, names)}


def made_version(record: Record) -> int | None:
    """The version of `record.model` that a `register` or `rebuild` made; None if the record does not say."""
    try:
        after = msgspec.json.decode(record.after)
        made = after if record.action == "register" else after["places"][record.model]
        return int(made["version"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


def sealed(parts: list[str]) -> dict[str, Any]:
    """How many parts were left out of a model and their digest; which ones (persons, maybe) its version says."""
    return {"parts": len(parts), "sha256": sha256(_canonical(parts)).hexdigest()}


def begun(rollout: Rollout) -> dict[str, Any]:
    """Who is rolled out against whom, and by which plan."""
    plan = msgspec.to_builtins(rollout.plan)
    return {"challenger": str(rollout.challenger), "champion": str(rollout.champion), "plan": plan}


def turned(before: Rollout, after: Rollout) -> tuple[dict[str, Any], dict[str, Any]]:
    """A rollout's state before and after a turn, and what the labels had said by then."""
    decided = after.past[-1] if len(after.past) > len(before.past) else None
    evidence = after.evidence if decided is None else decided.evidence
    labels = {
        "counted": evidence.labels,
        "mean_difference": evidence.mean,
        "better": evidence.for_better,
        "worse": evidence.for_worse,
    }
    said: dict[str, Any] = {} if decided is None else {"ruling": decided.ruling}
    return _stage(before), {**_stage(after), "labels": labels, **said}


def _stage(rollout: Rollout) -> dict[str, Any]:
    return {
        "stage": rollout.stage,
        "share": rollout.share,
        "held": rollout.held,
        "awaits_approval": rollout.awaits,
        "approved_by": rollout.approved_by,
    }


def _places(line_up: LineUp, names: list[str]) -> dict[str, Any]:
    return {name: _place(line_up[name]) for name in names if name in line_up}


def _place(deployed: Deployed) -> dict[str, Any]:
    return {
        "version": deployed.version,
        "digest": deployed.digest,
        "role": deployed.role,
        "frozen": deployed.frozen,
        "share": deployed.share,
    }


def _mac(key: bytes, message: bytes) -> hmac.HMAC:
    return hmac.new(key, message, sha256)


def _same(found: str, made: str) -> bool:
    return hmac.compare_digest(found.encode(), made.encode())
