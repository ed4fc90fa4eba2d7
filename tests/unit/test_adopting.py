"""States that another process has made: what would harm whoever loads it harms a child, is refused and named."""

import os
import pickle
import re
import subprocess
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from headrace import adopting, checkpoint
from headrace.errors import Unusable
from headrace.signing import Keys
from headrace.snapshots import SnapshotStore

KEYS = Keys(b"k" * 32)


class Call:
    """Pickled, it is a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def harm(kind: str, folder: Path) -> bytes:
    """What does something when it is loaded; all but the first hold nothing that the list forbids."""
    return {
        "code": lambda: pickle.dumps(Call(os.mkdir, (str(folder / "harmed"),))),
        "crash": lambda: (
            b"\x80\x05\x8f(K\x01" + b"\x85" * 2_000_000 + b"\x90."
        ),  # a hash, two million calls deep
        "memory": lambda: pickle.dumps(Call(list, (range(10**15),))),
        "endless": lambda: pickle.dumps(Call(deque, (range(10**15), 3))),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("code", r"may not hold \w+\.mkdir"),
        ("crash", "ended by SIGSEGV"),
        ("memory", "MemoryError|too much memory"),
        ("endless", "too much processor time"),
    ],
)
def test_a_state_that_harms_who_loads_it_is_refused_and_named(
    kind: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded: list[bytes] = []
    monkeypatch.setattr(checkpoint, "loads", loaded.append)
    monkeypatch.setattr(adopting, "CPU_SECONDS", 1.0)
    monkeypatch.setattr(adopting, "WALL_SHARE", 100.0)  # a busy machine is not what is looked at here
    store = SnapshotStore(tmp_path / "states", KEYS)
    digest, _ = store.put(harm(kind, tmp_path))
    assert adopting.adopt(store, digest) is None
    [said] = caplog.messages
    assert said.startswith(f"snapshot {digest[:12]} is refused: a process of its own could not open it")
    assert re.search(says, said), said
    assert loaded == []  # here
    assert not (tmp_path / "harmed").exists()


def test_the_child_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, str] = {}

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        told.update(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("HEADRACE_API_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(subprocess, "run", run)
    adopting.loads(checkpoint.dumps([1]))
    assert "PATH" in told
    assert "secret" not in told.values()


def test_who_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "WALL_SHARE", 0.001)
    with pytest.raises(Unusable, match="could not open it in 0 s"):
        adopting.loads(checkpoint.dumps([1]))


def test_a_good_state_is_what_it_was(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, KEYS)
    digest, _ = store.put(checkpoint.dumps({"a": [1, 2.5, "ü"]}))
    assert adopting.adopt(store, digest) == {"a": [1, 2.5, "ü"]}


@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "stranger", "lost"])
def test_what_was_tampered_with_reaches_no_unpickler(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(adopting, "loads", read.append)
    store = SnapshotStore(tmp_path, KEYS)
    digest, _ = store.put(b"state")
    path = tmp_path / digest
    whole = path.read_bytes()
    if how == "flipped":
        path.write_bytes(whole[:-1] + b"?")
    elif how == "cut":
        path.write_bytes(whole[:-1])
    elif how == "longer":
        path.write_bytes(whole + b"?")
    elif how == "stranger":
        digest, _ = SnapshotStore(tmp_path, Keys(b"o" * 32)).put(b"state")
    else:
        path.unlink()
    assert adopting.adopt(store, digest) is None
    assert digest[:12] in caplog.text
    assert read == []
