"""The documents are in step with the code, and a document that is not would be caught."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from headrace.contracts.events import ContractAdopted, Label, ModelDeployed, Observation
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from headrace.fold.shard import Shard
from services.scoring.views import stream_view
from tests.repo import declared, documents, reference
from tests.repo.tree import ROOT


def test_links_lead_somewhere() -> None:
    assert documents.broken_links() == []
    assert documents.missing_pages() == []


def test_every_page_is_found_from_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text("utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in reference.pages()]
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []


def test_generated_tables_say_what_the_code_says() -> None:
    """Settings, metrics, topics, commands. To mend: `make docs`."""
    assert documents.missing_sections() == set()
    assert documents.stale_pages() == []


def test_every_rule_is_explained() -> None:
    assert declared.rules(), "the reader of rules finds none: it is broken"
    assert documents.undocumented_rules() == []


def test_every_variable_is_explained() -> None:
    assert documents.undocumented_variables() == []


def test_every_setting_and_metric_has_a_meaning() -> None:
    rows = (reference.settings_table() + reference.metrics_table()).splitlines()
    assert [row for row in rows if row.endswith("|  |")] == []


def test_pages_name_targets_and_commands_that_exist() -> None:
    assert documents.unknown_targets() == []
    assert documents.unknown_commands(reference.command_names()) == []


def test_the_readme_fits_a_screen_and_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "make demo" in text
    assert "make test" in text
    assert text.count("\n") <= 80


def test_the_documented_metrics_document_is_what_scoring_serves() -> None:
    """The same keys at every level; the numbers are an example."""
    [block] = re.findall(r"```json\n(.*?)```", (ROOT / "docs/scoring.md").read_text("utf-8"), re.DOTALL)
    documented = json.loads(block)
    contract = StreamContract("flights", "binary", [Field("distance", "number")], label=LabelSpec())
    specification = {"model": "linear_model.LogisticRegression"}
    shard = Shard()
    shard.fold(
        [
            ContractAdopted("c", 0, 1, contract.to_dict()),
            ModelDeployed("d", 0, "flights-lr", 1, specification),
            Observation("a", "a", 1, {"distance": 1.0}),
            Label("a", "a", 2, True),
        ],
        range(4),
    )
    served = stream_view("flights", {0: shard})
    assert shape(documented["partitions"]) == shape(served["partitions"])
    assert set(documented["total"]) <= set(served["total"])
    assert set(served["total"]) == set(served["partitions"]["0"]) - {"offset"}


def shape(value: Any) -> Any:
    """A JSON value's keys, without what they hold."""
    if isinstance(value, dict):
        return {key: shape(child) for key, child in value.items()}
    return [shape(child) for child in value] if isinstance(value, list) else None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree in step: one page, one rule, one target."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "headrace").mkdir()
    (tmp_path / "Makefile").write_text("test: setup\n")
    (tmp_path / "docs/bad-input.md").write_text("# Bad input\n\n`json`: no JSON. See [above](#bad-input).\n")
    (tmp_path / "headrace/x.py").write_text('raise Poison("no", rule="json")\n')
    return tmp_path


def test_a_tree_in_step_passes(tree: Path) -> None:
    assert documents.broken_links(tree) == []
    assert documents.undocumented_rules(tree) == []
    assert documents.unknown_targets(tree) == []


@pytest.mark.parametrize(
    "link", ["[x](missing.md)", "[x](#no-such)", "[x](bad-input.md#no-such)", "![x](no.svg)"]
)
def test_a_broken_link_is_caught(tree: Path, link: str) -> None:
    (tree / "docs/index.md").write_text(f"# Index\n\n{link}\n")
    assert len(documents.broken_links(tree)) == 1


def test_a_page_that_the_source_names_and_nobody_wrote_is_caught(tree: Path) -> None:
    (tree / "headrace/y.py").write_text('"""See docs/bad-input.md and docs/tea.md."""\n')
    assert documents.missing_pages(tree) == ["headrace/y.py: no page docs/tea.md"]


def test_an_unexplained_rule_is_caught(tree: Path) -> None:
    (tree / "headrace/y.py").write_text('raise Poison("no", rule="too_deep")\n')
    assert documents.undocumented_rules(tree) == ["too_deep"]


def test_an_unexplained_variable_is_caught(tree: Path) -> None:
    (tree / "headrace/y.py").write_text('x = environment["HEADRACE_MOOD"]\n')
    assert documents.undocumented_variables(tree) == ["HEADRACE_MOOD"]


def test_an_unknown_target_is_caught(tree: Path) -> None:
    (tree / "README.md").write_text("Run `make tea`, then\n\n    make test\n")
    assert documents.unknown_targets(tree) == ["README.md: make tea"]


def test_an_unknown_command_is_caught(tree: Path) -> None:
    (tree / "README.md").write_text(
        "```sh\nheadrace up\nheadrace stream create x.yaml\nheadrace brew tea\n```\n"
    )
    assert documents.unknown_commands({"up", "stream create"}, tree) == ["README.md: headrace brew tea"]


def test_a_stale_table_is_caught(tree: Path) -> None:
    (tree / "docs/topics.md").write_text("<!-- generated: topics -->\n| old |\n<!-- end -->\n")
    assert documents.stale_pages(tree) == ["docs/topics.md"]
    (tree / "docs/topics.md").write_text(reference.rewritten((tree / "docs/topics.md").read_text()))
    assert documents.stale_pages(tree) == []
