"""Advisory locks on files, held by one process at a time and given up by the kernel when their holder dies.

Why not a file that merely exists: after `kill -9` such a file stays and blocks everybody for ever. The wait
is a poll with a bound, because a blocking `flock` cannot time out. POSIX only, like the embedded broker
itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.broker.errors import BrokerError

_POLL_SECONDS = 0.05
_LAST_THREAD_SECONDS = 3.0

Progress = Callable[[str], None]


@contextmanager
def handed_on(path: Path, *, taken: str) -> Iterator[int]:
    """Lock `path`; gives its descriptor, to hand to a process that then holds the lock while it lives.

    Our own copy is closed after the body. Raises BrokerError(taken) if a living process holds the lock; waits a few
    seconds for that, since a killed process with many threads is gone from sight before its last thread is.
    """
    import fcntl

    deadline = time.monotonic() + _LAST_THREAD_SECONDS
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BrokerError(taken) from None
            time.sleep(_POLL_SECONDS)
        yield handle.fileno()


def silent(_: str) -> None:
    """A progress callback that says nothing."""


@contextmanager
def held(path: Path, *, wait_seconds: float, busy: str, progress: Progress = silent) -> Iterator[None]:
    """Hold the lock file `path` for the body; `progress(busy)` is said once if another process holds it.

    Raises BrokerError when the lock was not free within `wait_seconds`.
    """
    if sys.platform == "win32":
        raise BrokerError(
            "the embedded broker runs on Linux and macOS; on Windows name an existing Kafka instead"
        )
    import fcntl

    deadline = time.monotonic() + wait_seconds
    told = False
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"{busy}, and did not finish within {wait_seconds:.0f} s (lock file {path}); "
                        "wait for it, or end that process"
                    ) from None
            if not told:
                progress(busy)
                told = True
            time.sleep(_POLL_SECONDS)
        yield
