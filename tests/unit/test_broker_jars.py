"""The jar cache without a network: only what matches the lock list is used, whatever else happens."""

from __future__ import annotations

import builtins
import hashlib
import re
import threading
from importlib import resources

import pytest

from headrace.broker import BrokerError, ExtraNotInstalled, JarsUnavailable, fetch, jars, kafka_version
from headrace.broker.jars import LockedJar

CONTENTS = {"one-1.jar": b"first jar", "two-2.jar": b"second jar", "three-3.jar": b"third"}


def locked(name: str, content: bytes) -> LockedJar:
    artifact, version = name.removesuffix(".jar").split("-")
    return LockedJar(f"org.example:{artifact}:{version}", hashlib.sha256(content).hexdigest(), len(content))


class Repository:
    """Gives jars away; `serve` is what it holds, `asked` what it was asked for."""

    def __init__(self, **changed: bytes) -> None:
        self.serve = {
            **CONTENTS,
            **{name.replace("_", "-") + ".jar": content for name, content in changed.items()},
        }
        self.asked: list[str] = []

    def __call__(self, wanted, folder, accept) -> None:
        for jar in wanted:
            self.asked.append(jar.file_name)
            (folder / jar.file_name).write_bytes(self.serve[jar.file_name])
            accept(jar)


def no_network(wanted, folder, accept):
    raise ConnectionError("no route to host")


@pytest.fixture(autouse=True)
def small_lock(monkeypatch):
    rows = tuple(locked(name, content) for name, content in CONTENTS.items())
    monkeypatch.setattr(jars, "_lock", lambda: ("9.9.9", rows))


def test_fetches_once_then_needs_no_network(tmp_path):
    first = fetch(tmp_path, download=Repository())
    again = fetch(tmp_path, download=no_network)
    assert first == again
    assert [jar.read_bytes() for jar in again.jars] == list(CONTENTS.values())
    assert again.kafka_version == kafka_version() == "9.9.9"
    assert again.argument.split(":") == [str(jar) for jar in again.jars]


def test_a_damaged_jar_is_refused_and_only_it_is_fetched_again(tmp_path):
    damaged = fetch(tmp_path, download=Repository()).jars[1]
    damaged.write_bytes(b"SECOND jar")  # the same length: only the digest tells
    with pytest.raises(JarsUnavailable):
        fetch(tmp_path, download=no_network)
    repository = Repository()
    fetch(tmp_path, download=repository)
    assert repository.asked == [damaged.name]
    assert damaged.read_bytes() == CONTENTS[damaged.name]


def test_a_repository_that_serves_something_else_is_not_believed(tmp_path):
    with pytest.raises(JarsUnavailable, match=r"wrong content for org\.example:two:2"):
        fetch(tmp_path, download=Repository(two_2=b"evil bytes"))
    assert not any(path.name == "two-2.jar" for path in tmp_path.rglob("*.jar"))


def test_offline_says_what_is_needed_and_leaves_no_rubbish(tmp_path):
    with pytest.raises(JarsUnavailable) as caught:
        fetch(tmp_path, download=no_network)
    message = str(caught.value)
    for needed in ("no route to host", "3 of", "mirror", "HTTPS_PROXY", "copy a filled", str(tmp_path)):
        assert needed in message
    assert [path.name for path in (tmp_path / "kafka-9.9.9").iterdir()] == []


def test_a_broken_off_fetch_goes_on_where_it_stopped(tmp_path):
    def breaks_off(wanted, folder, accept):
        Repository()(list(wanted)[:2], folder, accept)
        raise TimeoutError("read timed out")

    with pytest.raises(JarsUnavailable, match="1 of"):
        fetch(tmp_path, download=breaks_off)
    rest = Repository()
    fetch(tmp_path, download=rest)
    assert rest.asked == ["three-3.jar"]


def test_a_download_that_ends_early_is_an_error(tmp_path):
    with pytest.raises(JarsUnavailable, match="ended early"):
        fetch(tmp_path, download=lambda wanted, folder, accept: None)


def test_remains_of_a_killed_fetch_are_cleared(tmp_path):
    remains = tmp_path / "kafka-9.9.9" / ".fetching-abc"
    remains.mkdir(parents=True)
    (remains / "half.jar").write_bytes(b"x")
    fetch(tmp_path, download=Repository())
    assert not remains.exists()


def test_two_at_once_fetch_only_once(tmp_path):
    repository = Repository()
    failures: list[BaseException] = []

    def one() -> None:
        try:
            fetch(tmp_path, download=repository)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert sorted(repository.asked) == sorted(CONTENTS)


def test_progress_is_told(tmp_path):
    said: list[str] = []
    fetch(tmp_path, said.append, download=Repository())
    assert "3 jars" in said[0]
    said.clear()
    fetch(tmp_path, said.append, download=Repository())
    assert said == []


def test_without_jgo_the_extra_is_named(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_jgo(name, *rest, **more):
        if name.split(".")[0] == "jgo":
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_jgo)
    with pytest.raises(ExtraNotInstalled, match=re.escape('pip install "headrace[embedded]"')):
        fetch(tmp_path)


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="cannot write Kafka's jars"):
        fetch(tmp_path / "file", download=Repository())


def test_a_cache_path_that_java_would_split_is_refused(tmp_path):
    with pytest.raises(BrokerError, match="Java cannot"):
        fetch(tmp_path / "a:b", download=Repository())


def test_the_committed_list_is_whole_and_names_no_host(monkeypatch):
    monkeypatch.undo()
    rows = jars.locked_jars()
    assert len(rows) > 40
    assert len({row.file_name for row in rows}) == len(rows)
    assert all(re.fullmatch(r"[0-9a-f]{64}", row.sha256) for row in rows)
    assert all(re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", row.coordinate) for row in rows)
    artifacts = {row.coordinate.split(":")[1] for row in rows}
    # The last one is not in Kafka's POM; without it Kafka's log stays empty.
    assert {"kafka_2.13", "log4j-core", "log4j-slf4j-impl"} <= artifacts
    assert f"org.apache.kafka:kafka_2.13:{kafka_version()}" == rows[0].coordinate
    assert "://" not in resources.files("headrace.broker").joinpath("jars.toml").read_text()
