"""Kafka's jars: fetched once by coordinate, checked against the sha256 in `jars.toml`, then never asked for
again.

The list in `jars.toml` is the whole dependency tree, already resolved (by `headrace.broker.relock`), so a
fetch reads no POM files and resolves nothing: it takes each named jar and compares its digest. What a
repository, a mirror or a proxy says about the file is not trusted. A jar that does not match is never put on
a class path.

Version: Kafka 4.2.2, and not newer, on evidence. In 4.3.0, 4.3.1 and 4.4.0 a broker that is killed between a commit's
acknowledgement and its markers can, while it starts again, find the partition without a leader, take it for deleted and
complete the transaction without its markers (KAFKA-20734: `getPartitionLeaderEndpoint` answers empty where it used to
answer "no node"). The committed records then stay invisible for ever, and so does everything after them. Seen here with
4.3.1 in about one kill of five under load, never with 4.2.2. Before moving on, see that fixed, and run
`test_commits_survive_kills_in_mid_flight` many times: a data folder opened by a newer Kafka cannot go back.

What would break: a cache folder on a file system without `flock` or atomic rename (some network shares).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache as remembered
from importlib import resources
from pathlib import Path

from headrace.broker.errors import BrokerError, ExtraNotInstalled, JarsUnavailable
from headrace.broker.java import INSTALL_HINT
from headrace.broker.locks import Progress, held, silent

_DOWNLOADS_AT_ONCE = 8
_ATTEMPTS = 3
_CONNECTION_TIMEOUT_SECONDS = 20
_OTHER_FETCH_WAIT_SECONDS = 600.0
_TEMPORARY_PREFIX = ".fetching-"


@dataclass(frozen=True, slots=True)
class LockedJar:
    """One line of `jars.toml`: a Maven coordinate `group:artifact:version`, its digest and its size in bytes."""

    coordinate: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


@dataclass(frozen=True, slots=True)
class Classpath:
    """Kafka's jars on this machine, every one checked. `jars` is in locked order, which is the class path's order."""

    kafka_version: str
    folder: Path
    jars: tuple[Path, ...]

    @property
    def argument(self) -> str:
        """The value for Java's `-cp`."""
        return os.pathsep.join(str(jar) for jar in self.jars)


# Takes jars and a folder, puts each as folder/<file_name>, calls the callback once per jar that has arrived.
Downloader = Callable[[Iterable[LockedJar], Path, Callable[[LockedJar], None]], None]


@remembered
def _lock() -> tuple[str, tuple[LockedJar, ...]]:
    """The Kafka version and the jars of the committed lock list."""
    text = resources.files("headrace.broker").joinpath("jars.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    jars = tuple(LockedJar(row["coordinate"], row["sha256"], row["size_bytes"]) for row in document["jar"])
    return document["kafka"], jars


def kafka_version() -> str:
    """The version of Kafka this package runs."""
    return _lock()[0]


def locked_jars() -> tuple[LockedJar, ...]:
    """The jars this package runs Kafka from, in class-path order."""
    return _lock()[1]


def fetch(cache: Path, progress: Progress = silent, *, download: Downloader | None = None) -> Classpath:
    """Make sure every locked jar is in `cache` and sound; download those that are not. Returns the class path.

    Offline if all are there (about 0.1 s to check 45 MB). Interrupted fetches go on where they stopped. Safe to call
    from several processes at once: one fetches, the others wait. `download` replaces the downloader, for tests.

    Raises JarsUnavailable (cannot be fetched, or what came does not match the list), ExtraNotInstalled (jgo is
    absent), BrokerError (the cache cannot be written).
    """
    version, jars = _lock()
    folder = cache.absolute() / f"kafka-{version}"
    if os.pathsep in str(folder):
        raise BrokerError(
            f"the cache path {folder} contains {os.pathsep!r}, which Java cannot have there: move it"
        )
    classpath = Classpath(version, folder, tuple(folder / jar.file_name for jar in jars))
    if not unsound(folder, jars):
        return classpath
    try:
        folder.mkdir(parents=True, exist_ok=True)
        busy = "another process is fetching Kafka into the same cache"
        with held(cache / "fetch.lock", wait_seconds=_OTHER_FETCH_WAIT_SECONDS, busy=busy, progress=progress):
            # Looked at again under the lock: the process we waited for may have done the work.
            if missing := unsound(folder, jars):
                _fetch_missing(folder, missing, version, progress, download or _download_with_jgo)
    except OSError as error:
        raise BrokerError(
            f"cannot write Kafka's jars to {folder}: {error}; give a cache folder with 100 MB free"
        ) from error
    return classpath


def unsound(folder: Path, jars: Iterable[LockedJar]) -> list[LockedJar]:
    """Those of `jars` that are absent from `folder`, or whose content does not match their digest."""
    return [jar for jar in jars if not _matches(folder / jar.file_name, jar)]


def sha256_of(path: Path) -> str:
    """The hex sha256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _matches(path: Path, jar: LockedJar) -> bool:
    try:
        return path.stat().st_size == jar.size_bytes and sha256_of(path) == jar.sha256
    except OSError:
        return False


def _fetch_missing(
    folder: Path, missing: list[LockedJar], version: str, progress: Progress, download: Downloader
) -> None:
    """Download into a temporary folder beside `folder`, check, and move each sound jar in with one rename."""
    for leftover in folder.glob(f"{_TEMPORARY_PREFIX}*"):  # of a fetch that was killed; we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    total_mb = sum(jar.size_bytes for jar in missing) / 1e6
    arrived: list[LockedJar] = []
    wrong: list[str] = []
    progress(f"fetching Apache Kafka {version}: {len(missing)} jars, {total_mb:.0f} MB")
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY_PREFIX, dir=folder) as name:
        temporary = Path(name)

        def accept(jar: LockedJar) -> None:
            path = temporary / jar.file_name
            if not _matches(path, jar):
                wrong.append(jar.coordinate)
                path.unlink(missing_ok=True)
                return
            path.replace(folder / jar.file_name)
            before_mb = sum(one.size_bytes for one in arrived) // 1_000_000
            arrived.append(jar)
            done_mb = sum(one.size_bytes for one in arrived) // 1_000_000
            if done_mb > before_mb:
                progress(f"fetching Apache Kafka {version}: {done_mb} of {total_mb:.0f} MB")

        try:
            download(missing, temporary, accept)
        except BrokerError:
            raise
        except Exception as error:  # a downloader may fail in any way its network stack can
            raise _unavailable(folder, missing, arrived, f"{type(error).__name__}: {error}") from error
    if wrong:
        raise _unavailable(folder, missing, arrived, f"wrong content for {', '.join(wrong)}")
    if len(arrived) < len(missing):
        raise _unavailable(folder, missing, arrived, "the download ended early")


def _unavailable(
    folder: Path, missing: list[LockedJar], arrived: list[LockedJar], why: str
) -> JarsUnavailable:
    left = len(missing) - len(arrived)
    return JarsUnavailable(
        f"{left} of Apache Kafka's jars could not be fetched ({why}). The first start needs Maven Central, directly or "
        "through a proxy (HTTPS_PROXY) or a mirror ([repositories] in jgo's configuration file); later starts need no "
        f"network. Without one: copy a filled {folder} from a machine that has it, or name an existing Kafka"
    )


def _download_with_jgo(
    jars: Iterable[LockedJar], folder: Path, accept: Callable[[LockedJar], None]
) -> None:  # pragma: no cover - needs a network; run by the integration test
    """Fetch jars through jgo's resolver, several at once, each up to three times; see Downloader.

    jgo knows the repository and honours the user's mirrors, so no address stands in this project.
    """
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise ExtraNotInstalled(
            f"Kafka's jars are not here yet and fetching them needs jgo: {INSTALL_HINT}"
        ) from error

    context = MavenContext(
        resolver=PythonResolver(),
        repo_cache=folder / "repository",
        remote_repos=dict(GlobalSettings.load().repositories) or None,
        timeout=_CONNECTION_TIMEOUT_SECONDS,
    )

    def one(jar: LockedJar) -> LockedJar:
        group, artifact_id, version = jar.coordinate.split(":")
        artifact = context.project(group, artifact_id).at_version(version).artifact()
        path = artifact.cached_path
        if path is None:
            raise JarsUnavailable(f"jgo names no place to keep {jar.coordinate}")
        for attempt in range(_ATTEMPTS):
            path.unlink(missing_ok=True)  # jgo leaves a torn file and would take it for the whole one
            try:
                artifact.resolve()
            except Exception:  # any network failure: the last attempt's is raised
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            if _matches(path, jar) or attempt == _ATTEMPTS - 1:
                break
        path.replace(folder / jar.file_name)
        return jar

    pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE, thread_name_prefix="fetch-jar")
    try:
        # Largest first, so that no big one is left alone at the end.
        waiting = [pool.submit(one, jar) for jar in sorted(jars, key=lambda jar: -jar.size_bytes)]
        for done in as_completed(waiting):
            accept(done.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
