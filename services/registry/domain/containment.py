"""Whether one JSON Schema takes everything that another takes: the question behind schema compatibility.

In general nobody can tell; between schemas as contracts make them, and plain ones that people write, it can be told
keyword by keyword. The answer errs on one side only: what is called contained is contained, and what cannot be told is
named as such. `narrower` splits the left side into its cases (one branch of every `anyOf`), each a conjunction of plain
schemas, and asks of each keyword on the right whether the case implies it. Patterns are compared as texts, never run:
they come from outside, and a pattern can take for ever.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice, product
from operator import ge, gt, le, lt
from typing import Any

Schema = Any
"""A JSON Schema: an object, or a boolean."""
Case = list[Mapping[str, Any]]
"""Plain schemas (no `anyOf`, `allOf`, `$ref`) that all hold."""

TYPES = frozenset({"null", "boolean", "object", "array", "integer", "fraction", "string"})
"""JSON Schema's types, `number` taken apart: integers, and numbers with a fraction."""
NUMBERS = frozenset({"integer", "fraction"})
STRINGS, OBJECTS, ARRAYS = frozenset({"string"}), frozenset({"object"}), frozenset({"array"})
ANNOTATIONS = frozenset(
    "$schema $comment title description default examples definitions $defs deprecated readOnly writeOnly "
    "contentEncoding contentMediaType contentSchema".split()
)
MOST_CASES = 1_000
MOST_STEPS = 2_000_000
"""Keywords, keys and values that are looked at before the answer is that it cannot be told."""
MOST_REASONS = 20

_BOUNDS: dict[str, tuple[frozenset[str], str, Callable[[Any, Any], bool]]] = {
    "minimum": (NUMBERS, "minimum", ge),
    "maximum": (NUMBERS, "maximum", le),
    "exclusiveMinimum": (NUMBERS, "minimum", gt),
    "exclusiveMaximum": (NUMBERS, "maximum", lt),
    "minLength": (STRINGS, "minLength", ge),
    "maxLength": (STRINGS, "maxLength", le),
}
"""By keyword: types it is about, the keyword on the left, and how the left bound must compare with the right."""
_SHOWN = {
    "fraction": "a number",
    "null": "null",
    "array": "an array",
    "integer": "an integer",
    "object": "an object",
}
_ABOUT = {
    "multipleOf": NUMBERS,
    **dict.fromkeys(("pattern", "format"), STRINGS),
    **dict.fromkeys(("items", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"), ARRAYS),
    **dict.fromkeys(("required", "properties", "additionalProperties"), OBJECTS),
}
"""Keywords that say nothing of values of other types."""


class Untold(Exception):
    """It cannot be told; the text says why."""


def narrower(old: Schema, new: Schema) -> list[str]:
    """Why `new` may refuse something that `old` takes, at most `MOST_REASONS` times; [] if it surely does not.

    old: a schema as `contracts.json_schema` makes it. new: any schema, of draft 4 or later.
    """
    try:
        found = islice(_Comparison(old, new).reasons(old, new, ""), MOST_CASES)
        return list(dict.fromkeys(found))[:MOST_REASONS]
    except Untold as untold:
        return [f"cannot be told: {untold}"]
    except RecursionError:
        return ["cannot be told: it is nested too deep"]
    except (AttributeError, KeyError, TypeError, ValueError):  # a keyword with a value that it cannot have
        return ["cannot be told: it is no JSON Schema"]


class _Comparison:
    """One question. Left and right have definitions of their own."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        self._steps = 0

    def _step(self, cost: int = 1) -> None:
        self._steps += cost
        if self._steps > MOST_STEPS:
            raise Untold("it is too large")

    def reasons(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        """Why a value may be taken by `old` and refused by `new`."""
        for case in self._cases(old):
            yield from self._case(case, new, where)

    # -- the left side ------------------------------------------------------------------------------------------------

    def _cases(self, schema: Schema) -> list[Case]:
        """Conjunctions of plain schemas, of which every value that the schema takes fulfils one."""
        self._step()
        if schema is True:
            return [[]]
        if schema is False:
            return []
        if "$ref" in schema:
            return self._cases(_referred(self._old, schema["$ref"]))
        plain = {key: value for key, value in schema.items() if key not in ("anyOf", "allOf")}
        groups = [self._cases(part) for part in schema.get("allOf", [])]
        if "anyOf" in schema:
            groups.append([case for branch in schema["anyOf"] for case in self._cases(branch)])
        count = 1
        for group in groups:
            count *= len(group)
        if count > MOST_CASES:
            raise Untold("it has too many cases")
        return [[plain, *(part for case in chosen for part in case)] for chosen in product(*groups)]

    # -- the right side -----------------------------------------------------------------------------------------------

    def _case(self, case: Case, new: Schema, where: str) -> Iterator[str]:
        self._step(sum(_size(part) for part in case))
        kinds = _kinds(case)
        if new is True or not kinds:
            return
        if new is False:
            yield f"{_at(where)} may be no more"
            return
        if not isinstance(new, dict):
            raise Untold(f"{_at(where)} has no schema")
        if "$id" in new and new is not self._new:
            raise Untold("a part of it has a base of its own")
        for keyword, wanted in new.items():
            self._step()
            if kinds & _ABOUT.get(keyword, TYPES):
                yield from self._keyword(case, kinds, keyword, wanted, where)
        if "additionalProperties" in new and "object" in kinds:
            yield from self._closed(case, new, where)

    def _keyword(
        self, case: Case, kinds: frozenset[str], keyword: str, wanted: Any, where: str
    ) -> Iterator[str]:
        if keyword in ANNOTATIONS or keyword in ("$id", "additionalProperties"):
            return
        if keyword == "type":
            yield from _forbidden(kinds - _types(wanted), where)
        elif keyword in ("enum", "const"):
            yield from self._enum(case, kinds, [wanted] if keyword == "const" else wanted, where)
        elif keyword in _BOUNDS:
            yield from self._bound(case, kinds, keyword, wanted, where)
        elif keyword in ("pattern", "format"):
            if not any(part.get(keyword) == wanted for part in case):
                yield f"{_at(where)} need not have this {keyword} so far"
        elif keyword in ("required", "properties"):
            yield from self._members(case, keyword, wanted, where)
        else:
            yield from self._combined(case, kinds, keyword, wanted, where)

    def _combined(
        self, case: Case, kinds: frozenset[str], keyword: str, wanted: Any, where: str
    ) -> Iterator[str]:
        if keyword == "$ref":  # what stands beside it holds too, since draft 2019-09
            yield from self._case(case, _referred(self._new, wanted), where)
        elif keyword == "allOf":
            for part in wanted:
                yield from self._case(case, part, where)
        elif keyword == "anyOf":
            yield from self._any(case, wanted, where)
        elif keyword == "not":
            yield from self._not(case, kinds, wanted, where)
        else:
            yield f"{_at(where)}: {keyword!r} is a keyword that is not compared"

    def _any(self, case: Case, branches: list[Schema], where: str) -> Iterator[str]:
        each = []
        for branch in branches:
            each.append(list(islice(self._case(case, branch, where), MOST_REASONS)))
            if not each[-1]:
                return
        # What the branch says that was meant: the one whose keys are there, then the one with the fewest reasons.
        yield from min(each, key=lambda found: (sum(map(_is_missing, found)), len(found)))

    def _enum(self, case: Case, kinds: frozenset[str], wanted: list[Any], where: str) -> Iterator[str]:
        closed = [part["enum"] if "enum" in part else [part["const"]] for part in case if _is_closed(part)]
        if closed:
            values = [value for value in closed[0] if _kind(value) in kinds]
        elif kinds <= {"null", "boolean"}:
            values = [value for value in (None, True, False) if _kind(value) in kinds]
        else:
            yield f"{_at(where)} may be anything so far, and only some values now"
            return
        self._step(len(wanted))
        allowed = {(_kind(one), one) for one in wanted if not isinstance(one, dict | list)}
        for value in values:
            if (_kind(value), value) not in allowed:
                yield f"{_at(where)} may be {value!r:.40} so far"

    def _bound(
        self, case: Case, kinds: frozenset[str], keyword: str, wanted: float, where: str
    ) -> Iterator[str]:
        about, source, holds = _BOUNDS[keyword]
        if not kinds & about or (keyword == "minLength" and wanted <= 0):
            return
        have = [part[source] for part in case if source in part]
        if not any(holds(bound, wanted) for bound in have):
            yield f"{_at(where)}: {keyword} is {wanted} now, {have[0] if have else 'open'} so far"

    def _members(self, case: Case, keyword: str, wanted: Any, where: str) -> Iterator[str]:
        if keyword == "required":
            have = {name for part in case for name in part.get("required", [])}
            for name in wanted:
                if name not in have:
                    yield f"{_below(where, name)}{_MISSING}"
            return
        names = _names(case)
        for name, schema in wanted.items():
            if names is None or name in names:
                yield from self.reasons(_member(case, name), schema, _below(where, name))

    def _closed(self, case: Case, new: Mapping[str, Any], where: str) -> Iterator[str]:
        """Keys that the right side has no property for."""
        if "patternProperties" in new:
            return  # it is a keyword that is not compared, which was said already
        names, rest = _names(case), new["additionalProperties"]
        if names is None:
            yield from self._case([], rest, _below(where, "any other key"))
            return
        for name in sorted(names - set(new.get("properties", {}))):
            yield from self.reasons(_member(case, name), rest, _below(where, name))

    def _not(self, case: Case, kinds: frozenset[str], wanted: Any, where: str) -> Iterator[str]:
        if any(part.get("not") == wanted for part in case):
            return
        if isinstance(wanted, dict) and set(wanted) == {"type"}:
            yield from _forbidden(kinds & _types(wanted["type"]), where)
            return
        yield f"{_at(where)}: such a 'not' is not compared"


# -- what a case says -------------------------------------------------------------------------------------------------


def _kinds(case: Case) -> frozenset[str]:
    """Types that a value may have that fulfils the case."""
    kinds = TYPES
    for part in case:
        if "type" in part:
            kinds &= _types(part["type"])
        if _is_closed(part):
            kinds &= {_kind(value) for value in (part["enum"] if "enum" in part else [part["const"]])}
        if set(part.get("not", ())) == {"type"}:
            kinds -= _types(part["not"]["type"])
    return kinds


_MISSING = " may be missing so far"


def _is_missing(reason: str) -> bool:
    return reason.endswith(_MISSING)


def _size(part: Mapping[str, Any]) -> int:
    return 1 + sum(len(part.get(keyword, ())) for keyword in ("enum", "properties", "required"))


def _is_closed(part: Mapping[str, Any]) -> bool:
    return "enum" in part or "const" in part


def _names(case: Case) -> set[str] | None:
    """Keys that an object may have that fulfils the case; None: any."""
    closed = [set(part.get("properties", {})) for part in case if part.get("additionalProperties") is False]
    return set.intersection(*closed) if closed else None


def _member(case: Case, name: str) -> Schema:
    return {"allOf": [part["properties"][name] for part in case if name in part.get("properties", {})]}


def _types(wanted: Any) -> frozenset[str]:
    found: set[str] = set()
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if name == "number":
            found |= NUMBERS
        elif name in TYPES and name != "fraction":
            found.add(name)
        else:
            raise Untold(f"{name!r:.40} is no type")
    return frozenset(found)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "integer" if value == int(value) else "fraction"
        case list():
            return "array"
        case _:
            return "object"


def _referred(root: Any, reference: Any) -> Schema:
    """What a `$ref` into the same document leads to."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise Untold("it refers to another document")
    found = root
    for step in filter(None, reference[1:].split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            raise Untold(f"{reference} leads nowhere")
        found = found[name]
    return found


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _at(where: str) -> str:
    return where or "the value"


def _forbidden(kinds: frozenset[str], where: str) -> Iterator[str]:
    if kinds:
        yield f"{_at(where)} may be {' or '.join(sorted(_SHOWN.get(kind, f'a {kind}') for kind in kinds))} so far"
