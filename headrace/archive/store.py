"""Objects by name, in a folder, S3, Google Cloud Storage or Azure: the only module that knows object stores.

Two kinds of write are all the archive needs: `create`, which fails if the name is taken (the compare-and-set on which
exactly-once rests), and `put` of content-addressed bytes, which may be repeated. The cloud stores promise that an
acknowledged write is durable. obstore's folder store does not (it links or renames the file and never syncs it, so that
a power cut may leave a name with nothing behind it): for `file://` the writes are made here, synced.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from headrace.archive.segment import MISSING
from headrace.errors import HeadraceError, Transient, Unusable

FORMS = "file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix"


class Store(Protocol):
    """What the archive needs of an object store. Raises `Transient` while it is away, `Unusable` if it says no."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a new object, durably and whole or not at all; False if the name is taken (nothing is changed)."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write an object, durably and whole or not at all, whether or not it is there."""
        ...

    def get(self, path: str) -> bytes | None:
        """An object's bytes; None if there is none."""
        ...

    def names(self, folder: str) -> list[str]:
        """Names of the objects directly in `folder`, sorted."""
        ...


class ObjectStore:
    """A `Store` on what a URL names. It may be sent to another process, which opens it anew."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._obstore = _obstore()
        self._store: Any = _opened(url)

    def __reduce__(self) -> tuple[Callable[[str], Store], tuple[str]]:
        return open_store, (self.url,)

    def create(self, path: str, data: bytes) -> bool:
        """See `Store`."""
        try:
            self._obstore.put(self._store, path, data, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        except Exception as error:
            raise self._told(error, f"creating {path}") from error
        return True

    def put(self, path: str, data: bytes) -> None:
        """See `Store`."""
        try:
            self._obstore.put(self._store, path, data, use_multipart=False)
        except Exception as error:
            raise self._told(error, f"writing {path}") from error

    def get(self, path: str) -> bytes | None:
        """See `Store`."""
        try:
            return bytes(self._obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._told(error, f"reading {path}") from error

    def names(self, folder: str) -> list[str]:
        """See `Store`."""
        prefix = f"{folder}/"
        try:
            listed = self._obstore.list_with_delimiter(self._store, prefix)["objects"]
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._told(error, f"listing {folder}") from error
        return sorted(str(found["path"]).removeprefix(prefix) for found in listed)

    def _told(self, error: Exception, doing: str) -> HeadraceError:
        exceptions = self._obstore.exceptions
        lasting = (
            exceptions.PermissionDeniedError,
            exceptions.UnauthenticatedError,
            exceptions.NotSupportedError,
            exceptions.InvalidPathError,
            PermissionError,
        )
        reason = f"archive {self.url}: {doing}: {_first_line(error)}"
        return Unusable(reason) if isinstance(error, lasting) else Transient(reason)


class FolderStore(ObjectStore):
    """A `Store` in a folder, whose writes survive a power cut."""

    def __init__(self, url: str) -> None:
        self._root = Path(unquote(urlsplit(url).path))
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unusable(f"archive {url}: {error.strerror}: {error.filename}") from None
        super().__init__(url)

    def create(self, path: str, data: bytes) -> bool:
        """See `Store`."""
        return self._write(path, data, replace=False)

    def put(self, path: str, data: bytes) -> None:
        """See `Store`."""
        self._write(path, data, replace=True)

    def _write(self, path: str, data: bytes, *, replace: bool) -> bool:
        target = self._root / path
        # Names that end so are obstore's own for files under way: it does not list them.
        fresh = target.with_name(f"{target.name}#{os.getpid()}{threading.get_ident()}")
        try:
            self._folders(target.parent)
            try:
                _write_synced(fresh, data)
                if replace:
                    fresh.replace(target)
                elif not _linked(fresh, target):
                    return False
            finally:
                fresh.unlink(missing_ok=True)
            _sync(target.parent)
        except OSError as error:
            raise Transient(f"archive {self.url}: writing {path}: {error.strerror}") from error
        return True

    def _folders(self, folder: Path) -> None:
        """Make the folders that are missing, each durable before what goes into it."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for made in reversed(missing):
            made.mkdir(exist_ok=True, mode=0o700)
            _sync(made.parent)


def open_store(url: str) -> Store:
    """The store that `url` names. Raises `Unusable` if it is none, or a package is missing."""
    return FolderStore(url) if url.startswith("file://") else ObjectStore(url)


def _opened(url: str) -> Any:
    from obstore.store import from_url

    limits: dict[str, Any] = {}
    if not url.startswith(("file:", "memory:")):
        from datetime import timedelta

        # Whoever calls tries again by itself and has other work meanwhile.
        limits = {
            "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
            "client_options": {"timeout": timedelta(seconds=120), "connect_timeout": timedelta(seconds=5)},
        }
    try:
        return from_url(url, **limits)
    except Exception as error:
        raise Unusable(f"archive {url!r} cannot be opened ({_first_line(error)}); give {FORMS}") from None


def _obstore() -> ModuleType:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise Unusable(MISSING) from None
    return obstore


def _first_line(error: Exception) -> str:
    """Without what obstore appends: its inner structures, for debugging."""
    return str(error).partition("\n")[0]


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name; False if that is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
