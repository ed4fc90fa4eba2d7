"""An OpenAPI document as one page of HTML, rendered here, and what all of ours have in common.

The usual pages load a script from somebody else's server: they are blank without a network, and that script would run
beside the key a person has just typed. This page has no script at all.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
h2{border-bottom:1px solid #8885;margin-top:2.5rem;text-transform:capitalize}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{overflow:auto;padding:.7rem;background:#8881;border-radius:6px}
details{margin:.4rem 0;padding:.3rem .7rem;border:1px solid #8884;border-radius:6px}summary{cursor:pointer}
b.GET{color:#2a7}b.POST{color:#27d}b.DELETE{color:#c33}
td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}
"""

PROBLEM_REFERENCE = {"$ref": "#/components/schemas/Problem"}
PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457 problem details; more members may follow",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
    },
}


def render(document: dict[str, Any]) -> str:
    """The page: operations by tag, then the schemas they name."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{STYLE}</style><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        "<p>Send an API key with every request: <code>Authorization: Bearer hr_...</code>.</p>",
        "<p>Errors are RFC 9457 problems. The same as JSON: <a href=openapi.json>openapi.json</a></p>",
    ]
    tags: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            tags.setdefault(tag, []).append("".join(_operation(method.upper(), path, operation)))
    for tag in sorted(tags, key=lambda name: (name == "operations", name)):
        parts += [f"<h2>{escape(tag)}</h2>", *tags[tag]]
    parts.append("<h2>Schemas</h2>")
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        parts.append(
            f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>"
        )
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<details><summary><b class={method}>{method}</b> <code>{escape(path)}</code> "
    yield f"{escape(operation.get('summary', ''))}</summary><p>{escape(operation.get('description', ''))}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>parameter<th>in<th>"
        for parameter in parameters:
            kind = parameter.get("schema", {}).get("type", "")
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']} {escape(kind)}"
            yield f"<td>{escape(parameter.get('description', ''))}"
        yield "</table>"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body, <code>{escape(media)}</code>:</p>{_json(content.get('schema', {}))}"
    for status, response in operation.get("responses", {}).items():
        named = ", ".join(_names(response.get("content", {})))
        yield f"<p><code>{escape(status)}</code> {escape(response.get('description', ''))} {named}</p>"
    yield "</details>"


def _names(content: dict[str, Any]) -> Iterator[str]:
    for media, body in content.items():
        name = str(body.get("schema", {}).get("$ref", "")).rpartition("/")[2]
        link = f": <a href='#{escape(name)}'>{escape(name)}</a>" if name else ""
        yield f"<code>{escape(media)}</code>{link}"


def _json(schema: dict[str, Any]) -> str:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        return f"<p><a href='#{escape(name)}'>{escape(name)}</a></p>"
    return f"<pre>{escape(json.dumps(schema, indent=1, ensure_ascii=False))}</pre>"
