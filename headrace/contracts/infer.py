"""A contract proposed from rows that nobody prepared, and those rows turned into what the contract wants.

A proposal is a starting point to read and mend, so it errs on the side that loses nothing: nothing is required, no
range is declared, and a set of values is closed only if every value is common. One pass over the rows, with bounded
memory whatever their number. `convert_row` never guesses: what it cannot convert it passes on as it is, so that ingest
refuses it by name. Values may be texts (CSV) or typed (JSON lines, Parquet).

Proposed roles: a column called `id` whose values never repeat is the id; the only column of times, if it is complete
and never goes back, is the event time. Other times are no features: raw milliseconds mislead most models.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from headrace.contracts.coherence import CATEGORIES, MAGNITUDE, MAX_LENGTH, STRING_LENGTH
from headrace.contracts.events import Scalar
from headrace.contracts.stream import Field, FieldType, LabelSpec, StreamContract, Task, check
from headrace.contracts.times import parse_ms, to_ms, to_text
from headrace.errors import Unusable

MISSING = frozenset(
    ["", "?", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "-NaN", "nan", "-nan", "NULL", "null", "None"]
)
"""Texts that mean that a value is missing, blanks around them aside: what pandas reads so, and `?`."""

TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
"""Texts that are booleans. Yes and no stay texts: that they are two categories says the same."""

POSITIVE = ("1", "1.0", "true", "yes", "y", "t", "positive", "pos", "p", "on")
"""Texts (in lower case) that are the positive class wherever one of two values is among them."""

FEW = 10
"""Most values of a closed set, and most different integers of a label that is still a class."""

RARE = 0.005
"""Share of the rows below which a value is so rare that there may be others still unseen."""

CLOSED_ROWS = 1000
"""Rows below which a set of values is never closed."""

_IDS = 200_000
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PADDED = re.compile(r"[+-]?0\d", re.ASCII)
_SENSITIVE = frozenset(["sex", "gender", "race", "ethnicity", "religion", "disability"])
_WIRE_WORDS = ("id", "at", "entity", "type")


def infer(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    label: str,
    task: str | None = None,
    id: str = "",
    event_time: str = "",
    entity: str = "",
    positive: Scalar | None = None,
    leave_out: Collection[str] = (),
) -> StreamContract:
    """Propose a contract for rows with a column called `label`.

    task, id, event_time, entity, positive: what the caller already knows; the rest is guessed as the module says.
    leave_out: columns that are not to be fields. positive: the positive one of two values; guessed, it is one of
    `POSITIVE`, else the larger number, else the rarer value. Raises `Unusable` if there are no rows, no such column,
    or the label cannot be what `task` asks for.
    """
    columns: dict[str, _Column] = {}
    total = 0
    for row in rows:
        total += 1
        for column_name, value in row.items():
            if column_name not in leave_out:
                column = columns.get(column_name)
                if column is None:
                    column = columns[column_name] = _Column(keep_ids=column_name == "id")
                column.add(value)
    if label not in columns:
        raise Unusable(f"no column {label!r}; there are {', '.join(columns) or 'no rows'}", where="label")
    for role, given in (("id", id), ("event_time", event_time), ("entity", entity)):
        if given and given not in columns:
            raise Unusable(f"no column {given!r}; there are {', '.join(columns)}", where=role)
    answer = columns.pop(label)
    notes = [f"Proposed from {total} rows."]
    _leave_out_nested(columns, notes)
    id_field = id or _find_id(columns, total, notes)
    event_time = event_time or _find_event_time(columns, total, notes)
    fields = [
        _field(column_name, column, id_field, event_time, entity) for column_name, column in columns.items()
    ]
    kind = _task(answer, task)
    spec = _label(label, answer, kind, positive, {field.name for field in fields})
    return check(
        StreamContract(
            name=name,
            task=kind,
            fields=fields,
            label=spec,
            id=id_field,
            event_time=event_time,
            entity=entity,
            description=" ".join(notes),
        )
    )


def convert_row(contract: StreamContract, row: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's fields of a row as JSON values of their types: missing ones absent, times as RFC 3339 text.

    Columns that the contract does not know are left out. What cannot be converted stays as it is, for ingest to refuse.
    """
    converted: dict[str, Any] = {}
    for field in contract.fields:
        value = row.get(field.name)
        if value is None:
            continue
        value = _converted(field.type, value)
        if value is not None:
            converted[field.name] = value
    return converted


def convert_label(contract: StreamContract, value: Any) -> Any:
    """The label's value from a row as a JSON value of its type; None if it is missing. As `convert_row` otherwise."""
    return None if value is None else _converted(contract.label.type, value)


def _converted(kind: str, value: Any) -> Any:
    if not isinstance(value, str):
        return _converted_typed(kind, value)
    text = value.strip()
    if text in MISSING:
        return None
    if kind == "boolean":
        return text in TRUE if text in TRUE or text in FALSE else _bit(text, value)
    if kind == "time":
        try:
            return to_text(parse_ms(text))
        except ValueError:
            return value
    if kind in ("integer", "number") and _NUMBER.fullmatch(text):
        number = float(text)
        if kind == "integer" and number.is_integer():
            return int(text) if _INTEGER.fullmatch(text) else int(number)
        return number if math.isfinite(number) else value
    return text if kind == "string" else value


def _bit(text: str, value: Any) -> Any:
    return {"1": True, "0": False}.get(text, value)


def _converted_typed(kind: str, value: Any) -> Any:
    """Values of JSON lines and Parquet: a missing float is NaN there, and what is to be a text may be a number."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, datetime):
        return to_text(to_ms(value))
    if isinstance(value, date):
        return value.isoformat()
    if kind == "string" and isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "boolean" and isinstance(value, int) and value in (0, 1):
        return bool(value)
    return value


class _Column:
    """What the values of one column have in common, without keeping them: at most `CATEGORIES` different ones."""

    def __init__(self, *, keep_ids: bool = False) -> None:
        self.present = 0
        self.longest = 0
        self.counts: dict[Any, int] = {}
        self.many = False
        """Whether there were more different values than `counts` holds."""
        self.repeats = False
        self.nested = False
        """Whether a value was a list or an object, which no field can be."""
        self.rises = True
        self._could: dict[str, bool] = dict.fromkeys(("boolean", "integer", "number", "time"), True)
        self.integral = True
        """Of numbers: whether none has a fraction."""
        self._ids: set[Any] | None = set() if keep_ids else None
        self._latest: int | None = None

    @property
    def kind(self) -> FieldType:
        """The narrowest type that holds every value seen; a string if nothing else does, or nothing was seen."""
        if not self.present:
            return "string"
        for kind in ("boolean", "integer", "number", "time"):
            if self._could[kind]:
                return kind
        return "string"

    def add(self, value: Any) -> None:
        """Take one value into account; missing ones count as absent."""
        if isinstance(value, str):
            value = value.strip()
        if value is None or (isinstance(value, str) and value in MISSING):
            return
        if isinstance(value, float) and math.isnan(value):
            return
        self.present += 1
        if isinstance(value, list | dict):
            self.nested = True
            return
        text = value if isinstance(value, str) else _text(value)
        self.longest = max(self.longest, len(text))
        if text in self.counts:
            self.counts[text] += 1
            self.repeats = True
        elif len(self.counts) < CATEGORIES:
            self.counts[text] = 1
            self._narrow(value, text)
        else:
            self.many = True
            self._narrow(value, text)
        self._remember(text)
        if self._could["time"]:
            self._follow(text)

    def _narrow(self, value: Any, text: str) -> None:
        could = self._could
        if could["boolean"]:
            could["boolean"] = text in TRUE or text in FALSE
        if could["integer"] or could["number"]:
            could["integer"] = (
                could["integer"] and _INTEGER.fullmatch(text) is not None and abs(int(text)) <= MAGNITUDE
            )
            is_number = (
                _NUMBER.fullmatch(text) is not None
                and abs(float(text)) <= MAGNITUDE
                # 007 is a code: as a number it would lose its zeros.
                and not (isinstance(value, str) and _PADDED.match(text))
            )
            could["number"] = could["number"] and is_number
            if is_number and not float(text).is_integer():
                self.integral = False
        if could["time"]:
            could["time"] = not (isinstance(value, bool | int | float)) and _is_time(text)

    def _remember(self, text: str) -> None:
        if self._ids is None or self.repeats:
            return
        if text in self._ids:
            self.repeats = True
        elif len(self._ids) < _IDS:
            self._ids.add(text)

    def _follow(self, text: str) -> None:
        if not self.rises:
            return
        moment = parse_ms(text)
        self.rises = self._latest is None or moment >= self._latest
        self._latest = moment

    def closed(self, total: int) -> list[str] | None:
        """The values, sorted, if they are few and each common enough that others are unlikely; else None."""
        if self.many or not 1 <= len(self.counts) <= FEW or total < CLOSED_ROWS:
            return None
        return sorted(self.counts) if min(self.counts.values()) >= RARE * total else None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_time(text: str) -> bool:
    try:
        parse_ms(text)
    except ValueError:
        return False
    return True


def _leave_out_nested(columns: dict[str, _Column], notes: list[str]) -> None:
    for name in [name for name, column in columns.items() if column.nested]:
        del columns[name]
        notes.append(
            f"Left out: the column {name}, which holds lists or objects; flatten it to make it fields."
        )


def _find_id(columns: dict[str, _Column], total: int, notes: list[str]) -> str:
    column = columns.get("id")
    if column is None:
        return ""
    if column.kind in ("string", "integer") and not column.repeats and column.present == total:
        return "id"
    # `id` means the observation's id on the wire, so a column that is something else cannot keep the name.
    del columns["id"]
    notes.append(
        "Left out: the column id, whose values do not tell rows apart; rename it to make it a field."
    )
    return ""


def _find_event_time(columns: dict[str, _Column], total: int, notes: list[str]) -> str:
    times = [name for name, column in columns.items() if column.present and column.kind == "time"]
    found = ""
    if len(times) == 1 and columns[times[0]].present == total and columns[times[0]].rises:
        found = times[0]
    if "at" in columns and found != "at":
        del columns["at"]
        notes.append("Left out: the column at, which is no event time; rename it to make it a field.")
    return found


def _field(name: str, column: _Column, id: str, event_time: str, entity: str) -> Field:
    kind: FieldType = column.kind
    if name == event_time:
        kind = "time"
    elif name in (id, entity) and kind not in (
        "string",
        "integer",
        *(("boolean",) if name == entity else ()),
    ):
        kind = "string"
    max_length = MAX_LENGTH
    while kind == "string" and max_length < column.longest * 2 and max_length < STRING_LENGTH:
        max_length *= 2
    role = name in (id, entity)
    return Field(
        name=name,
        type=kind,
        feature=False if kind == "time" and name != event_time else None,
        max_length=max_length,
        categories=column.closed(column.present) if kind == "string" and not role else None,
        # The groups of other types need edges, which nobody can guess.
        sensitive=name.strip().lower() in _SENSITIVE and kind in ("string", "boolean", "integer"),
    )


def _task(column: _Column, wanted: str | None) -> Task:
    different = len(column.counts)
    if different < 2:
        found = f"only {next(iter(column.counts))!r}" if different else "nothing"
        raise Unusable(f"the label's column holds {found}: there is nothing to learn", where="label")
    numeric = column.kind in ("integer", "number")
    if wanted is None:
        if different == 2 and not column.many:
            return "binary"
        if not numeric:
            return "multiclass"
        return "multiclass" if column.integral and different <= FEW and not column.many else "regression"
    if wanted == "binary" and (different != 2 or column.many):
        raise Unusable(
            f"binary, but the label has {different}{'+' if column.many else ''} values", where="task"
        )
    if wanted == "regression" and not numeric:
        raise Unusable("regression, but the label has values that are no numbers", where="task")
    if wanted not in ("binary", "multiclass", "regression"):
        raise Unusable(f"binary, multiclass or regression, not {wanted!r}", where="task")
    return wanted  # type: ignore[return-value]  # one of the three


def _label(
    name: str, column: _Column, task: Task, positive: Scalar | None, fields: Collection[str]
) -> LabelSpec:
    kind = column.kind
    if kind == "time" or (task == "multiclass" and kind == "boolean"):
        kind = "string"
    if kind == "number" and task != "regression" and column.integral:
        kind = "integer"
    own = name if name not in _WIRE_WORDS else f"{name}_label"
    if own in fields:
        raise Unusable(f"{own!r} would be a field and the label; rename a column", where="label")
    if task == "regression":
        # Whole numbers in the rows at hand do not promise whole numbers for ever.
        return LabelSpec(own, "number")
    closed = sorted(column.counts) if task == "binary" else column.closed(column.present)
    classes: list[Scalar] | None = None
    if closed is not None:
        classes = sorted({_converted(kind, text) for text in closed})
    if task == "multiclass":
        return LabelSpec(own, kind, classes=classes)
    assert classes is not None
    if len(classes) != 2:
        raise Unusable("the label's two texts are one value: there is nothing to learn", where="label")
    chosen = _positive(column, kind) if positive is None else _converted(kind, positive)
    return LabelSpec(own, kind, positive=chosen, classes=classes)


def _positive(column: _Column, kind: str) -> Scalar:
    one, other = column.counts
    known = [text for text in (one, other) if text.lower() in POSITIVE]
    if len(known) == 1:
        chosen: Scalar = _converted(kind, known[0])
    elif kind in ("integer", "number"):
        chosen = max(_converted(kind, one), _converted(kind, other))
    else:
        # Ties go to the later one in the alphabet, so that the choice does not depend on the order of the rows.
        chosen = _converted(kind, min(sorted(column.counts, reverse=True), key=column.counts.__getitem__))
    return chosen
