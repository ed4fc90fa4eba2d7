"""The rules file: YAML that people edit and the API writes. Written whole, then moved into place."""

import os
from pathlib import Path

import msgspec
import yaml

from headrace.errors import Unusable
from services.monitor.domain.rules import DEFAULT_RULES, Rule, read_rules


def load(path: Path) -> list[Rule]:
    """Rules of the file; the default ones if there is no file. Raises `Unusable` if it cannot be read as rules."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return list(DEFAULT_RULES)
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"the rules file cannot be read: {error}", where=path.name) from None
    return parse(text, where=path.name)


def parse(text: str, *, where: str = "") -> list[Rule]:
    """Rules from YAML (or JSON). Raises `Unusable`."""
    return read_rules(document(text, where=where))


def document(text: str, *, where: str = "") -> object:
    """What a text says in YAML (or JSON). Raises `Unusable`."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Unusable(f"not YAML: {error}", where=where) from None


def save(path: Path, rules: list[Rule]) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        yaml.safe_dump({"rules": [msgspec.to_builtins(rule) for rule in rules]}, file, sort_keys=False)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
