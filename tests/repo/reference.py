"""The reference tables in docs/, written from the code: settings, metrics, topics, commands.

Between `<!-- generated: NAME -->` and `<!-- end -->` a page belongs to this module, the rest to people. A test compares
the two, and `make docs` writes them, and Grafana's dashboards with them: whoever adds a setting, a metric, a topic or
an option cannot forget to say so.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from deploy.grafana.dashboards import dashboards
from headrace.contracts import topics
from headrace.metrics import catalogue
from headrace.metrics.form import Label
from tests.repo import declared, metric_rules
from tests.repo.tree import ROOT

SECTION = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
DAY = 24 * 3600
SHARED_MEANINGS = {
    "BOOTSTRAP": "Where Kafka answers, `host:port`, several with commas.",
    "HOME": "Folder for what the service keeps between starts.",
    "KEYS": "File of the API keys; unset: `keys.json` in the home. No file: nobody gets in.",
    "HOST": "Address the service listens on; the default is this machine only.",
    "PORT": "Port the service listens on.",
}
"""Of the settings that mean the same in every service, by the last part of their names."""


def settings_table(root: Path = ROOT) -> str:
    """All environment variables: those that every service reads, then each service's own."""
    found = declared.settings(root)
    readers: dict[str, list[str]] = {}
    for setting in found:
        readers.setdefault(setting.variable, []).append(setting.service)
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for setting in found:
        shared = len(readers[setting.variable]) > 1
        meaning = setting.meaning or SHARED_MEANINGS.get(setting.variable.rpartition("_")[2], "")
        row = (f"`{setting.variable}`", f"`{setting.default}`", meaning)
        group = rows.setdefault("every service" if shared else setting.service, [])
        if row[0] not in (known[0] for known in group):
            group.append(row)
    order = sorted(rows, key=lambda name: (name != "every service", name))
    return "\n".join(
        f"### {name.capitalize()}\n\n{_table(('variable', 'default', 'meaning'), rows[name])}"
        for name in order
    )


def metrics_table() -> str:
    """All metrics, by name; behind each label its bound."""
    rows = [
        (
            f"`{metric.name}`",
            metric.kind.__name__.lower(),
            metric_rules.unit(metric),
            ", ".join(f"`{label.name}` {_bound(label)}" for label in metric.labels),
            metric.meaning,
        )
        for metric in catalogue.ALL
    ]
    return _table(("metric", "kind", "unit", "labels", "meaning"), rows)


def _bound(label: Label) -> str:
    return f"({', '.join(label.values)})" if label.values else f"({label.most})"


def topics_table() -> str:
    """All topics: a stream's own, then the platform's."""
    rows = []
    for kind in (*topics.STREAM_TOPICS, *topics.PLATFORM_TOPICS):
        name = f"S.{kind.name}" if kind in topics.STREAM_TOPICS else kind.name
        kept = (
            "the newest of each key" if kind.cleanup == "compact" else f"{kind.retention_seconds // DAY} days"
        )
        if kind.cleanup == "delete" and kind.retention_seconds < 0:
            kept = "for ever"
        partitions = "the stream's" if kind.follows_stream else "1"
        rows.append((f"`{name}`", kind.key, kind.holds, kept, partitions))
    return _table(("topic", "key", "holds", "kept", "partitions"), rows)


def commands_table() -> str:
    """The commands of `headrace`, each with its arguments and options."""
    from headrace.cli.main import app

    parts = []
    for path, command in _commands("headrace", typer.main.get_command(app)):
        usage = " ".join(_usage(parameter) for parameter in command.params if _is_argument(parameter))
        parts.append(f"### `{f'{path} {usage}'.strip()}`\n\n{_one_line(command.help)}\n")
        rows = [
            (
                ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts)),
                _one_line(option.help),
            )
            for option in command.params
            if not _is_argument(option)
            and "--help" not in option.opts
            and not getattr(option, "hidden", False)
        ]
        parts.append(_table(("option", "meaning"), rows) if rows else "")
    return "\n".join(part for part in parts if part)


def command_names() -> set[str]:
    """What may follow `headrace`: `up`, `stream create`, ..."""
    from headrace.cli.main import app

    return {path.removeprefix("headrace ") for path, _ in _commands("headrace", typer.main.get_command(app))}


WRITERS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "topics": topics_table,
    "commands": commands_table,
}


def rewritten(text: str) -> str:
    """A page's text with every generated section as the code says now."""

    def section(match: re.Match[str]) -> str:
        return f"{match[1]}{WRITERS[match['name']]()}{match[3]}"

    return SECTION.sub(section, text)


def sections(text: str) -> list[str]:
    """Names of the generated sections of a page."""
    return [match["name"] for match in SECTION.finditer(text)]


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that may hold generated sections."""
    return sorted((root / "docs").rglob("*.md"))


def main() -> int:
    """Write all sections into the pages, and the dashboards; says which file changed."""
    for path in pages():
        before = path.read_text("utf-8")
        after = rewritten(before)
        if after != before:
            path.write_text(after, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    for path, text in dashboards().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


# What typer hands out are its own copies of click's classes, which it does not export: hence Any below.
def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from _commands(f"{path} {name}", child)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _usage(parameter: Any) -> str:
    name = str(parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split("\f")[0].split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [head, tuple("---" for _ in head), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


if __name__ == "__main__":
    sys.exit(main())
