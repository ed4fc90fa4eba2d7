"""API keys: who may do what. Closed by default.

A key is `hr_` and 256 random bits; only its SHA-256 is stored, which is enough because such a secret cannot be
guessed (a slow password hash would only slow the server down). The file is small, read at start and again when it
changes, so that a key can be added or revoked without a restart. No file, a damaged file, an empty file: nobody gets
in. What would break: a plain dictionary lookup or `==` on secrets would leak them by time; a file written in place
could be read half-written and lock everybody out.
"""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec

from headrace.errors import Unusable

Role = Literal["producer", "reader", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

IMPLIED: dict[str, frozenset[str]] = {
    "producer": frozenset({"producer"}),
    "reader": frozenset({"reader"}),
    "operator": frozenset({"operator", "reader", "producer"}),
    "admin": frozenset(ROLES),
}
"""What each role may do: its own and these."""

PREFIX = "hr_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
LONGEST_SECRET = 200
MOST_KEYS = 1000
LOOK_AGAIN_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stored key. sha256: hex digest of the secret. created: RFC 3339."""

    name: str
    roles: list[Role]
    sha256: str
    created: str

    def allows(self, role: str) -> bool:
        """Whether this key has the role, itself or implied."""
        return any(role in IMPLIED[own] for own in self.roles)


class KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    """The file's whole content."""

    keys: list[Key] = []


class KeyRing:
    """The keys of one file, for checking; follows the file while it changes. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._look_again = 0.0
        self._keys: list[Key] = []

    @classmethod
    def load(cls, path: Path | str) -> "KeyRing":
        """The keys in `path`; a missing or damaged file means that nobody gets in (and is logged)."""
        ring = cls(Path(path))
        ring._refresh()
        if not ring._keys:
            _log.warning("no API keys in %s: every request will be refused", path)
        return ring

    def find(self, secret: str) -> Key | None:
        """The key whose secret this is, else None. Takes the same time whichever it is."""
        if len(secret) > LONGEST_SECRET:
            return None
        self._refresh()
        digest = digest_of(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._look_again:
            return
        with self._lock:
            self._look_again = now + LOOK_AGAIN_SECONDS
            try:
                status = self._path.stat()
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if seen != self._seen:
                    self._keys = _read(self._path).keys
                    self._seen = seen
            except (OSError, Unusable) as error:
                if self._keys or self._seen is not None:
                    _log.error("API keys are gone, every request will be refused: %s", error)
                self._keys = []
                self._seen = None


def create(path: Path | str, name: str, *roles: Role) -> str:
    """Make a key, store its hash, and return the secret: this is the only time it can be seen.

    Makes the file (mode 0600) and its folder (0700) if need be. Raises `Unusable` for a name that is taken or not
    allowed, an unknown role, or a damaged file.
    """
    if not NAME.fullmatch(name):
        raise Unusable(f"{name!r} is no key name: letters, digits and _ . @ -, at most 63", where="name")
    if not roles or any(role not in ROLES for role in roles):
        raise Unusable(f"one or more of {', '.join(ROLES)}", where="roles")
    secret = PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with _locked(Path(path)) as file:
        if any(key.name == name for key in file.keys):
            raise Unusable(
                f"there is a key called {name!r} already: revoke it or take another name", where="name"
            )
        if len(file.keys) >= MOST_KEYS:
            raise Unusable(f"at most {MOST_KEYS} keys: revoke some")
        file.keys.append(Key(name, list(roles), digest_of(secret), created))
    return secret


def revoke(path: Path | str, name: str) -> bool:
    """Remove the key called `name`; False if there is none. Services notice within a second."""
    with _locked(Path(path)) as file:
        left = [key for key in file.keys if key.name != name]
        found = len(left) < len(file.keys)
        file.keys[:] = left
    return found


def stored(path: Path | str) -> list[Key]:
    """The stored keys (hashes, never secrets); empty if there is no file. Raises `Unusable` if it is damaged."""
    try:
        return _read(Path(path)).keys
    except FileNotFoundError:
        return []


def digest_of(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> KeyFile:
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeyFile)
    except msgspec.MsgspecError as error:
        raise Unusable(f"{path} is no key file: {error}") from None


@contextmanager
def _locked(path: Path) -> Iterator[KeyFile]:
    """The file's content, to be changed; written back whole, atomically, one writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path.with_name(path.name + ".lock"), "w", encoding="utf-8") as lock:
        os.chmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            file = _read(path)
        except FileNotFoundError:
            file = KeyFile()
        yield file
        draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(json.dumps(msgspec.to_builtins(file), indent=1).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, path)
