"""What the code declares: settings, metrics, rules, topics and ports, read from the source without running it.

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
LABELS_AT = 2
"""Position of the label names among a metric's arguments."""


@dataclass(frozen=True)
class Setting:
    """One environment variable of one service. default: its source text; meaning: the docstring beneath it."""

    service: str
    variable: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Metric:
    """One metric. kind: Counter, Gauge, ...; labels: None if the source computes them."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] | None
    where: str

    def series(self) -> frozenset[str]:
        """The names under which Prometheus knows it."""
        kind = self.kind.removesuffix("MetricFamily")
        if kind == "Counter":
            return frozenset({self.name.removesuffix("_total") + "_total"})
        if kind == "Histogram":
            return frozenset({f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count"})
        if kind == "Summary":
            return frozenset({f"{self.name}_sum", f"{self.name}_count"})
        return frozenset({f"{self.name}_info" if kind == "Info" else self.name})


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


def metrics(root: Path = ROOT) -> list[Metric]:
    """Every metric that some module of the packages declares, by name."""
    found: list[Metric] = []
    for path in python_files(root):
        for call in _calls(path):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in METRIC_CLASSES and call.args and _text(call.args[0]).startswith("headrace_"):
                found.append(_metric(name, call, str(path.relative_to(root))))
    return sorted(found, key=lambda metric: metric.name)


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


def _metric(kind: str, call: ast.Call, where: str) -> Metric:
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    meaning = call.args[1] if len(call.args) > 1 else named.get("documentation")
    labels = (
        call.args[LABELS_AT] if len(call.args) > LABELS_AT else named.get("labelnames", named.get("labels"))
    )
    names: tuple[str, ...] | None = ()
    if isinstance(labels, ast.List | ast.Tuple):
        names = tuple(_text(item) for item in labels.elts)
    elif labels is not None:
        names = None
    return Metric(_text(call.args[0]), kind, _text(meaning) if meaning else "", names, where)


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
