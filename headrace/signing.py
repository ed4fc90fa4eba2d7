"""An authenticated envelope around stored state: who wrote it, with which code, unchanged since.

Apart from `headrace.checkpoint` so that a process which merely stores states (the monitor's are plain JSON) need not
load River, which costs seconds and a hundred megabytes. Versions are read from the installed distributions for the
same reason. Nothing of a payload is interpreted here; what may unpickle it must first have been opened here.
"""

import hashlib
import hmac
import json
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from secrets import token_bytes

import headrace
from headrace.errors import Unusable

MAGIC = b"HEADRACE-STATE-2\n"
"""Format of the envelope: magic, header length (4 bytes, big-endian), header, HMAC-SHA256 (32 bytes), payload."""
MIN_KEY_BYTES = 32

_MAC_BYTES = 32
_LENGTH_BYTES = 4
_MAX_HEADER_BYTES = 4096


def sign(key: bytes, payload: bytes) -> bytes:
    """Wrap a payload into an envelope that says which code wrote it. `key`: at least 32 secret bytes."""
    header = json.dumps(_versions(), sort_keys=True).encode()
    head = MAGIC + len(header).to_bytes(_LENGTH_BYTES, "big") + header
    return head + _mac(key, head, payload) + payload


def open_signed(key: bytes, blob: bytes) -> bytes:
    """The payload of an envelope. Raises `Unusable` if it is damaged, forged, or written by other code.

    The signature is checked before the versions are believed.
    """
    start = len(MAGIC) + _LENGTH_BYTES
    if not blob.startswith(MAGIC):
        raise Unusable("this is not a Headrace state of format 2")
    length = int.from_bytes(blob[len(MAGIC) : start], "big")
    body = start + length + _MAC_BYTES
    if length > _MAX_HEADER_BYTES or len(blob) < body:
        raise Unusable("this state is damaged: it is cut short")
    head, mac, payload = blob[: start + length], blob[start + length : body], blob[body:]
    if not hmac.compare_digest(mac, _mac(key, head, payload)):
        raise Unusable("this state is damaged, or was signed with another key")
    written, running = json.loads(head[start:]), _versions()
    for name, installed in running.items():
        if written.get(name) != installed:
            raise Unusable(
                f"this state was written by {name} {written.get(name)}, this is {name} {installed}: "
                "rebuild it by replaying the log"
            )
    return payload


def secret_key(path: Path) -> bytes:
    """The secret in a file, made on first use (mode 0600); whole or not there, whoever else makes it meanwhile."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(token_bytes(MIN_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def _mac(key: bytes, head: bytes, payload: bytes) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise Unusable(f"a signing key has at least {MIN_KEY_BYTES} bytes")
    mac = hmac.new(key, head, hashlib.sha256)
    mac.update(payload)
    return mac.digest()


@cache
def _versions() -> dict[str, str]:
    major, minor, _ = platform.python_version_tuple()
    return {
        "python": f"{major}.{minor}",
        "river": version("river"),
        "numpy": version("numpy"),
        "headrace": headrace.__version__,
    }
