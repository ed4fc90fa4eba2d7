"""Drop-in versions of River transformers that would break the fold's promises, under River's own names.

`Select` emits fields in the order of a Python set, which differs between processes and after a reload, and sums of
floats differ with it; `Select`, `Grouper`, `StatImputer`, `Agg` and `TargetAgg` raise on an absent field, while in
Headrace a missing field *is* absent. The versions here keep River's behaviour wherever it was defined. They are
catalogued under River's names, so a document need not know.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from river import compose

from headrace.contracts.events import Features


class Select(compose.Select):  # type: ignore[misc]
    """Keeps the given fields that are present, in the order given."""

    def __init__(self, *keys: str) -> None:
        self.keys = tuple(dict.fromkeys(keys))

    def transform_one(self, x: Features) -> Features:
        """The chosen part of `x`."""
        return {key: x[key] for key in self.keys if key in x}


REPLACED: Mapping[type, type[Any]] = MappingProxyType({compose.Select: Select})
"""River class -> the class that is built in its place."""
