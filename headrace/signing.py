"""A signed envelope around stored state: who wrote it, with which code, unchanged since.

Apart from `headrace.checkpoint` so that a process which merely stores states (the monitor's are plain JSON) need not
load River, which costs seconds and a hundred megabytes. Versions are read from the installed distributions for the
same reason. Nothing is interpreted before the signature holds, and nothing of a payload ever; what may unpickle it must
first have been opened here.
"""

import json
import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from secrets import token_bytes
from typing import Any

import headrace
from headrace.errors import Unusable
from headrace.signatures import (
    ID_BYTES,
    LEAST_SECRET_BYTES,
    SIGNATURE_BYTES,
    PublicKey,
    Signer,
    Trusted,
    public_keys,
)

FORMAT = 3
MAGIC = b"HEADRACE-STATE-%d\n" % FORMAT
"""Format of the envelope: magic, the signer's key id (8 bytes), signature (64), header length (4, big-endian), header,
payload. Signed is everything but the signature."""
PURPOSE = "state"
TRUSTED = ".trusted"
"""Ending of the file of further public keys, beside the secret's."""

_FAMILY = b"HEADRACE-STATE-"
_LENGTH_BYTES = 4
_MAX_HEADER_BYTES = 4096
_SIGNATURE = len(MAGIC) + ID_BYTES
_LENGTH = _SIGNATURE + SIGNATURE_BYTES
_HEADER = _LENGTH + _LENGTH_BYTES


class Keys:
    """What states are signed with, and whose states are believed: one's own, and those of `trusted`."""

    def __init__(self, secret: bytes, trusted: Iterable[PublicKey] = ()) -> None:
        self._made_of = (secret, tuple(trusted))
        self.signer = Signer(secret)
        self.trusted = Trusted([*trusted, self.signer.public])

    def __reduce__(self) -> tuple[Any, ...]:
        return Keys, self._made_of  # to the processes of a replay

    @classmethod
    def at(cls, path: Path) -> "Keys":
        """Of the secret in a file, made on first use, and of the public keys beside it (`NAME.trusted`), if any.

        Raises `Unusable` if the latter can be written by others, or holds something else.
        """
        return cls(secret_key(path), _trusted(path.with_suffix(TRUSTED)))


def sign(keys: Keys, payload: bytes) -> bytes:
    """Wrap a payload into an envelope that says who wrote it with which code."""
    header = json.dumps(_versions(), sort_keys=True).encode()
    begin = MAGIC + bytes.fromhex(keys.signer.public.id)
    rest = len(header).to_bytes(_LENGTH_BYTES, "big") + header
    return begin + keys.signer.sign(PURPOSE, begin, rest, payload) + rest + payload


def open_signed(keys: Keys, blob: bytes) -> bytes:
    """The payload of an envelope. Raises `Unusable` if it is damaged, forged, or written by other code.

    The signature is checked before the versions are believed.
    """
    if not blob.startswith(MAGIC):
        if blob.startswith(_FAMILY):
            raise Unusable(f"it is of another format than {FORMAT}: it is made again by replaying the log")
        raise Unusable(f"it is no Headrace state of format {FORMAT}")
    if len(blob) < _HEADER:
        raise Unusable("it is damaged: cut short")
    keys.trusted.check(
        blob[len(MAGIC) : _SIGNATURE].hex(),
        PURPOSE,
        blob[_SIGNATURE:_LENGTH],
        blob[:_SIGNATURE],
        memoryview(blob)[_LENGTH:],
    )
    end = _HEADER + int.from_bytes(blob[_LENGTH:_HEADER], "big")
    if end > min(len(blob), _HEADER + _MAX_HEADER_BYTES):
        raise Unusable("its header is too long")
    written, running = json.loads(blob[_HEADER:end]), _versions()
    for name, installed in running.items():
        if written.get(name) != installed:
            raise Unusable(
                f"it was written by {name} {written.get(name)}, this is {name} {installed}: "
                "it is made again by replaying the log"
            )
    return blob[end:]


def secret_key(path: Path) -> bytes:
    """The secret in a file, made on first use (mode 0600); whole or not there, whoever else makes it meanwhile."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(token_bytes(LEAST_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def _trusted(path: Path) -> list[PublicKey]:
    if not path.exists():
        return []
    if path.stat().st_mode & 0o022:
        raise Unusable(f"{path} says whose states are loaded, and others can write it: chmod go-w {path}")
    return public_keys(path.read_text(encoding="utf-8"), str(path))


@cache
def _versions() -> dict[str, str]:
    major, minor, _ = platform.python_version_tuple()
    return {
        "python": f"{major}.{minor}",
        "river": version("river"),
        "numpy": version("numpy"),
        "headrace": headrace.__version__,
    }
