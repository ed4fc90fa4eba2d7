"""Where snapshots lie when the disk does not play along."""

import subprocess
import sys
from pathlib import Path

ROOM_BYTES = 10_000
LITTLE_ROOM = f"""
import resource, sys
from pathlib import Path
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore

resource.setrlimit(resource.RLIMIT_FSIZE, ({ROOM_BYTES}, {ROOM_BYTES}))
folder = Path(sys.argv[1])
store = SnapshotStore(folder, Keys(b"k" * 32))
try:
    store.put(b"x" * 2 * {ROOM_BYTES})
except OSError as error:
    assert "File too large" in str(error), error
else:
    raise AssertionError("there was room")
assert [path for path in folder.rglob("*") if path.is_file()] == []
digest, size = store.put(b"small")
assert size < {ROOM_BYTES}
assert store.get(digest) == b"small"
"""


def test_a_snapshot_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    """In a process of its own, as the limit is a process's and would cut the tests' own output short."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_ROOM, tmp_path], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
