"""Processes that outlive the command: starting them, knowing them again, ending them.

A pid alone is no identity, as the system gives it to somebody else once its process is gone. So a process is remembered
with the moment of its start, and nothing is signalled unless both agree.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

LOG_GENERATIONS = 3
LOG_LIMIT_BYTES = 64 * 1024 * 1024
POLL_SECONDS = 0.05
UNSEEN_SECONDS = 1.0
"""Between two looks at a process whose end the system does not announce."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Those this very process started: a dead child stays a zombie, with its pid, until it is asked for."""


def start(command: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path) -> int:
    """Start a process of its own (no terminal, its own session), output appended to `log`; returns its pid."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    _children[process.pid] = process
    return process.pid


def mark_of(pid: int) -> str:
    """When process `pid` was started, as the system tells it; "" if there is no such (living) process."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        return ""
    try:
        # The name, in brackets, may hold anything: count from behind it. State comes first, start time is the 20th.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _mark_by_ps(pid)
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"t{fields[19]}"


def is_alive(pid: int, mark: str) -> bool:
    """Whether the process that was remembered still runs."""
    return bool(mark) and mark_of(pid) == mark


def exit_code(pid: int) -> int | None:
    """How a process ended that this process started; None if it runs or is not ours to know."""
    child = _children.get(pid)
    return child.poll() if child is not None else None


def collect(pid: int) -> int | None:
    """As `exit_code`, and forget the process if it has ended: for one who starts any number of them."""
    code = exit_code(pid)
    if code is not None:
        del _children[pid]
    return code


def wait_for_end(pids: Sequence[int], timeout_seconds: float, wake: int) -> None:
    """Wait until one of the processes ends, children or not, or the descriptor `wake` can be read, or the time is over.

    Where the system has no process descriptors (macOS), only `wake` and the time, of which at most a second.
    """
    with ExitStack() as stack:
        waited = select.poll() if hasattr(select, "poll") else None
        if waited is None or not hasattr(os, "pidfd_open"):
            select.select([wake], [], [], min(timeout_seconds, UNSEEN_SECONDS))
            return
        waited.register(wake, select.POLLIN)
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            except OSError:  # out of descriptors, or forbidden: seen a little later
                timeout_seconds = min(timeout_seconds, UNSEEN_SECONDS)
                continue
            stack.callback(os.close, descriptor)
            waited.register(descriptor, select.POLLIN)
        waited.poll(timeout_seconds * 1000)


def stop(processes: Sequence[tuple[int, str]], timeout_seconds: float) -> list[int]:
    """End processes (pid, mark) together: SIGTERM, and after the timeout SIGKILL. Returns the pids that were killed."""
    alive = [(pid, mark) for pid, mark in processes if is_alive(pid, mark)]
    for pid, _ in alive:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_seconds
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        alive = [(pid, mark) for pid, mark in alive if is_alive(pid, mark)]
    for pid, _ in alive:
        _signal(pid, signal.SIGKILL)
    killed = [pid for pid, _ in alive]
    while alive and time.monotonic() < deadline + 5:
        time.sleep(POLL_SECONDS)
        alive = [(pid, mark) for pid, mark in alive if is_alive(pid, mark)]
    return killed


def memory_mb(pid: int) -> float | None:
    """Resident memory in MB (10^6 bytes); None if it cannot be told."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    text = _ps(pid, "rss=")
    return int(text) * 1024 / 1e6 if text.isdigit() else None


def rotate(log: Path, at_bytes: int = 0) -> None:
    """Put the log of the last run aside (`x.log.1` is the latest); of the old ones `LOG_GENERATIONS` are kept.

    One of up to `at_bytes` stays where it is, and the next run adds to it.
    """
    if not log.exists() or log.stat().st_size <= at_bytes:
        return
    for generation in range(LOG_GENERATIONS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{generation}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{generation + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def trim(log: Path) -> None:
    """Empty the log of a running process once it is over `LOG_LIMIT_BYTES` (it is opened to append, so it goes on)."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        os.truncate(log, 0)


def last_lines(log: Path, count: int, since: int = 0) -> list[str]:
    """The last lines of a log that are not blank, of those behind byte `since`."""
    try:
        with log.open("rb") as file:
            size = log.stat().st_size
            begin = since if since <= size else 0  # it was emptied meanwhile
            file.seek(max(begin, size - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _mark_by_ps(pid: int) -> str:
    state, _, started = _ps(pid, "state=,lstart=").partition(" ")
    return "" if not started or state.startswith("Z") else started.strip()


def _ps(pid: int, columns: str) -> str:
    try:
        answer = subprocess.run(
            ["ps", "-o", columns, "-p", str(pid)], capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()
