"""How a service ends: exit code, the last line on stderr, and never later than it says, wherever something hangs."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
import sys, threading, time
from contextlib import asynccontextmanager
from pathlib import Path
from headrace import runner
from headrace.errors import Fatal, Unusable
from headrace.keys import KeyRing
from headrace.web import create_app

class Host:
    def __init__(self):
        self.told = threading.Event()
    def run(self):
        print("host runs", flush=True)
        work(self)
    def stop(self):
        self.told.set()

lifespan = None
{body}

def run(settings):
    app = create_app(service="thing", keys=KeyRing.load("/nowhere"), ready=dict, lifespan=lifespan)
    return runner.serve_with_host(app, Host(), address="127.0.0.1", port={port})

sys.exit(runner.run_service("thing", object, run))
"""


def start(body: str, port: int = 0) -> "subprocess.Popen[str]":
    program = PROGRAM.replace("{body}", textwrap.dedent(body)).replace("{port}", str(port))
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip


def end(process: "subprocess.Popen[str]", timeout: float = 60) -> tuple[int, str, list[str]]:
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err.splitlines()


def test_a_fatal_error_ends_it_with_one_line_that_says_why():
    code, _, lines = end(start("def work(host): time.sleep(0.5); raise Fatal('fenced by\\na twin')"))
    assert (code, lines[-1]) == (1, "thing: fenced by a twin")
    assert "Traceback" not in "".join(lines)


def test_a_bug_ends_it_too_and_the_log_has_the_traceback():
    code, _, lines = end(start("def work(host): [][1]"))
    assert (code, lines[-1]) == (1, "thing: list index out of range")
    assert "Traceback" in "".join(lines)


def test_an_error_without_words_has_a_name():
    code, _, lines = end(start("def work(host): raise AssertionError"))
    assert (code, lines[-1]) == (1, "thing: AssertionError")


def test_the_port_is_taken_before_the_host_runs():
    """A second process, started by mistake, would else fence the one that works and then give up."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, lines = end(start("def work(host): host.told.wait()", port))
    assert (code, out) == (1, "")
    assert lines[-1].startswith(f"thing: cannot listen on 127.0.0.1:{port}: Address already in use")


def test_an_api_that_cannot_start_ends_the_host():
    body = """
    def work(host): host.told.wait()
    @asynccontextmanager
    async def lifespan(app):
        raise Unusable("no tables")
        yield
    """
    code, out, lines = end(start(body))
    assert (code, out) == (1, "host runs\n")
    assert lines[-1] == "thing: the service could not start; the log above says why"
    assert "no tables" in "".join(lines)


def stopped(body: str) -> tuple[int, str, list[str]]:
    process = start(body)
    assert process.stdout is not None
    assert process.stdout.readline() == "host runs\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    return end(process)


def test_a_stop_is_no_failure():
    code, _, lines = stopped("def work(host): host.told.wait()")
    assert code == 0
    assert not [line for line in lines if line.startswith("thing:")]


def test_a_host_that_does_not_stop_is_left_behind():
    began = time.monotonic()
    code, _, lines = stopped("runner.STOP_SECONDS = 0.5\ndef work(host): time.sleep(100)")
    assert (code, lines[-1]) == (1, "thing: its work did not end within 0 s after the stop")
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("where", ["the API", "the interpreter"])
def test_what_hangs_after_a_failure_is_ended_by_force(where):
    hang = {
        # A lifespan that never ends, and a thread that is no daemon: both would keep the process for ever.
        "the API": "def work(host): time.sleep(0.5); raise Fatal('gone')\n"
        "@asynccontextmanager\nasync def lifespan(app):\n    yield\n    time.sleep(1000)\n",
        "the interpreter": "def work(host): raise Fatal('gone')\n"
        "threading.Thread(target=lambda: time.sleep(1000)).start()\n",
    }[where]
    code, _, lines = end(start("runner.END_SECONDS = 2.0\n" + hang))
    assert (code, lines[-1]) == (1, "thing: gone (ended by force, as it did not end by itself)")
