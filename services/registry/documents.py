"""What people hand over: contracts and specifications, as JSON or YAML, read with bounds (`contracts.documents`)."""

import math
from typing import Any

from headrace.contracts import documents, odcs
from headrace.contracts.stream import StreamContract, from_dict
from headrace.errors import Unusable

MAX_DEPTH = 64
JSON_TYPES = frozenset({"application/json"})
YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"})


def media_type(header: str) -> str:
    """The media type without its parameters; JSON if none is named."""
    return header.partition(";")[0].strip().lower() or "application/json"


def understood(content_type: str) -> bool:
    """Whether `read` reads this content type."""
    return media_type(content_type) in JSON_TYPES | YAML_TYPES


def read_contract(body: bytes, content_type: str) -> StreamContract:
    """A stream contract: an ODCS document (YAML or JSON), or `{"contract": the plain form}`. Raises `Unusable`."""
    document = read(body, content_type)
    if set(document) == {"contract"}:
        plain = document["contract"]
        if not isinstance(plain, dict):
            raise Unusable("must be an object: the contract's plain form", where="contract")
        return from_dict(plain)
    return odcs.load(body)


def read_specification(given: dict[str, Any] | str) -> dict[str, Any]:
    """A specification as it came inside a submission: an object, or YAML or JSON text. Raises `Unusable`."""
    return given if isinstance(given, dict) else _bounded(documents.parse(given))


def read(body: bytes, content_type: str) -> dict[str, Any]:
    """One object from JSON or YAML (which JSON is, too). Raises `Unusable`."""
    if media_type(content_type) in JSON_TYPES and not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise Unusable("must be one JSON object")
    return _bounded(documents.parse(body))


def _bounded(document: dict[str, Any]) -> dict[str, Any]:
    """The document, if it is not too deep and all its numbers are finite (no database takes the others)."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for outer in level:
            inner.extend(outer.values() if isinstance(outer, dict) else outer)
        if any(isinstance(one, float) and not math.isfinite(one) for one in inner):
            raise Unusable("has a number that is not finite")
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return document
    raise Unusable(f"nested deeper than {MAX_DEPTH} levels")
