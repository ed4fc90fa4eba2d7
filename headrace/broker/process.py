"""Starting, recognising and ending a process that outlives us, through a pid file that may lie.

A pid in a file proves nothing: the process may have died and the number may now belong to somebody's editor.
So a process counts as ours only if its own command line carries the marker argument it was started with; only
such a process is ever signalled. Command lines are read from /proc where there is one, else from `ps`
(macOS).

A shell starts it in the background and ends, so it is nobody's child: it needs no parent that waits for it, and every
Python process, its starter too, sees it in the same way. The pid file is written by the process itself before it turns
into Java (`sh`: write `$$`, then `exec`), so a starter that is killed in between leaves no unknown process behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.02
_EXEC_LOOKS = 10
_KILL_WAIT_SECONDS = 5.0
_PS_TIMEOUT_SECONDS = 5.0
_SHELL_TIMEOUT_SECONDS = 10.0


def read_pid(path: Path) -> int | None:
    """The process id in `path`; None if the file is absent, empty or not a positive number."""
    try:
        number = int(path.read_text().strip())
    except (OSError, ValueError):
        return None
    return number if number > 1 else None


def spawn(
    command: Sequence[str],
    *,
    pid_file: Path,
    output: Path,
    folder: Path,
    environment: Mapping[str, str],
    keep_open: Sequence[int] = (),
) -> int:
    """Start `command` in a session of its own, in `folder`, with standard output and error to `output` (truncated).

    `keep_open` are file descriptors it inherits. Returns its process id, which is also what `pid_file` will hold.
    Raises OSError if it cannot be started.
    """
    into_pid_file = ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(pid_file), *command]
    try:
        starter = subprocess.run(
            ["/bin/sh", "-c", 'out=$0; "$@" >"$out" 2>&1 & echo $!', str(output), *into_pid_file],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=keep_open,
            start_new_session=True,
            timeout=_SHELL_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"/bin/sh could not start {command[0]}: {error}") from error
    return int(starter.stdout)


def alive(pid: int, marker: str) -> bool:
    """True if process `pid` runs (a zombie does not) and has `marker` as one of its arguments."""
    if Path("/proc/self/cmdline").exists():
        return _alive_in_proc(pid, marker)
    return _alive_in_ps(pid, marker)


def end(pid: int, marker: str, timeout_seconds: float) -> bool:
    """SIGTERM, wait, then SIGKILL if it is still there. True if it ended by itself within the timeout.

    Never signals a process without the marker. Raises OSError if the process cannot be signalled, TimeoutError if it
    survives even SIGKILL (stuck in the kernel).
    """
    if not _signal(pid, marker, signal.SIGTERM) or _gone_within(pid, marker, timeout_seconds):
        return True
    if _signal(pid, marker, signal.SIGKILL) and not _gone_within(pid, marker, _KILL_WAIT_SECONDS):
        raise TimeoutError(f"process {pid} survives SIGKILL")
    return False


def _signal(pid: int, marker: str, number: signal.Signals) -> bool:
    """Send a signal to our process; False if it is not there (any more)."""
    if not alive(pid, marker):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _gone_within(pid: int, marker: str, timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while alive(pid, marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _alive_in_proc(pid: int, marker: str) -> bool:
    folder = Path("/proc") / str(pid)
    try:
        arguments = _arguments(folder / "cmdline")
        # The state follows the command's name, which is in brackets and may itself hold brackets.
        state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in (b"Z", b"X") and os.fsencode(marker) in arguments


def _arguments(path: Path) -> list[bytes]:
    """The arguments in a `cmdline` file. It is empty for a moment while a process turns into another program."""
    for _ in range(_EXEC_LOOKS):
        if text := path.read_bytes():
            return text.split(b"\0")
        time.sleep(_POLL_SECONDS / 4)
    return []


def _alive_in_ps(pid: int, marker: str) -> bool:
    try:
        answer = subprocess.run(
            ["ps", "-ww", "-o", "state=", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            timeout=_PS_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    state, _, command = answer.stdout.strip().partition(b" ")
    return bool(state) and not state.startswith(b"Z") and _has_word(command, os.fsencode(marker))


def _has_word(command: bytes, word: bytes) -> bool:
    """True if `word` stands in `command` between spaces (a home `/a/b` must not match the marker of `/a/b2`)."""
    return b" " + word + b" " in b" " + command + b" "
