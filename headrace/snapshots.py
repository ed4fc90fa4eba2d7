"""Where snapshots lie: folders of signed, content-addressed files.

A snapshot's name is the sha256 of its bytes, so writing it twice is harmless and a damaged file cannot pass for a good
one; the signature (Ed25519, `headrace.signing`) is checked before anything is unpickled. Each partition of each
consumer group has a folder of its own, so whoever owns the partition can tell what is no longer wanted. Losing a folder
costs time, never correctness: shards then replay their log from its start.
"""

import hashlib
import os
import re
from collections.abc import Set as AbstractSet
from pathlib import Path

from headrace import signing
from headrace.contracts.events import Snapshot
from headrace.errors import Unusable
from headrace.signing import Keys

NEWEST_KEPT = 3
"""Always kept: the newest may be damaged, and the one before it too."""
MOST_KEPT = 8

_DIGEST = re.compile(r"[0-9a-f]{64}")


def thinned(snapshots: list[Snapshot]) -> list[Snapshot]:
    """At most `MOST_KEPT` of them, oldest first as given: the newest, and older ones spread evenly over the log.

    The one goes whose absence leaves the smallest gap, so that time travel to any offset folds a bounded share of the
    log and no more.
    """
    kept = list(snapshots)
    while len(kept) > MOST_KEPT:
        offsets = [0, *(one.offset for one in kept)]
        gaps = [after - before for before, after in zip(offsets, offsets[2:], strict=False)]
        old = gaps[: len(kept) - NEWEST_KEPT]
        del kept[old.index(min(old))]
    return kept


def opened(keys: Keys, digest: str, blob: bytes) -> bytes:
    """The state in what was stored under `digest`. Raises `Unusable`, naming it, if it is not what was stored."""
    if hashlib.sha256(blob).hexdigest() != digest:
        raise Unusable(f"snapshot {digest[:12]} is damaged: its bytes have another digest")
    try:
        return signing.open_signed(keys, blob)
    except Unusable as error:
        raise Unusable(f"snapshot {digest[:12]} is refused: {error}") from None


class SnapshotStore:
    """Signed snapshots under `folder` (made on first use, mode 0700)."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self._folder = folder
        self._keys = keys

    def within(self, name: str) -> "SnapshotStore":
        """The store in a folder below this one."""
        return SnapshotStore(self._folder / name, self._keys)

    def put(self, state: bytes) -> tuple[str, int]:
        """Store a processor's state; returns (digest, size in bytes). Atomic: a crash leaves no half file."""
        blob = signing.sign(self._keys, state)
        digest = hashlib.sha256(blob).hexdigest()
        path = self._folder / digest
        # Also if it is there: it may be damaged, and recovery then comes to this very state again.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # on a full disk the half file would keep the space
            raise
        return digest, len(blob)

    def get(self, digest: str) -> bytes:
        """The state stored under `digest`. Raises `Unusable` if it is missing, damaged, or not by a trusted key."""
        if _DIGEST.fullmatch(digest) is None:  # pointers come from a topic: no path may pass for a name
            raise Unusable(f"a snapshot's name is a digest, not {digest[:80]!r}")
        try:
            blob = (self._folder / digest).read_bytes()
        except OSError as error:
            raise Unusable(f"snapshot {digest[:12]} cannot be read: {error.strerror}") from None
        return opened(self._keys, digest, blob)

    def digests(self) -> list[str]:
        """What lies here, half-written files left out."""
        if not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if path.is_file() and not path.suffix)

    def sweep(self, wanted: AbstractSet[str]) -> None:
        """Remove every file here whose name is not among those wanted."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if path.is_file() and path.name not in wanted:
                path.unlink(missing_ok=True)
