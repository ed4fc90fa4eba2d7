"""What a new version of a contract would break: for producers who send by the old one, or models that learnt from it.

A change is compatible if everything that was good stays good and means the same: new optional fields, wider ranges,
more categories, a field no longer required, descriptions, and the policies of a stream (label wait, expiry, limits,
outliers), which take effect at an offset of the log. Everything else is refused, because a log is kept for ever and
must read as one. The way out is always the same: a new stream. The texts say what to do instead where something smaller
would do.
"""

from collections.abc import Callable, Iterator, Sequence

from headrace.contracts.coherence import effective_bounds
from headrace.contracts.events import Scalar
from headrace.contracts.stream import Field, LabelSpec, StreamContract, check


def breaking_changes(old: StreamContract, new: StreamContract) -> list[str]:
    """The changes that old producers or models would not survive, each with what to do; [] = compatible.

    Raises `Unusable` if one of the contracts is incoherent. Versions are not compared.
    """
    old, new = check(old), check(new)
    return [*_stream(old, new), *_fields(old, new), *_label(old.label, new.label)]


def _stream(old: StreamContract, new: StreamContract) -> Iterator[str]:
    if new.name != old.name:
        yield f"name: was {old.name!r}, is {new.name!r}; a stream keeps its name, create another one"
    if new.task != old.task:
        yield f"task: was {old.task}, is {new.task}; another question is another stream, create one"
    if new.partitions != old.partitions:
        yield (
            f"partitions: were {old.partitions}, are {new.partitions}; they are fixed for life, because entities "
            "would change their shard; create another stream"
        )
    roles = (
        ("id", "observations already in the log were told apart by it"),
        ("event_time", "the log is ordered by it"),
        ("entity", "it decides the partition, so labels would miss their observations"),
    )
    for role, reason in roles:
        before, after = getattr(old, role), getattr(new, role)
        if before != after:
            yield f"{role}: was {before or 'none'}, is {after or 'none'}; {reason}; keep it, or create another stream"


def _fields(old: StreamContract, new: StreamContract) -> Iterator[str]:
    after = {field.name: field for field in new.fields}
    before = {field.name for field in old.fields}
    for field in old.fields:
        if field.name not in after:
            consequence = "models use it and " if field.feature else ""
            yield f"field {field.name}: is gone; {consequence}producers that send it would be refused; keep it"
        else:
            yield from (f"field {field.name}: {change}" for change in _field(field, after[field.name]))
    for field in new.fields:
        if field.name not in before and field.required:
            yield f"field {field.name}: is new and required; producers do not send it yet; make it optional"
        if field.name not in before and field.name in ("type", "label"):
            yield f"field {field.name}: is new, but producers may send `{field.name}` with another meaning; rename it"


def _field(old: Field, new: Field) -> Iterator[str]:
    if new.type != old.type:
        yield f"was {old.type}, is {new.type}; keep the type, or add a field under another name"
        return
    if new.required and not old.required:
        yield "was optional, is required; producers may leave it out; keep it optional"
    if old.feature and not new.feature:
        yield "is no feature any more; models use it; keep it a feature, or deploy them on another stream"
    if new.unit != old.unit:
        yield (
            f"unit was {old.unit or 'none'}, is {new.unit or 'none'}; the same numbers would mean something else; "
            "add a field under another name"
        )
    yield from _range((old.minimum, old.maximum), (new.minimum, new.maximum))
    if new.type == "string" and new.max_length < old.max_length:
        yield f"max_length was {old.max_length}, is {new.max_length}; keep it at least {old.max_length}"
    yield from _values("categories", old.categories, new.categories)


def _label(old: LabelSpec, new: LabelSpec) -> Iterator[str]:
    if new.name != old.name:
        yield f"label: was called {old.name!r}, is {new.name!r}; producers send the old name; keep it"
    if new.type != old.type:
        yield f"label: was {old.type}, is {new.type}; models learnt from the old kind; create another stream"
        return
    if new.positive != old.positive:
        yield (
            f"label: positive was {old.positive!r}, is {new.positive!r}; every answer would turn its meaning; "
            "create another stream"
        )
    for change in (
        *_range((old.minimum, old.maximum), (new.minimum, new.maximum)),
        *_values("classes", old.classes, new.classes),
    ):
        yield f"label: {change}"


Bounds = tuple[float | None, float | None]


def _range(old: Bounds, new: Bounds) -> Iterator[str]:
    before, after = effective_bounds(*old), effective_bounds(*new)
    narrower: tuple[tuple[str, float, float, Callable[[float, float], bool]], ...] = (
        ("minimum", before[0], after[0], lambda was, now: now > was),
        ("maximum", before[1], after[1], lambda was, now: now < was),
    )
    for name, was, now, is_narrower in narrower:
        if is_narrower(was, now):
            yield f"{name} was {was:g}, is {now:g}; values that were good would be refused; keep it or widen it"


def _values(name: str, old: Sequence[Scalar] | None, new: Sequence[Scalar] | None) -> Iterator[str]:
    if new is None:
        return
    if old is None:
        yield f"{name} are declared now; values that were good would be refused; leave {name} open"
        return
    gone = [value for value in old if value not in new]
    if gone:
        shown = ", ".join(map(repr, gone[:5])) + (", ..." if len(gone) > 5 else "")
        yield f"{name} lost {shown}; values that were good would be refused; keep them"
