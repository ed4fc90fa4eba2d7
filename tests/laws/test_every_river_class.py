"""Laws of the catalogue: every public River class is decided upon, and every allowed one keeps the fold's promises.

A model must give the same answers, and reach the same state, in two processes with different hash seeds of which one
saves and reloads it on the way. What cannot is replaced or excluded, with a reason.
"""

import gc
import importlib
import inspect
import json
import os
import pkgutil
import random
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import river
from river import proba

from headrace.fold import catalogue, replacements, specification
from tests.laws import every_river_class

WORKER = Path(every_river_class.__file__)
NUMBERS_ONLY = {"naive_bayes.ComplementNB", "naive_bayes.MultinomialNB"}
"""Need counts: they cannot take the negative numbers of the rich stream."""


def _start(hash_seed: str, cuts: str) -> subprocess.Popen[str]:
    root = str(WORKER.parents[2])
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(WORKER), cuts],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_same_answers_and_state_in_any_process_and_after_any_reload() -> None:
    straight, interrupted = _start("1", ""), _start("77", "50,180,181,260")
    first, second = (json.loads(worker.communicate()[0]) for worker in (straight, interrupted))
    assert {name: said for name, said in first.items() if len(said) < 3} == {}, "every class is put to work"
    assert {name: (said, second[name]) for name, said in first.items() if said != second[name]} == {}
    plain = {
        name.removesuffix(" (multiclass)") for name, said in first.items() if said[0].startswith("numbers")
    }
    assert plain == NUMBERS_ONLY, "all others also work with texts, booleans and missing fields in the stream"
    assert len(first) >= len(catalogue.entries()) > 200


def _public(module: types.ModuleType, path: str) -> Iterator[tuple[str, str]]:
    """(module path, class name) of every public class under a River module."""
    for name in getattr(module, "__all__", []):
        found = getattr(module, name, None)
        if inspect.ismodule(found) and found.__name__.startswith(f"{module.__name__}."):
            yield from _public(found, f"{path}.{name}")
        elif inspect.isclass(found) and not inspect.isabstract(found):
            yield path, name


def test_every_public_class_of_river_is_allowed_or_excluded_with_a_reason() -> None:
    undecided = []
    for info in pkgutil.iter_modules(river.__path__):
        if info.name.startswith("_") or info.name == "api":
            continue
        for path, name in _public(importlib.import_module(f"river.{info.name}"), info.name):
            excluded = any(path == m or path.startswith(f"{m}.") for m in catalogue.EXCLUDED_MODULES)
            interface = path.endswith(".base") and not name.startswith("_")
            full = f"{path}.{name}"
            if not (excluded or interface or full in catalogue.entries() or full in catalogue.EXCLUDED):
                undecided.append(full)
    assert undecided == []


def test_what_is_excluded_exists() -> None:
    public = {name for name, _ in catalogue.public_classes()}
    assert set(catalogue.EXCLUDED) <= public
    for module in catalogue.EXCLUDED_MODULES:
        importlib.import_module(f"river.{module}")


def test_replacements_keep_the_signature_of_what_they_replace() -> None:
    for original, replacement in replacements.REPLACED.items():
        assert issubclass(replacement, original)
        assert replacement.__name__ == original.__name__
        assert list(inspect.signature(replacement).parameters) == list(inspect.signature(original).parameters)


def _generators(model: Any) -> list[tuple[str, Any]]:
    """The states of all random generators inside a model, but for unseeded distributions (no model samples them)."""
    seen: dict[int, Any] = {}
    found, pending = [], [("model", model)]
    while pending:
        path, one = pending.pop()
        skipped = (
            type,
            types.ModuleType,
            types.FunctionType,
            types.BuiltinFunctionType,
            proba.base.Distribution,
        )
        if id(one) in seen or isinstance(one, skipped):
            continue
        seen[id(one)] = one
        if isinstance(one, random.Random):
            found.append((path, hash(one.getstate())))
        elif isinstance(one, np.random.RandomState):
            found.append((path, one.get_state(legacy=True)[1].tobytes()))
        elif isinstance(one, np.random.Generator):
            found.append((path, repr(one.bit_generator.state)))
        else:
            pending += [(f"{path}/{type(inner).__name__}", inner) for inner in gc.get_referents(one)]
    return sorted(found)


@pytest.mark.parametrize("name", sorted(catalogue.entries()))
def test_no_random_generator_is_left_unseeded(name: str) -> None:
    context = every_river_class.context(name)
    assert context is not None
    task, document = context
    states = []
    for _ in range(2):
        model = specification.build(specification.check({"model": document, "seed": 3}))
        try:
            for i, (x, y) in enumerate(every_river_class.stream(task, rich=False)):
                if i == 12:
                    break
                model.learn_one(x, y)
        except (TypeError, AttributeError):  # wants texts; what it made so far is looked at all the same
            assert name.startswith(("feature_extraction.", "preprocessing."))
        states.append(_generators(model))
    assert states[0] == states[1]
