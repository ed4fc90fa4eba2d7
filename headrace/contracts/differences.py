"""What a version of a contract changed against another, part by part: for people, and complete.

`compatibility` says what may not change; here stands whatever did.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract, check

PARTS = ("fields", "label", "limits", "outliers")


class Difference(NamedTuple):
    """where: `label.wait_seconds`, `fields.a.maximum`, `fields.a`. before, after: plain; None: it is not there."""

    where: str
    before: Any
    after: Any


def differences(old: StreamContract, new: StreamContract) -> list[Difference]:
    """All of them, in the contract's order; version numbers are not compared. Raises `Unusable` as `check` does."""
    old, new = check(old), check(new)
    return [
        *_attributes("", old, new, but=("version", *PARTS)),
        *_fields(old.fields, new.fields),
        *_attributes("label.", old.label, new.label),
        *_attributes("limits.", old.limits, new.limits),
        *_attributes("outliers.", old.outliers, new.outliers),
    ]


def _attributes(
    where: str,
    old: StreamContract | Field | LabelSpec | Limits | OutlierSpec,
    new: StreamContract | Field | LabelSpec | Limits | OutlierSpec,
    *,
    but: tuple[str, ...] = (),
) -> Iterator[Difference]:
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        # 1, 1.0 and True are equal, and three different labels.
        if name not in but and (type(before), before) != (type(after), after):
            yield Difference(f"{where}{name}", before, after)


def _fields(old: list[Field], new: list[Field]) -> Iterator[Difference]:
    before, after = ({field.name: field for field in fields} for fields in (old, new))
    for name in [*before, *(name for name in after if name not in before)]:
        was, becomes = before.get(name), after.get(name)
        if was is not None and becomes is not None:
            yield from _attributes(f"fields.{name}.", was, becomes)
        else:
            yield Difference(f"fields.{name}", _plain(was), _plain(becomes))
    kept = [name for name in before if name in after]
    kept_now = [name for name in after if name in before]
    if kept != kept_now:
        yield Difference("fields", list(before), list(after))


def _plain(field: Field | None) -> Any:
    return None if field is None else msgspec.to_builtins(field)
