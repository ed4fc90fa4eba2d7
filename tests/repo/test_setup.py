"""How the environment comes to be: `.ci/setup` with stand-ins for Python and uv, and once for real with plain pip."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, tracked

PYTHON_STAND_IN = """#!/bin/sh
# Answers like a Python that will do; makes a .tools whose pip does nothing and whose uv writes down its arguments.
case "$*" in
  "-") cat >/dev/null; echo "$0" ;;
  "-m venv .tools")
    mkdir -p .tools/bin .venv
    printf '#!/bin/sh\\necho pip "$@" >>calls\\n' >.tools/bin/python
    printf '#!/bin/sh\\necho uv "$@" "downloads=$UV_PYTHON_DOWNLOADS" >>calls\\n' >.tools/bin/uv
    chmod +x .tools/bin/python .tools/bin/uv ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone as far as `.ci/setup` can tell, with stand-ins: `shim` fails as pyenv's do, `good` will do."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/setup", tmp_path / ".ci/setup")
    past = time.time() - 60
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (past, past))
    for name, text in (("shim", "#!/bin/sh\nexit 127\n"), ("good", PYTHON_STAND_IN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def setup(clone: Path, what: str, pythons: str) -> subprocess.CompletedProcess[str]:
    """Run `.ci/setup` in the clone; PYTHONS as given."""
    environment = {"PATH": os.environ["PATH"], "PYTHONS": pythons}
    command = [str(clone / ".ci/setup"), what]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def calls(clone: Path) -> list[str]:
    """What pip and uv were asked so far."""
    return (clone / "calls").read_text().splitlines() if (clone / "calls").exists() else []


def test_the_first_python_that_will_do_is_used(clone: Path) -> None:
    good = clone / "good"
    run = setup(clone, "all", f"no-such-python {clone / 'shim'} {good}")
    assert run.returncode == 0, run.stderr
    pip, uv = calls(clone)
    assert pip.startswith("pip -m pip install --quiet uv==")
    assert uv == f"uv sync --quiet --locked --python {good} --all-extras downloads=never"


def test_the_second_time_nothing_is_done(clone: Path) -> None:
    assert setup(clone, "all", str(clone / "good")).returncode == 0
    before = calls(clone)
    for what in ("all", "demo"):
        run = setup(clone, what, "no-such-python")
        assert run.returncode == 0, run.stderr
    assert calls(clone) == before


def test_a_changed_lock_is_synced_again_with_the_uv_that_is_there(clone: Path) -> None:
    setup(clone, "demo", str(clone / "good"))
    future = time.time() + 60
    os.utime(clone / "uv.lock", (future, future))
    assert setup(clone, "demo", str(clone / "good")).returncode == 0
    assert [call.split()[0] for call in calls(clone)] == ["pip", "uv", "uv"]


def test_the_demo_takes_its_extras_only_and_removes_nothing(clone: Path) -> None:
    setup(clone, "demo", str(clone / "good"))
    assert "--inexact --extra embedded --extra demo" in calls(clone)[-1]
    assert not (clone / ".venv/all.stamp").exists()


def test_without_a_python_it_says_what_to_install(clone: Path) -> None:
    run = setup(clone, "all", f"no-such-python {clone / 'shim'}")
    assert run.returncode == 1
    assert "No Python from 3.11 to 3.13" in run.stderr
    assert "make setup PYTHONS=" in run.stderr
    assert not (clone / ".tools").exists()


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(900)
def test_plain_pip_installs_a_command_that_runs(tmp_path: Path) -> None:
    """`pip install ".[embedded,demo]"` into a fresh environment, away from the sources, without uv or the lock."""
    source = tmp_path / "source"
    for path in tracked():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv/bin"
    install = [str(binaries / "python"), "-m", "pip", "install", "--quiet", f"{source}[embedded,demo]"]
    installed = subprocess.run(install, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    for command in (
        ["headrace", "--help"],
        ["python", "-c", "import services.scoring.__main__, headrace.broker"],
    ):
        run = subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
