"""What a rule's `metric` names in a window: any figure that the window's view has, by its path in it.

The view is what people see (`GET /v1/streams/S/windows`), so a figure that is added to it can be watched at once, with
nothing to be done here. A path goes down the view's members: `label_delay.p90_seconds`, `missing.age.share`. In a list,
entries that belong to a model give a figure for each model; of others the next part picks those that bear that text in
any member (`rejected.range.count`), and they are added up. A word alone is a figure under `quality`; what is only
estimated says so (`estimate.accuracy`).
"""

from typing import Any, NamedTuple

from headrace.contracts.statistics import Kind
from services.monitor.domain.quality import METRICS

NAMED = frozenset({"missing", "statuses", "rejected", "outliers"})
"""Members that list only what occurred: what is not there was counted zero times."""
UNCOUNTED = frozenset({"counts", "per_second", "statuses", "rejected"})
"""Members that are counts themselves: a window is judged by them however few records it has."""

_KINDS: dict[str, Kind] = {
    "label_delay": "outcomes",
    "statuses": "outcomes",
    "quality": "outcomes",
    "counts.outcomes": "outcomes",
    "per_second.outcomes": "outcomes",
    "answers": "predictions",
    "outliers": "predictions",
    "estimate": "predictions",
    "counts.predictions": "predictions",
    "per_second.predictions": "predictions",
}


class Figure(NamedTuple):
    """A figure in one window: of which version (0: of no model), and on how much it stands (None: no matter)."""

    version: int
    value: float | None
    counted: int | None


def is_quality(metric: str) -> bool:
    """Whether this is a figure of a model's answers on their labels."""
    return metric in METRICS or metric.startswith("quality.")


def kind_of(metric: str) -> Kind:
    """Which topic's windows must be closed for the figure to be final."""
    if is_quality(metric):
        return "outcomes"
    member, _, rest = metric.partition(".")
    return _KINDS.get(f"{member}.{rest}", _KINDS.get(member, "log"))


def find(view: dict[str, Any], metric: str) -> dict[str, Figure]:
    """The figure in a window's view, by model; under "" if it is the stream's own. Empty: there is no such thing."""
    member, *path = metric.split(".")
    part = view.get(member)
    if part is None:
        return {}
    if isinstance(part, list) and any("model" in entry for entry in part):
        return _by_model(part, path)
    value = _walk(part, path)
    if value is None and member in NAMED:
        value = 0.0
    if member in UNCOUNTED:
        count = None
    elif member == "label_delay":
        count = part["count"]
    elif member == "outliers":
        count = view["counts"]["predictions"]
    else:
        count = view["counts"]["observations"]
    return {"": Figure(0, value, count)}


def _by_model(entries: list[dict[str, Any]], path: list[str]) -> dict[str, Figure]:
    """The newest version of each model speaks for it."""
    found: dict[str, Figure] = {}
    for entry in entries:
        model, version = entry["model"], entry.get("version", 0)
        if model not in found or version >= found[model].version:
            counted = entry.get("count", entry.get("answered"))
            found[model] = Figure(version, _walk(entry, path), counted)
    return found


def _walk(part: Any, path: list[str]) -> float | None:
    for place, name in enumerate(path):
        if isinstance(part, list):
            fitting = [entry for entry in part if isinstance(entry, dict) and name in entry.values()]
            values = [_walk(entry, path[place + 1 :]) for entry in fitting]
            return sum((value for value in values if value is not None), 0.0) if fitting else None
        if not isinstance(part, dict) or name not in part:
            return None
        part = part[name]
    return float(part) if isinstance(part, int | float) and not isinstance(part, bool) else None
