"""Processes that outlive the command: known again by pid and start, never mistaken, always ended."""

import os
import signal
import subprocess
import sys
import time

import pytest

from headrace.cli import processes

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(command):
        log = tmp_path / f"{len(started)}.log"
        pid = processes.start(command, log=log, environment=dict(os.environ), folder=tmp_path)
        mark = processes.mark_of(pid)
        started.append((pid, mark))
        deadline = time.monotonic() + 20
        while "up" not in "".join(processes.last_lines(log, 1)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return pid, mark

    yield begin
    for pid, mark in started:
        if processes.is_alive(pid, mark):
            os.kill(pid, signal.SIGKILL)


def test_a_process_is_known_again_and_ends_when_told(start):
    pid, mark = start(SLEEP)
    assert processes.is_alive(pid, mark)
    assert os.getsid(pid) == pid  # Ctrl-C in the terminal does not reach it
    assert processes.memory_mb(pid) > 1
    assert processes.stop([(pid, mark)], 10) == []
    assert not processes.is_alive(pid, mark)
    assert processes.exit_code(pid) == -signal.SIGTERM


def test_one_that_does_not_listen_is_killed(start):
    pid, mark = start(STUBBORN)
    assert processes.stop([(pid, mark)], 0.3) == [pid]
    assert not processes.is_alive(pid, mark)


def test_somebody_else_s_process_with_our_pid_is_left_alone(start):
    pid, mark = start(SLEEP)
    assert not processes.is_alive(pid, mark + "0")
    assert processes.stop([(pid, mark + "0"), (pid, "")], 5) == []
    assert processes.is_alive(pid, mark)


def test_a_dead_child_is_dead_though_nobody_waited_for_it(tmp_path):
    pid = processes.start([sys.executable, "-c", "raise SystemExit(3)"], log=tmp_path / "a.log",
                          environment=dict(os.environ), folder=tmp_path)  # fmt: skip
    mark = processes.mark_of(pid)
    deadline = time.monotonic() + 20
    while processes.is_alive(pid, mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not processes.is_alive(pid, mark)
    assert processes.exit_code(pid) == 3


def test_a_zombie_of_another_parent_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and nobody collected it
    assert processes.mark_of(child.pid) == ""
    child.wait()
    assert processes.memory_mb(child.pid) is None


class TestLogs:
    def test_the_last_runs_are_kept_and_no_more(self, tmp_path):
        log = tmp_path / "x.log"
        for run in range(6):
            processes.rotate(log)
            log.write_text(f"run {run}")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
        assert [(tmp_path / f"x.log.{n}").read_text() for n in (1, 2, 3)] == ["run 4", "run 3", "run 2"]

    def test_an_empty_log_does_not_push_a_full_one_out(self, tmp_path):
        log = tmp_path / "x.log"
        log.write_text("")
        processes.rotate(log)
        assert [path.name for path in tmp_path.iterdir()] == ["x.log"]

    def test_a_long_one_is_emptied_while_it_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(processes, "LOG_LIMIT_BYTES", 10)
        log = tmp_path / "x.log"
        with log.open("a") as writer:
            writer.write("0123456789a")
            writer.flush()
            processes.trim(log)
            writer.write("more")
        assert log.read_text() == "more"
        processes.trim(log)
        assert log.read_text() == "more"

    def test_last_lines(self, tmp_path):
        log = tmp_path / "x.log"
        assert processes.last_lines(log, 3) == []
        log.write_bytes(b"a\n\nb\xff\nc\n")
        assert processes.last_lines(log, 2) == ["b\ufffd", "c"]

    def test_last_lines_of_this_life_also_when_the_log_was_emptied_in_it(self, tmp_path):
        log = tmp_path / "x.log"
        log.write_text("the life before\n")
        begin = log.stat().st_size
        assert processes.last_lines(log, 3, begin) == []
        with log.open("a") as writer:
            writer.write("scoring: fenced\n")
        assert processes.last_lines(log, 3, begin) == ["scoring: fenced"]
        log.write_text("why\n")
        assert processes.last_lines(log, 3, begin) == ["why"]


class TestWaitForEnd:
    @pytest.fixture
    def pipe(self):
        ends = os.pipe()
        yield ends
        for end in ends:
            os.close(end)

    def timed(self, *arguments):
        began = time.monotonic()
        processes.wait_for_end(*arguments)
        return time.monotonic() - began

    def test_the_end_of_a_process_that_is_not_our_child_is_seen_at_once(self, pipe, tmp_path):
        if not hasattr(os, "pidfd_open"):
            pytest.skip("this system does not tell")
        shell = subprocess.run(
            ["sh", "-c", "sleep 1 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True
        )
        assert 0.2 < self.timed([int(shell.stdout)], 20.0, pipe[0]) < 10

    def test_the_time(self, pipe, start):
        assert 0.2 <= self.timed([start(SLEEP)[0]], 0.2, pipe[0]) < 5

    def test_a_word_wakes(self, pipe, start):
        os.write(pipe[1], b"x")
        assert self.timed([start(SLEEP)[0]], 20.0, pipe[0]) < 5

    def test_one_that_is_gone_already(self, pipe):
        child = subprocess.Popen(["true"])
        child.wait()
        assert self.timed([child.pid], 20.0, pipe[0]) < 5

    def test_where_the_system_does_not_tell_it_looks_every_second(self, pipe, start, monkeypatch):
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        assert self.timed([start(SLEEP)[0]], 20.0, pipe[0]) < 5

    def test_no_descriptor_is_left_open(self, pipe, start):
        pid, _ = start(SLEEP)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            processes.wait_for_end([pid], 0.0, pipe[0])
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_that_was_collected_is_forgotten(tmp_path):
    pid = processes.start([sys.executable, "-c", "raise SystemExit(3)"], log=tmp_path / "a.log",
                          environment=dict(os.environ), folder=tmp_path)  # fmt: skip
    deadline = time.monotonic() + 20
    while (code := processes.collect(pid)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert code == 3
    assert pid not in processes._children
    assert processes.collect(pid) is None
