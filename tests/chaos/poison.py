"""Records that would ruin a model or break a parser, each with a mark in it by which its refusal is found again.

`refused`: what must come out in S.rejected, and nowhere else. `odd`: what is unusual but keeps the contract, and must
come out as a prediction like any other.
"""

import json
import random
import time
from typing import Any

DAY_MS = 24 * 3600 * 1000
BIG = 1_000_000


def refused(rng: random.Random, mark: str) -> bytes:
    """A record that ingest has to refuse. Holds `mark` in plain sight, as `"id": "MARK"` or as bare bytes."""
    return rng.choice(_REFUSED)(mark)


def odd(rng: random.Random, good: dict[str, Any]) -> dict[str, Any]:
    """A good observation's body in an unusual form: ten years old, or numbers at the edge of their ranges."""
    if rng.random() < 0.5:
        return {**good, "opened": time.time_ns() // 1_000_000 - 3650 * DAY_MS}
    return {**good, "amount": rng.choice([-0.0, 5e-324, 1000.0, -1000.0]), "opened": _now()}


def _now() -> int:
    return time.time_ns() // 1_000_000


def _with(mark: str, **changes: Any) -> dict[str, Any]:
    body = {"id": mark, "amount": 1.0, "hour": 1, "channel": "web", "customer": "c1", "opened": _now()}
    return {**body, **changes}


def _text(**changes: Any) -> Any:
    return lambda mark: json.dumps(_with(mark, **changes)).encode()


def _raw(amount: str) -> Any:
    return lambda mark: json.dumps(_with(mark, amount="?")).replace('"?"', amount).encode()


_REFUSED = (
    _raw("NaN"),
    _raw("-Infinity"),
    _raw("1e308"),
    _raw("1e999"),
    _text(note="x" * BIG),
    _text(amount="5"),
    _text(hour=3.5),
    _text(vip=1),
    _text(channel=["web"]),
    _text(channel="fax"),
    _text(customer=""),
    _text(customer=None),
    _text(surprise=1),
    _text(opened="yesterday"),
    lambda mark: b'{"id": "' + mark.encode() + b'", "note": "\xff\xfe"}',
    lambda mark: json.dumps(_with(mark)).encode()[:-5],
    lambda mark: json.dumps([mark]).encode(),
    lambda mark: b"[" * 200 + json.dumps(mark).encode() + b"]" * 200,
    lambda mark: json.dumps({"id": mark, "label": "perhaps", "entity": "c1"}).encode(),
)
