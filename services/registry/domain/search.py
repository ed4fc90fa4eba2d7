"""A declared search space: which specifications a race is run between.

A space is a specification in which any value may be a choice: `{one_of: [...]}`, or a number `{between: [low, high]}`,
a whole one if both bounds are; with `scale: log` every order of magnitude is as likely. Draws depend on the seed alone.
"""

from collections.abc import Callable
from math import exp, log
from random import Random
from typing import Any

import msgspec

from headrace.errors import Unusable
from headrace.fold import specification as specifications

MOST_TRIALS = 243
DRAWS = 20
"""Draws for each trial that is wanted, before a space counts as exhausted."""
SCALES = ("linear", "log")


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is tried. candidates: specifications as they are. space: one with choices, drawn until `trials` differ."""

    candidates: tuple[dict[str, Any], ...] = ()
    space: dict[str, Any] | None = None
    trials: int = 9
    seed: int = 0


def drawn(search: Search, check: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    """The specifications that are tried, as `check` returns them, no two alike; first the candidates.

    check: returns a specification in its canonical form. Raises `Unusable`, as does this for a choice that is none.
    """
    if not 1 <= search.trials <= MOST_TRIALS:
        raise Unusable(f"1 to {MOST_TRIALS} trials", where="trials")
    if len(search.candidates) > search.trials:
        raise Unusable(
            f"{len(search.candidates)} candidates are more than {search.trials} trials", where="trials"
        )
    if search.space is None and not search.candidates:
        raise Unusable("there is nothing to try: give candidates, or a space", where="space")
    found: dict[str, dict[str, Any]] = {}
    for number, candidate in enumerate(search.candidates):
        _keep(found, candidate, check, f"candidates.{number}")
    if search.space is not None:
        random = Random(search.seed)  # nothing secret
        for _ in range(DRAWS * search.trials):
            if len(found) == search.trials:
                break
            _keep(found, _draw(search.space, random, "space"), check, "space")
    return list(found.values())


def _keep(
    found: dict[str, dict[str, Any]],
    document: dict[str, Any],
    check: Callable[[dict[str, Any]], dict[str, Any]],
    where: str,
) -> None:
    try:
        checked = check(document)
    except Unusable as error:
        raise Unusable(error.reason, where=f"{where}.{error.where}" if error.where else where) from None
    found.setdefault(specifications.digest(checked), checked)


def _draw(value: Any, random: Random, where: str) -> Any:
    """A value with every choice in it made."""
    if isinstance(value, list):
        return [_draw(one, random, f"{where}.{number}") for number, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "one_of" in value:
        options = value["one_of"]
        if len(value) != 1 or not isinstance(options, list) or not options:
            raise Unusable("a choice is {one_of: [...]} and nothing else", where=where)
        chosen = int(random.random() * len(options))
        return _draw(options[chosen], random, f"{where}.one_of.{chosen}")
    if "between" in value:
        return _number(value, random, where)
    return {name: _draw(one, random, f"{where}.{name}") for name, one in value.items()}


def _number(choice: dict[str, Any], random: Random, where: str) -> float:
    bounds, scale = choice["between"], choice.get("scale", "linear")
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or any(isinstance(one, bool) or not isinstance(one, int | float) for one in bounds)
        or not bounds[0] < bounds[1]
    ):
        raise Unusable("a range is {between: [low, high]}, two numbers, the lower first", where=where)
    if scale not in SCALES or not set(choice) <= {"between", "scale"}:
        raise Unusable(f"beside `between` a range has `scale`, {' or '.join(SCALES)}", where=where)
    low, high = bounds
    if scale == "log" and low <= 0:
        raise Unusable("a logarithmic range begins above 0", where=where)
    whole = isinstance(low, int) and isinstance(high, int)
    end = high + 1 if whole else high  # a whole number stands for all that is cut down to it
    part = random.random()
    drawn = exp(log(low) + part * (log(end) - log(low))) if scale == "log" else low + part * (end - low)
    return min(max(int(drawn), low), high) if whole else drawn
