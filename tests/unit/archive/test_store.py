"""What the archive asks of a store: a name is taken once, and is there whole or not at all."""

import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from headrace.archive.archiver import Archiver
from headrace.archive.reading import Archive
from headrace.archive.store import Store, open_store
from headrace.errors import Transient
from tests.unit.archive.shortened import TOPIC, ShortenedHistory, taken


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store((tmp_path / "with space").as_uri() if request.param == "folder" else "memory:///")


def test_a_name_is_taken_once(store: Store) -> None:
    assert store.create("log/0/entries/1.json", b"first")
    assert not store.create("log/0/entries/1.json", b"second")
    assert store.get("log/0/entries/1.json") == b"first"


def test_one_of_many_wins(store: Store) -> None:
    won: list[int] = []
    together = threading.Barrier(8)

    def race(number: int) -> None:
        together.wait()
        if store.create("a/b", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("a/b") == b"%d" % won[0]


def test_content_may_be_put_again_and_is_listed_in_order(store: Store) -> None:
    assert store.get("a/2") is None
    assert store.names("a") == []
    for name in ("a/2", "a/1", "a/1", "a/b/3"):
        store.put(name, name.encode())
    assert store.names("a") == ["1", "2"]
    assert store.get("a/1") == b"a/1"


def test_a_folder_that_cannot_be_written_is_away(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    (tmp_path / "a").write_bytes(b"a file where a folder should be")
    with pytest.raises(Transient, match=r"writing a/b"):
        store.create("a/b", b"x")
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


def offsets_there(archive: Archive) -> list[int]:
    """In another process."""
    return [offset for offset, _, _ in taken(archive.read(TOPIC, 0, 5, 12))]


def test_another_process_reads_it_too(tmp_path: Path) -> None:
    """A replay folds partitions in processes of their own and hands each of them the log's history."""
    live = ShortenedHistory()
    live.append(20, 0)
    archive = Archive.at(tmp_path.as_uri())
    Archiver(live, archive).run(TOPIC, 0, flush=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(offsets_there, archive).result(60) == list(range(5, 12))
