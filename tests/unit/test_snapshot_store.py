"""Where snapshots lie when the disk does not play along."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.snapshots import SnapshotStore

ROOM_BYTES = 10_000


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may grow beyond a few kilobytes, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_snapshot_that_finds_no_room_leaves_nothing_behind(tmp_path: Path, little_room: None) -> None:
    store = SnapshotStore(tmp_path, b"k" * 32)
    with pytest.raises(OSError, match="File too large"):
        store.put(b"x" * 2 * ROOM_BYTES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    digest, size = store.put(b"small")
    assert size < ROOM_BYTES
    assert store.get(digest) == b"small"
