"""Processes that work for another one: what they are told of the world, what they may take, that they end with it.

Two kinds of bounds. `watch` looks now and then, so it can say what was too much, and works everywhere. `confine` has
the operating system refuse more, at once and whatever the process is at; memory only on Linux.
"""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path

LOOK_SECONDS = 0.1
KILLED_SECONDS = 5
"""After the signal that its processor time is over."""
MB = 1 << 20
STATUS = Path("/proc/self/status")
"""Where Linux tells what a process takes."""


def environment() -> dict[str, str]:
    """For processes that work for us: a task says all that they need; the database's password is none of it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}


def peak_mb() -> float:
    """The most memory that this process has had."""
    if STATUS.is_file():  # the usual figure begins, on Linux, with what its parent had
        return _status_mb("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MB if sys.platform == "darwin" else peak / 1024


def watch(parent: int, cpu_seconds: float, memory_mb: float, over: Callable[[str], None]) -> None:
    """End this process at a limit, exit code 3, and when `parent`, which waits for it, is gone.

    over: told which limit it was, as the last thing.
    """

    def look() -> None:
        while True:
            if time.process_time() > cpu_seconds:
                over("cpu_seconds")
                os._exit(3)
            if peak_mb() > memory_mb:
                over("memory_mb")
                os._exit(3)
            if os.getppid() != parent:
                os._exit(1)
            time.sleep(LOOK_SECONDS)

    threading.Thread(target=look, name="watch", daemon=True).start()


def confine(cpu_seconds: float, more_mb: float) -> None:
    """From now on: so much processor time, so much memory besides what there is, no files, no processes, no core."""
    _lower(resource.RLIMIT_CPU, ceil(time.process_time() + cpu_seconds), KILLED_SECONDS)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    if STATUS.is_file():
        _lower(resource.RLIMIT_NPROC, 0)
        _lower(resource.RLIMIT_AS, int((_status_mb("VmSize") + more_mb) * MB))


def _lower(limit: int, value: int, spare: int = 0) -> None:
    """Never above what whoever started us has set. spare: between what is said with a signal and what is not."""
    _, hard = resource.getrlimit(limit)
    most = value + spare if hard == resource.RLIM_INFINITY else min(value + spare, hard)
    resource.setrlimit(limit, (min(value, most), most))


def _status_mb(name: str) -> float:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    line = next(one for one in lines if one.startswith(name))
    return int(line.split()[1]) / 1024
