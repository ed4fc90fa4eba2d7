"""The house style holds, and each rule of it catches what it is for."""

import subprocess
from pathlib import Path

import pytest

from tests.repo import style

GOOD = '"""What it is."""\n\n\ndef double(x: int) -> int:\n    return 2 * x\n'


def test_the_repository_keeps_the_house_style() -> None:
    """Sizes, docstrings, annotations, addresses, unfinished business."""
    assert style.findings() == []


def plant(root: Path, name: str, text: str) -> list[str]:
    """Write one file into an empty tree and say what is found wrong with the tree."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return style.findings(root)


def test_a_good_module_passes(tmp_path: Path) -> None:
    assert plant(tmp_path, "headrace/good.py", GOOD) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("headrace/bad.py", "x = 1\n", "no docstring"),
        ("headrace/bad.py", GOOD + "x = 1\n" * 450, "at most 450"),
        ("headrace/utils.py", GOOD, "says nothing"),
        ("services/bad.py", GOOD + "def f(a) -> int:\n    return a\n", "no annotation on a"),
        ("services/bad.py", GOOD + "def f(*, a: int):\n    return a\n", "no return annotation"),
        ("services/bad.py", GOOD + "async def f() -> None:\n" + "    pass\n" * 60, "f has 61 lines"),
        ("services/bad.py", GOOD + "import os\nx = os.environ['A']\n", "only settings.py"),
        ("services/bad.py", GOOD + "from os import getenv\n", "only settings.py"),
        ("services/bad.py", GOOD + "from pydantic_settings import BaseSettings\n", "only settings.py"),
        ("headrace/bad.py", GOOD + "x = eval('1')\n", "runs whatever"),
        ("tests/unit/test_bad.py", "x = eval('1')\n", "runs whatever"),
        ("docs/bad.md", "see " + "https://pypi" + ".org/x\n", "a registry's address"),
        ("docs/bad.md", "in /wo" + "rk/main\n", "a path of one machine"),
        ("headrace/bad.py", GOOD + "# TO" + "DO: later\n", "unfinished business"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path: Path, name: str, text: str, expected: str) -> None:
    found = plant(tmp_path, name, text)
    assert any(expected in finding and finding.startswith(name) for finding in found), found


def test_a_setting_may_be_read_where_settings_are(tmp_path: Path) -> None:
    assert plant(tmp_path, "services/ingest/settings.py", GOOD + "import os\nx = os.environ['A']\n") == []


def test_what_git_ignores_is_not_read(tmp_path: Path) -> None:
    """Only what would be committed counts: a local environment full of foreign code must not fail the check."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(".venv/\n")
    assert plant(tmp_path, ".venv/x.md", "/wo" + "rk/main") == []
    assert len(plant(tmp_path, "x.md", "/wo" + "rk/main")) == 1
