"""States that another process has made: opened by a child process first, which may come to harm.

A signature says who wrote a state, not that it is harmless: a trial runs user code with the key at hand, and a pickle
of nothing but nested tuples can end a process in C, where nothing can be caught. So what is taken over (a rebuild that
somebody else prepared, a trial's winner, a snapshot that a replay begins with) is loaded by `python -m
headrace.adopting` first, within limits and without secrets; only what it could load is loaded here. A service's own
snapshots are not: they are what it had in memory, and a restart must not wait for another process.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn, Protocol

from headrace import checkpoint, child
from headrace.errors import Unusable

CPU_SECONDS = 60.0
CPU_SECONDS_A_MB = 1.0
WALL_SHARE = 4.0
"""Of the processor time: a machine that is busy."""
MEMORY_MB = 512.0
MEMORY_A_MB = 128.0
"""A naive Bayes takes 48 times what it is pickled to, as what can be made again is left out (`headrace.checkpoint`)."""
TOLD = ("PATH", "PYTHON", "LD_LIBRARY_PATH", "DYLD_", "HOME", "LANG", "LC_", "TMPDIR")
"""How the names begin of what the child is told of its surroundings."""

_log = logging.getLogger("headrace.adopting")  # on stderr wherever it is: stdout may be a program's


class Store(Protocol):
    """What is needed of `headrace.snapshots.SnapshotStore`."""

    def get(self, digest: str) -> bytes: ...


def adopt(store: Store, digest: str) -> Any:
    """What a stored state holds; None, and said in the log, if it is refused: then the log is folded instead."""
    try:
        state = store.get(digest)
        try:
            return loads(state)
        except Unusable as error:
            raise Unusable(f"snapshot {digest[:12]} is refused: {error}") from None
    except Unusable as error:
        _log.warning("%s", error)
        return None


def loads(state: bytes) -> Any:
    """What a state holds, loaded by a child first. Only for what `open_signed` let through. Raises `Unusable`."""
    megabytes = len(state) / child.MB
    limits = (CPU_SECONDS + CPU_SECONDS_A_MB * megabytes, MEMORY_MB + MEMORY_A_MB * megabytes)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "headrace.adopting", str(os.getpid()), *map(str, limits)],
            input=state,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**_told(), "OPENBLAS_NUM_THREADS": "1"},  # each thread would count as memory
            timeout=WALL_SHARE * limits[0],
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unusable(f"a process of its own could not open it in {error.timeout:.0f} s") from None
    except OSError as error:
        raise Unusable(f"no process could be started to open it first: {error.strerror}") from None
    if done.returncode:
        raise Unusable(f"a process of its own could not open it: {_why(done)}")
    return checkpoint.loads(state)


def _told() -> dict[str, str]:
    """What Python needs to find its modules, and no more: the archive's credentials stand there too."""
    return {name: value for name, value in child.environment().items() if name.startswith(TOLD)}


def _why(done: "subprocess.CompletedProcess[bytes]") -> str:
    if done.returncode == -signal.SIGXCPU:
        return "it took too much processor time"
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    return done.stdout.decode("utf-8", "replace").strip()[:500] or f"it ended with code {done.returncode}"


def main() -> NoReturn:
    """Load what comes on standard input. Exit code 0: it can be loaded; else the reason is on standard output."""
    parent, cpu_seconds, memory_mb = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    state = sys.stdin.buffer.read()
    child.watch(parent, time.process_time() + cpu_seconds, child.peak_mb() + memory_mb, _over)
    child.confine(cpu_seconds, memory_mb)
    try:
        checkpoint.loads(state)
    except Unusable as error:
        _say(str(error))
        os._exit(1)
    os._exit(0)  # to take a large state apart again is not worth the time


def _over(limit: str) -> None:
    _say(f"it took too much {'memory' if limit == 'memory_mb' else 'processor time'}")


def _say(reason: str) -> None:
    os.write(sys.stdout.fileno(), reason.encode())


if __name__ == "__main__":
    main()
