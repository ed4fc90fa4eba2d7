"""What tests of several folders share: when a missing tool may be skipped, fresh names, a PostgreSQL server."""

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def require_or_skip(condition: bool, reason: str) -> None:
    """Go on if `condition`; else skip, but fail where CI is set: there a skipped test would hide a missing tool."""
    if condition:
        return
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"required in CI: {reason}")
    pytest.skip(reason)


def fresh(prefix: str) -> str:
    """A stream name that no other test uses, so that tests may share one broker."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own, from the installed programs; gives its SQLAlchemy URL.

    Its data is not below pytest's folder: whoever starts pytest next makes that private again, and the server, which is
    another user's where pytest is root's, could no longer reach it.
    """
    programs = [
        *sorted(glob.glob("/usr/lib/postgresql/*/bin")),
        Path(shutil.which("initdb") or "/x/x").parent,
    ]
    bin_folder = next((Path(found) for found in programs if (Path(found) / "initdb").exists()), None)
    require_or_skip(
        bin_folder is not None, "PostgreSQL's server programs (Debian: apt-get install postgresql)"
    )
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    try:
        yield from _serve(bin_folder, folder)
    finally:
        shutil.rmtree(folder)


def _serve(bin_folder: Path, folder: Path) -> Iterator[str]:
    data = folder / "data"
    data.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    unprivileged: dict = {}
    if os.getuid() == 0:  # initdb refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o711)
        unprivileged = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    subprocess.run(
        [bin_folder / "initdb", "-D", data, "-U", "headrace", "-A", "trust", "-N"],
        check=True, capture_output=True, cwd="/", **unprivileged,
    )  # fmt: skip
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
    with open(folder / "postgres.log", "wb") as log:
        server = subprocess.Popen(
            [bin_folder / "postgres", "-D", data, "-p", str(port), *options],
            stdout=log, stderr=log, cwd="/", **unprivileged,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(
            [bin_folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False
        ).returncode:
            assert server.poll() is None, (folder / "postgres.log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.1)
        yield f"postgresql+psycopg://headrace@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown
        server.wait(20)
