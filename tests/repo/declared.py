"""What the code declares: settings, rules, topics and ports, read from the source without running it.

Reading the syntax tree rather than importing keeps the answer the same on every machine (a default such as
`Path.home()` stays an expression), needs no broker, and sees what a process would only register once it serves.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.repo.tree import ROOT, python_files

PREFIX = "HEADRACE_"
METRIC_CLASSES = frozenset(
    {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum", "CounterMetricFamily", "GaugeMetricFamily"}
)


@dataclass(frozen=True)
class Setting:
    """One environment variable of one service. default: its source text; meaning: the docstring beneath it."""

    service: str
    variable: str
    default: str
    meaning: str


def settings(root: Path = ROOT) -> list[Setting]:
    """Every setting of every service, in the order of their source."""
    found: list[Setting] = []
    for path in python_files(root, ("services",)):
        if path.name == "settings.py":
            service = path.parent.name
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    found += _fields(service, node)
    return found


def stray_metrics(root: Path = ROOT) -> list[str]:
    """Metrics of ours that some module makes by itself, past the catalogue."""
    found = []
    for path in python_files(root):
        for call in _calls(path):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in METRIC_CLASSES and call.args and _text(call.args[0]).startswith("headrace_"):
                found.append(f"{path.relative_to(root)}: {_text(call.args[0])} is not in the catalogue")
    return found


def rules(root: Path = ROOT) -> set[str]:
    """Names of the rules by which input is refused: every literal given as `rule=` to an error."""
    found: set[str] = set()
    for path in python_files(root):
        for call in _calls(path):
            for keyword in call.keywords:
                if keyword.arg == "rule" and _text(keyword.value):
                    found.add(_text(keyword.value))
    return found


def ports(root: Path = ROOT) -> dict[str, int]:
    """The port each service listens on unless told otherwise."""
    return {
        setting.service: int(setting.default)
        for setting in settings(root)
        if setting.variable == f"{PREFIX}{setting.service.upper()}_PORT"
    }


def _fields(service: str, node: ast.ClassDef) -> Iterator[Setting]:
    for position, item in enumerate(node.body):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        default, variable = item.value, f"{PREFIX}{item.target.id.upper()}"
        if isinstance(default, ast.Call) and getattr(default.func, "id", "") == "Field":
            named = {keyword.arg: keyword.value for keyword in default.keywords}
            if "validation_alias" in named:
                variable = _text(named["validation_alias"])
            default = default.args[0] if default.args else named.get("default", named.get("default_factory"))
        after = node.body[position + 1] if position + 1 < len(node.body) else None
        meaning = _text(after.value) if isinstance(after, ast.Expr) else ""
        yield Setting(service, variable, ast.unparse(default) if default else "", " ".join(meaning.split()))


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
