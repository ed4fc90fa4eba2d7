"""YAML and JSON documents that people hand in: read with bounds, as one plain tree; and written as people would.

YAML can do more than a document needs: aliases unfold a few hundred bytes into gigabytes, a key given twice silently
wins over the first, and an unquoted date becomes an object. None of that is read here.
"""

import json
from typing import Any

import yaml

from headrace.errors import Unusable

DOCUMENT_BYTES = 1024 * 1024
"""Largest document that is read."""


class _Loader(yaml.SafeLoader):
    """Safe YAML of one tree: no aliases (a few nested ones unfold to gigabytes), no key twice, times stay text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            raise Unusable("YAML aliases (*name) are not read: write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is given twice."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise Unusable(f"a key is given twice in the mapping at line {node.start_mark.line + 1}")
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def write(document: dict[str, Any]) -> str:
    """The document as YAML, keys in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader, made stricter


def parse(text: str | bytes) -> dict[str, Any]:
    """The document's top mapping; JSON if it begins with a brace, else YAML. Raises `Unusable`."""
    if len(text) > DOCUMENT_BYTES:
        raise Unusable(f"a document takes at most {DOCUMENT_BYTES} bytes, this one {len(text)}")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        document = json.loads(text) if text.lstrip().startswith("{") else _read_yaml(text)
    except UnicodeDecodeError as error:
        raise Unusable(f"not UTF-8: byte {error.start} cannot be read") from None
    except json.JSONDecodeError as error:
        raise Unusable(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Unusable(f"not YAML{place}: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    except (RecursionError, ValueError) as error:
        raise Unusable(f"cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise Unusable("must be one mapping")
    return document


UNICODE_BREAKS = "\x85\u2028\u2029"


class _Dumper(yaml.SafeDumper):
    """Indents lists under their key, as people do; writes no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  # PyYAML's own
        """Never `indentless`."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML's own
        """Write shared values out, each time."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """PyYAML writes Unicode's own line breaks bare, and reads them back as blanks: these texts are escaped."""
    style = '"' if any(mark in text for mark in UNICODE_BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)
