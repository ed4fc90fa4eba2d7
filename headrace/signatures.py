"""Ed25519 signatures: who signs, and whose signatures are believed.

Whoever can verify cannot sign: an auditor, or another machine, needs public keys only. What is signed is the SHA-256
digest of a message together with its purpose, so a signature under one kind of thing says nothing of another. The
private key is derived from the secret in a file, so that there is one file to keep for everything that it protects.
A key is called by its id, 16 hexadecimal digits of its digest; an id alone is never believed. No files here.
"""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from headrace.errors import Unusable

LEAST_SECRET_BYTES = 32
KEY_BYTES = 32
ID_BYTES = 8
SIGNATURE_BYTES = 64

_DERIVED = b"ed25519"


class PublicKey(NamedTuple):
    """What verifies. raw: 32 bytes. name: for people."""

    raw: bytes
    name: str = ""

    @property
    def id(self) -> str:
        """What a signature calls it, hexadecimal."""
        return sha256(self.raw).hexdigest()[: 2 * ID_BYTES]

    def __str__(self) -> str:
        return f"{self.raw.hex()} {self.name}".rstrip()


class Signer:
    """Signs. secret: at least 32 bytes, of which the private key is made. Raises `Unusable` if they are fewer."""

    def __init__(self, secret: bytes, name: str = "own") -> None:
        if len(secret) < LEAST_SECRET_BYTES:
            raise Unusable(f"a signing key has at least {LEAST_SECRET_BYTES} bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(hmac.digest(secret, _DERIVED, "sha256"))
        self.public = PublicKey(self._key.public_key().public_bytes_raw(), name)

    def sign(self, purpose: str, *message: bytes | memoryview) -> bytes:
        """64 bytes. message: in parts, of which it is put together."""
        return self._key.sign(_signed(purpose, message))


class Trusted:
    """Public keys whose signatures are believed."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._keys = {key.id: Ed25519PublicKey.from_public_bytes(key.raw) for key in keys}

    def check(self, key_id: str, purpose: str, signature: bytes, *message: bytes | memoryview) -> None:
        """Raises `Unusable` if the key is none of these, or has not signed the message."""
        key = self._keys.get(key_id)
        if key is None:
            raise Unusable(f"it was signed with another key, {key_id:.16}, which is not trusted here")
        try:
            key.verify(signature, _signed(purpose, message))
        except InvalidSignature:
            raise Unusable(f"it is damaged: key {key_id} has not signed it so") from None


def public_keys(text: str, where: str) -> list[PublicKey]:
    """Keys from lines of `HEX NAME`, `#` begins a comment line. Raises `Unusable`, naming the line of `where`."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        written, _, name = line.strip().partition(" ")
        if not written or written.startswith("#"):
            continue
        try:
            raw = bytes.fromhex(written)
            Ed25519PublicKey.from_public_bytes(raw)
        except ValueError:
            raise Unusable(
                f"line {number} of {where} is no public key: {2 * KEY_BYTES} hexadecimal digits and a name"
            ) from None
        found.append(PublicKey(raw, name.strip()))
    return found


def _signed(purpose: str, message: Iterable[bytes | memoryview]) -> bytes:
    digest = sha256()
    for part in message:
        digest.update(part)
    return b"headrace " + purpose.encode() + b"\n" + digest.digest()
