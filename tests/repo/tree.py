"""What the repository holds: its tracked files, by kind.

Checkers take a root, so that a test can plant a violation in a tree of its own and see it caught. In a real checkout
the files are those git tracks (and new ones it does not ignore); elsewhere, all of them.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("headrace", "services")
GENERATED = ("uv.lock",)
"""Written by tools from the package indexes, so full of their addresses."""


def tracked(root: Path = ROOT) -> Iterator[Path]:
    """Every file that is or would be committed, as absolute paths in a stable order."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        paths = [root / name for name in sorted(set(listed.split("\0"))) if name]
    else:
        paths = sorted(path for path in root.rglob("*") if "__pycache__" not in path.parts)
    yield from (path for path in paths if path.is_file())


def python_files(root: Path = ROOT, folders: tuple[str, ...] = PACKAGES) -> Iterator[Path]:
    """The Python modules below the given top folders."""
    for path in tracked(root):
        if path.suffix == ".py" and path.relative_to(root).parts[0] in folders:
            yield path


def text_files(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Every tracked file that reads as UTF-8 text, with its text; generated files are left out."""
    for path in tracked(root):
        if str(path.relative_to(root)) in GENERATED:
            continue
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
