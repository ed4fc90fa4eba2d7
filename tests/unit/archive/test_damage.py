"""What is damaged, missing or another log's is refused by name, never skipped; the rest can still be read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.archive.archiver import Archiver, Closing
from headrace.archive.history import ArchivedHistory
from headrace.archive.reading import Archive
from headrace.archive.store import open_store
from headrace.errors import Unusable
from tests.unit.archive.shortened import TOPIC, ShortenedHistory, memory_store, taken

CLOSING = Closing(records=10, seconds=60.0)


class Folder:
    """Thirty records in three segments, archived in a folder; the topic has the last five only."""

    def __init__(self, path: Path) -> None:
        self.live = ShortenedHistory()
        self.live.append(30, 1)
        self.archive = Archive(open_store(path.as_uri()))
        self.archiver(flush=True)
        self.live.first = 25
        self.entries = sorted((path / TOPIC / "0" / "entries").iterdir())
        self.segments = sorted((path / TOPIC / "0" / "segments").iterdir())

    def archiver(self, *, flush: bool) -> int:
        return Archiver(self.live, self.archive, CLOSING, clock=lambda: 0.0).run(TOPIC, 0, flush=flush)

    def read(self, start: int = 0) -> None:
        past = ArchivedHistory(self.live, self.archive)
        assert taken(past.read(TOPIC, 0, start, 30)) == self.live.expected(start, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "an archive")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def test_an_undamaged_archive_is_read(folder: Folder) -> None:
    assert [path.name for path in folder.entries] == [f"{start:020d}.json" for start in (0, 10, 20)]
    folder.read()
    folder.archive.verify(TOPIC, 0)


@pytest.mark.parametrize("damage", [flipped, cut, emptied, Path.unlink])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_segment_is_refused_by_name(
    folder: Folder, damage: Callable[[Path], None], which: int
) -> None:
    damage(folder.segments[which])
    with pytest.raises(Unusable, match=folder.segments[which].name):
        folder.read()
    with pytest.raises(Unusable, match=folder.segments[which].name):
        folder.archive.verify(TOPIC, 0)
    if which < 2:
        folder.read(start=(which + 1) * 10)


@pytest.mark.parametrize("damage", [cut, emptied])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_entry_is_refused_by_name(
    folder: Folder, damage: Callable[[Path], None], which: int
) -> None:
    damage(folder.entries[which])
    with pytest.raises(Unusable, match=folder.entries[which].name):
        folder.read()
    below = folder.archive.read(TOPIC, 0, 0, 10 * which)
    assert taken(below) == folder.live.expected(0, 10 * which)


@pytest.mark.parametrize("which", [0, 1])
def test_a_lost_entry_is_a_hole(folder: Folder, which: int) -> None:
    folder.entries[which].unlink()
    with pytest.raises(Unusable, match="missing"):
        folder.archive.verify(TOPIC, 0)
    with pytest.raises(Unusable, match=r"gone|missing"):
        folder.read()


def test_a_lost_last_entry_is_told_as_gone(folder: Folder) -> None:
    folder.entries[2].unlink()
    with pytest.raises(Unusable, match="offsets 20 to 24 are gone"):
        folder.read()


def test_an_entry_that_was_replaced_is_refused(folder: Folder) -> None:
    entry = folder.entries[0]
    entry.write_bytes(entry.read_bytes().replace(b'"written_at":0', b'"written_at":1'))
    with pytest.raises(Unusable, match=f"{folder.entries[1].name} was not written after"):
        folder.read()


def test_records_that_were_trimmed_before_they_were_archived_are_told(folder: Folder) -> None:
    folder.live.append(10, 0)
    folder.live.first = 35
    with pytest.raises(Unusable, match="offsets 31 to 34 are gone"):
        folder.archiver(flush=True)


def test_a_log_made_anew_does_not_extend_the_archive_of_the_old_one(folder: Folder) -> None:
    folder.live = ShortenedHistory()
    folder.live.append(5, 0)
    with pytest.raises(Unusable, match="not this log's: it reaches to 31, the log only to 5"):
        folder.archiver(flush=True)
    folder.live.append(3, 0)
    folder.live.append(0, 30)  # other records at other offsets
    with pytest.raises(Unusable, match="they differ at offset 29"):
        folder.archiver(flush=True)


def test_an_archive_may_begin_late() -> None:
    live = ShortenedHistory()
    live.append(30, 1)
    live.first = 7
    archive = Archive(memory_store())
    assert Archiver(live, archive, CLOSING).run(TOPIC, 0, flush=True) == 31
    past = ArchivedHistory(live, archive)
    live.first = 31
    assert past.bounds(TOPIC, 0) == (7, 31)
    assert taken(past.read(TOPIC, 0, 7, 31)) == live.expected(7, 31)
    with pytest.raises(Unusable, match="offsets 6 to 30 are gone"):
        taken(past.read(TOPIC, 0, 6, 31))


def test_a_segment_closes_when_it_is_full_or_old() -> None:
    live = ShortenedHistory()
    live.append(25, 0)
    now = 100.0
    archiver = Archiver(live, Archive(memory_store()), CLOSING, clock=lambda: now)
    assert archiver.run(TOPIC, 0) == 20
    now = 159.0
    assert archiver.run(TOPIC, 0) == 20
    now = 160.0
    assert archiver.run(TOPIC, 0) == 25
    live.append(1, 0)
    assert archiver.run(TOPIC, 0) == 25
    live.append(9, 0)
    assert archiver.run(TOPIC, 0) == 35


def test_equal_records_make_equal_segments(tmp_path: Path) -> None:
    names = []
    for batch in (1, 7, 1000):
        live = ShortenedHistory(batch)
        live.append(30, 1)
        path = tmp_path / str(batch)
        Archiver(live, Archive(open_store(path.as_uri())), CLOSING).run(TOPIC, 0, flush=True)
        names.append(sorted(found.name for found in path.rglob("*.parquet")))
    assert len(names[0]) == 3
    assert names[0] == names[1] == names[2]


@pytest.mark.parametrize("url", ["ftp://somewhere/x", "nonsense", "s3://"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(Unusable, match="archive"):
        open_store(url)
