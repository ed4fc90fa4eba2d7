"""Filter strings of MLflow's searches, as far as they are supported: what a model is called, and nothing else.

    name = 'lateness'          name LIKE 'late%'          both joined by AND

MLflow's own client adds a clause by which it leaves out what it calls prompts; there are none here, so that it holds of
every model. Anything else is refused: a filter that is read past finds too much, and nobody notices.
"""

import re

from headrace.errors import Unusable

_NAME = re.compile(
    r"""name\s*(?P<operator>=|LIKE)\s*(?P<quote>['"])(?P<value>[^'"]*)(?P=quote)""", re.IGNORECASE
)
_NO_PROMPT = re.compile(
    r"""tags?\.[`"]?mlflow\.prompt\.is_prompt[`"]?\s*(?:!=\s*'true'|=\s*'false')""", re.IGNORECASE
)
_AND = re.compile(r"\s+AND\s+", re.IGNORECASE)
_OF_NAMES = re.compile(r"[a-z0-9_-]*")
_OF_PATTERNS = re.compile(r"[a-z0-9_%-]*")

SUPPORTED = "name = '...' and name LIKE '...', joined by AND"


def patterns(text: str) -> list[str] | None:
    """SQL patterns (escape: backslash) that a model's name must fulfil, all of them; None: no name can.

    LIKE tells letters apart by case, as in MLflow. Raises `Unusable` for what is not supported.
    """
    found: list[str] | None = []
    text = text.strip()
    place = 0
    while place < len(text):
        clause = _NAME.match(text, place) or _NO_PROMPT.match(text, place)
        if clause is None:
            raise _unsupported(text[place:])
        if clause.re is _NAME and found is not None:
            pattern = _pattern(clause["operator"], clause["value"])
            found = None if pattern is None else [*found, pattern]
        place = clause.end()
        if place < len(text):
            joint = _AND.match(text, place)
            if joint is None:
                raise _unsupported(text[place:])
            place = joint.end()
    return found


def _pattern(operator: str, value: str) -> str | None:
    if operator == "=":
        return value.replace("_", r"\_") if _OF_NAMES.fullmatch(value) else None
    return value if _OF_PATTERNS.fullmatch(value) else None


def _unsupported(rest: str) -> Unusable:
    return Unusable(f"cannot be filtered by {rest.strip()!r:.80}; supported: {SUPPORTED}", where="filter")
