"""The import rules of pyproject.toml catch what they are for: each is broken once in a tree of stubs.

That the real tree keeps them is `lint-imports`, which `make check` runs beside this.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.tree import ROOT

STUBS = (
    "headrace/__init__.py",
    "headrace/checkpoint.py",
    "headrace/errors.py",
    "headrace/processor.py",
    "headrace/web.py",
    *(f"headrace/{package}/__init__.py" for package in (
        "broker", "cli", "client", "contracts", "fold", "kafka", "operators",
    )),
    "headrace/kafka/host.py",
    *(f"headrace/datasets/{module}.py" for module in (
        "__init__", "adoptions", "columns", "digest", "measurement", "profiler",
    )),
    "services/__init__.py",
    *(f"services/{service}/{module}.py"
      for service in ("ingest", "scoring", "monitor", "registry")
      for module in ("__init__", "__main__", "agents", "api", "settings", "processor", "domain/__init__")),
)  # fmt: skip


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of the design's modules, all empty, under the real configuration."""
    root = tmp_path_factory.mktemp("stubs")
    for name in STUBS:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    return root


def lint(root: Path) -> str:
    """What lint-imports says about the tree; the empty string if every contract is kept."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    run = subprocess.run(
        command, cwd=root, check=False, capture_output=True, text=True, env={"PYTHONPATH": str(root)}
    )
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_the_design_itself_keeps_the_rules(stubs: Path) -> None:
    assert lint(stubs) == ""


ALLOWED = {
    "headrace/kafka/host.py": "import confluent_kafka",
    "headrace/checkpoint.py": "import pickle, os",
    "services/monitor/agents.py": "import faust",
    "services/scoring/__main__.py": "import services.scoring.agents, services.scoring.api, headrace.web, os",
    "services/scoring/processor.py": "import services.scoring.domain, headrace.fold",
}
BROKEN = [
    ("headrace/web.py", "import services", "services stand on headrace"),
    ("services/ingest/api.py", "import services.scoring.domain", "services never import each other"),
    ("services/ingest/domain/__init__.py", "import services.ingest.processor", "inside a service"),
    ("services/ingest/processor.py", "import services.ingest.settings", "inside a service"),
    ("services/scoring/api.py", "import confluent_kafka", "Kafka clients only"),
    ("headrace/cli/__init__.py", "import aiokafka", "Kafka clients only"),
    ("services/scoring/agents.py", "import faust", "Kafka clients only"),
    ("headrace/fold/__init__.py", "import pickle", "pickle only"),
    ("headrace/fold/__init__.py", "import time", "the core is pure"),
    ("headrace/contracts/__init__.py", "import logging", "the core is pure"),
    ("headrace/processor.py", "import asyncio", "the core is pure"),
    ("services/registry/domain/__init__.py", "import os", "the core is pure"),
    ("services/scoring/processor.py", "import headrace.kafka.host", "the core is pure"),
]


def test_what_the_design_allows_is_allowed(stubs: Path) -> None:
    """All exceptions at once, so that a rule that forbids everything is not taken for a good one."""
    try:
        for name, text in ALLOWED.items():
            (stubs / name).write_text(text)
        assert lint(stubs) == ""
    finally:
        for name in ALLOWED:
            (stubs / name).write_text("")


@pytest.mark.parametrize(("name", "text", "contract"), BROKEN)
def test_a_planted_import_is_caught(stubs: Path, name: str, text: str, contract: str) -> None:
    try:
        (stubs / name).write_text(text)
        said = lint(stubs)
    finally:
        (stubs / name).write_text("")
    broken = [line for line in said.splitlines() if line.endswith("BROKEN")]
    assert any(line.startswith(contract) for line in broken), said
