"""The snapshot store, and which snapshots are kept."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.events import Snapshot
from headrace.errors import Unusable
from headrace.signing import Keys, secret_key
from headrace.snapshots import MOST_KEPT, NEWEST_KEPT, SnapshotStore, thinned

KEYS = Keys(b"k" * 32)


def taken(offset: int) -> Snapshot:
    return Snapshot(offset, f"digest{offset}", 1, "test")


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=200))
def test_thinning_keeps_the_newest_and_never_more_than_the_bound(steps: list[int]) -> None:
    kept: list[Snapshot] = []
    offset = 0
    for step in steps:
        offset += step
        before = kept
        kept = thinned([*kept, taken(offset)])
        assert [one.offset for one in kept] == sorted({one.offset for one in kept})
        assert all(one in [*before, taken(offset)] for one in kept)
        assert len(kept) == min(len(before) + 1, MOST_KEPT)
        assert kept[-NEWEST_KEPT:] == [*before, taken(offset)][-NEWEST_KEPT:]


def test_old_snapshots_are_spread_over_the_log() -> None:
    kept: list[Snapshot] = []
    for offset in range(100, 100_001, 100):
        kept = thinned([*kept, taken(offset)])
        offsets = [0, *(one.offset for one in kept)]
        widest = max(after - before for before, after in pairwise(offsets))
        assert widest <= max(200, offset // 2)
    assert [one.offset for one in kept[-3:]] == [99_800, 99_900, 100_000]


def test_a_state_comes_back_and_a_damaged_or_foreign_one_is_refused(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, KEYS).within("group/s.log/0")
    digest, size = store.put(b"state")
    assert store.get(digest) == b"state"
    path = tmp_path / "group/s.log/0" / digest
    assert path.stat().st_size == size
    with pytest.raises(Unusable, match="another key"):
        SnapshotStore(tmp_path, Keys(b"x" * 32)).within("group/s.log/0").get(digest)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Unusable, match="damaged"):
        store.get(digest)
    path.unlink()
    with pytest.raises(Unusable, match="cannot be read"):
        store.get(digest)


def test_a_pointer_names_nothing_outside_the_folder(tmp_path: Path) -> None:
    """Pointers are read from a topic; a device that never ends, say, must not be read into memory."""
    store = SnapshotStore(tmp_path / "snapshots", KEYS)
    (tmp_path / "snapshots").mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(b"something")
    for name in (str(outside), "../outside", "", "."):
        with pytest.raises(Unusable, match="is a digest, not"):
            store.get(name)


def test_storing_a_damaged_state_again_mends_it(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, KEYS)
    digest, _ = store.put(b"state")
    (tmp_path / digest).write_bytes(b"damaged")
    assert store.put(b"state")[0] == digest
    assert store.get(digest) == b"state"


def test_a_sweep_removes_what_nobody_names_and_half_files(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, KEYS).within("group")
    kept, lost = store.put(b"kept")[0], store.put(b"lost")[0]
    (tmp_path / "group" / "x.1.part").write_bytes(b"half")
    other = SnapshotStore(tmp_path, KEYS).within("other").put(b"others")[0]
    store.sweep({kept})
    assert store.get(kept) == b"kept"
    assert [path.name for path in (tmp_path / "group").iterdir()] == [kept]
    assert SnapshotStore(tmp_path, KEYS).within("other").get(other) == b"others"
    with pytest.raises(Unusable):
        store.get(lost)


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "snapshot.key"
    made = secret_key(path)
    assert len(made) == 32
    assert secret_key(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
