"""A what-if replay that is killed goes on where it was and ends with the same bytes. Real processes, no broker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.replay.running import Workbench
from tests.unit.replay.streams import KEYS

pytestmark = pytest.mark.slow

MODULE = "tests.integration.replay_process"
ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, partitions: int, pause: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", MODULE, str(folder), str(partitions), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def report(folder: Path, partitions: int) -> bytes:
    process = start(folder, partitions, 0.0)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    return out


def killed(folder: Path, partitions: int, how: signal.Signals, least: int) -> None:
    """Run until every partition has a state beyond `least`, then end the process."""
    bench = Workbench(folder, KEYS)
    process = start(folder, partitions, 0.15)
    deadline = time.monotonic() + 100
    while not all(bench.position(partition) > least for partition in range(partitions)):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, how)
    process.communicate(timeout=30)
    assert process.returncode != 0


@pytest.mark.parametrize(("partitions", "how"), [(1, signal.SIGINT), (2, signal.SIGKILL)])
def test_killed_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, partitions: int, how: signal.Signals
) -> None:
    whole = report(tmp_path / "whole", partitions)
    assert len(whole) > 5_000
    folder = tmp_path / "killed"
    killed(folder, partitions, how, 500)
    if partitions == 1:
        killed(folder, partitions, how, 1200)
    assert report(folder, partitions) == whole


def test_a_damaged_state_costs_time_only(tmp_path: Path) -> None:
    whole = report(tmp_path / "whole", 1)
    folder = tmp_path / "killed"
    killed(folder, 1, signal.SIGKILL, 500)
    [state] = [path for path in (folder / "0").iterdir() if not path.suffix]
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    assert report(folder, 1) == whole


def test_only_one_state_is_kept_and_nobody_else_works_at_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, 1, 0.15)
    bench = Workbench(folder, KEYS)
    deadline = time.monotonic() + 60
    while bench.position(0) < 300:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # it holds the folder while it sleeps
    other = start(folder, 1, 0.0)
    _, err = other.communicate(timeout=60)
    assert other.returncode != 0
    assert "the same replay is running" in err.decode()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len([path for path in (folder / "0").iterdir() if not path.suffix]) <= 2
