"""Whose record it is: the groups that a contract's sensitive and segment fields put an observation into.

Quality and bias are computed from outcomes alone, so a prediction and its outcome carry the groups of their observation
as text: a string, a boolean or a whole number as it is, other numbers and times by the edges that the contract
declares, as each value would be a group of its own otherwise. A personal field makes no groups: it is one person each.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from headrace.contracts.events import Features, Scalar
from headrace.contracts.stream import Field, StreamContract
from headrace.contracts.times import to_text


def grouping(contract: StreamContract) -> Iterator[Field]:
    """The fields that make groups, in the contract's order."""
    for field in contract.fields:
        role = field.name in (contract.id, contract.event_time)
        if (field.sensitive or field.segment) and not field.personal and not role:
            yield field


def aside(contract: StreamContract) -> list[str]:
    """The names of those that are no features: they enter the log beside `x`. The contract is a checked one."""
    return [field.name for field in grouping(contract) if not field.feature]


class Groups:
    """A contract's groups, compiled. False if it declares none."""

    def __init__(self, contract: StreamContract | None = None) -> None:
        self._fields = [
            (field.name, field.edges or [], _spans(field))
            for field in (grouping(contract) if contract is not None else ())
        ]

    def __bool__(self) -> bool:
        return bool(self._fields)

    def of(self, x: Features, beside: Features | None) -> dict[str, str] | None:
        """Field -> group of an observation; a field that is missing has none. None: it is in no group at all."""
        groups: dict[str, str] = {}
        for name, edges, spans in self._fields:
            value = x.get(name)
            if value is None and beside is not None:
                value = beside.get(name)
            if value is None:
                continue
            if edges and not isinstance(value, str):
                groups[name] = spans[bisect_right(edges, value)]
            else:
                groups[name] = _text(value)
        return groups or None


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _spans(field: Field) -> list[str]:
    """`<25`, `[25, 45)`, `>=45`: one more than there are edges."""
    if not field.edges:
        return []
    shown = [to_text(int(edge)) if field.type == "time" else f"{edge:.15g}" for edge in field.edges]
    between = [f"[{low}, {high})" for low, high in pairwise(shown)]
    return [f"<{shown[0]}", *between, f">={shown[-1]}"]
