"""Where snapshots lie: a folder of signed, content-addressed files.

A snapshot's name is the sha256 of its bytes, so writing it twice is harmless and a damaged file cannot pass for a good
one; the signature (HMAC with the installation's key) is checked before anything is unpickled. Losing the folder costs
time, never correctness: shards then replay their log from its start.
"""

import hashlib
import os
from pathlib import Path

from headrace import signing
from headrace.errors import Unusable


class SnapshotStore:
    """Signed snapshots under `folder` (made on first use, mode 0700). `key`: at least 32 secret bytes."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder
        self._key = key

    def put(self, state: bytes) -> tuple[str, int]:
        """Store a processor's state; returns (digest, size in bytes). Atomic: a crash leaves no half file."""
        blob = signing.sign(self._key, state)
        digest = hashlib.sha256(blob).hexdigest()
        path = self._path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_suffix(f".{os.getpid()}.part")
            with temporary.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        return digest, len(blob)

    def get(self, digest: str) -> bytes:
        """The state stored under `digest`. Raises `Unusable` if it is missing, damaged, or signed by another key."""
        try:
            blob = self._path(digest).read_bytes()
        except OSError as error:
            raise Unusable(f"snapshot {digest[:12]} cannot be read: {error.strerror}") from None
        if hashlib.sha256(blob).hexdigest() != digest:
            raise Unusable(f"snapshot {digest[:12]} is damaged: its bytes have another digest")
        return signing.open_signed(self._key, blob)

    def drop(self, digest: str) -> None:
        """Forget a snapshot that a newer one replaces."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / "sha256" / digest[:2] / digest
