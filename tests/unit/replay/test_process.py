"""A look at the past runs in a process of its own, which must not outlive whoever asked for it."""

import subprocess
import sys

PARENT_AND_CHILD = """
import os, sys, time
from headrace.replay.__main__ import ending_with

parent = os.getpid()
if os.fork() == 0:
    told = ending_with(parent)
    told(1, 2)
    print("works", flush=True)
    for _ in range(6_000):
        time.sleep(0.01)
        told(1, 2)
time.sleep(60)
"""


def test_it_ends_when_its_parent_was_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT_AND_CHILD], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": "."}
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "works\n"
    parent.kill()
    # The child holds the other end of the pipe: it closes when both have ended.
    assert parent.communicate(timeout=20)[0] == ""
