"""Checkpoints: lean, deep-safe, one fingerprint per state, and closed to everything else."""

import collections
import copy
import operator
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import compose, forest, linear_model, naive_bayes, preprocessing, proba, tree

from headrace import checkpoint
from headrace.errors import Unusable
from headrace.fold.features import FeaturePlan, check_features

ROOT = Path(__file__).parents[2]


def trained(model: Any, events: int = 600) -> Any:
    chance = random.Random(1)
    for _ in range(events):
        x = {"a": chance.random(), "b": chance.random(), "c": chance.random()}
        model.learn_one(x, x["a"] + x["b"] > 1)
    return model


MODELS = {
    "scaler and logistic regression": lambda: (
        preprocessing.StandardScaler() | linear_model.LogisticRegression()
    ),
    "naive Bayes": naive_bayes.GaussianNB,
    "tree": tree.HoeffdingTreeClassifier,
    "forest": lambda: forest.ARFClassifier(n_models=3, seed=1),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_reloaded_model_goes_on_the_same(name: str) -> None:
    model = trained(MODELS[name]())
    saved = checkpoint.dumps(model)
    again = checkpoint.loads(saved)
    assert checkpoint.dumps(again) == checkpoint.dumps(checkpoint.loads(checkpoint.dumps(again)))
    assert checkpoint.fingerprint(again) == checkpoint.fingerprint(model)
    for one in (model, again):
        trained(one, 300)
    x = {"a": 0.4, "b": 0.7, "c": 0.1}
    assert model.predict_proba_one(x) == again.predict_proba_one(x)
    assert checkpoint.fingerprint(again) == checkpoint.fingerprint(model)


@pytest.mark.parametrize(("name", "factor"), [("naive Bayes", 10), ("tree", 10), ("forest", 10)])
def test_is_many_times_smaller_than_plain_pickle(name: str, factor: int) -> None:
    model = trained(MODELS[name](), 750)
    assert len(checkpoint.dumps(model)) * factor < len(pickle.dumps(model))


def test_a_reloaded_distribution_can_be_sampled_and_a_seeded_one_keeps_its_place() -> None:
    unseeded, seeded = proba.Gaussian(), proba.Gaussian(seed=5)
    for one in (unseeded, seeded):
        one.update(1.0)
        one.update(3.0)
    seeded.sample()
    again = checkpoint.loads(checkpoint.dumps([unseeded, seeded]))
    assert isinstance(again[0].sample(), float)
    assert again[1].sample() == seeded.sample()


def test_trees_deeper_than_the_recursion_limit() -> None:
    model = tree.HoeffdingTreeRegressor(grace_period=10**6)
    other = tree.HoeffdingTreeClassifier(grace_period=10**6, splitter=tree.splitter.ExhaustiveSplitter())
    for i in range(5000):
        model.learn_one({"rising": float(i)}, i % 7)
        other.learn_one({"rising": float(i)}, i % 2 == 0)
    for one in (model, other):
        again = checkpoint.loads(checkpoint.dumps(one))
        assert checkpoint.fingerprint(again) == checkpoint.fingerprint(one)
        again.learn_one({"rising": 9000.5}, 1)
        one.learn_one({"rising": 9000.5}, 1)
        assert checkpoint.fingerprint(again) == checkpoint.fingerprint(one)


def test_hoeffding_trees_as_deep_as_river_lets_them_grow() -> None:
    """Grows one branch below another by hand; a stream that does it would take millions of events."""
    model = trained(tree.HoeffdingTreeClassifier(grace_period=50), 700)
    top = model._root
    assert top.children, "has split"
    deep = top
    for _ in range(900):
        branch = copy.copy(top)
        branch.children = [deep, top.children[1]]
        deep = branch
    model._root = deep
    again = checkpoint.loads(checkpoint.dumps(model))
    x = {"a": 0.4, "b": 0.7, "c": 0.1}
    assert again.predict_proba_one(x) == model.predict_proba_one(x)
    assert checkpoint.fingerprint(again) == checkpoint.fingerprint(model)


STATE = """
from headrace import checkpoint
import sys
words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
state = {"set": set(words), "frozen": frozenset(words[:4]), "same": ["al" + "pha", words[0], "".join(["al", "pha"])]}
if sys.argv[1] == "reload":
    state = checkpoint.loads(checkpoint.dumps(state))
print(checkpoint.fingerprint(state))
"""


def test_the_fingerprint_is_the_states_own() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", STATE, how],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed, how in (("1", ""), ("2", "reload"), ("3", ""))
    }  # fmt: skip
    assert len(said) == 1


def test_features_go_on_with_the_same_fingerprint_after_a_reload() -> None:
    """What is new after a reload shares constants with the code, what was reloaded does not."""
    declared = check_features([{"name": "n", "kind": "count", "by": "entity", "window_seconds": 24}])
    plan = FeaturePlan(declared)
    plan.compute({}, "before", 1000)
    again = checkpoint.loads(checkpoint.dumps(plan))
    for one in (plan, again):
        one.compute({}, "after", 1000)
    assert checkpoint.fingerprint(again) == checkpoint.fingerprint(plan)


def test_a_tuple_that_is_one_object_or_two_is_the_same_state() -> None:
    """A constant of the code is one object; after a reload, those before it and those made since are several."""
    constant = (0, 0.0, None, "a")
    equal = (*constant[:2], None, "a")
    assert equal is not constant
    assert checkpoint.fingerprint([constant, constant]) == checkpoint.fingerprint([constant, equal])
    assert checkpoint.fingerprint([(1, 2), 3]) != checkpoint.fingerprint([(1,), (2, 3)])


def test_different_states_have_different_fingerprints() -> None:
    states = [{1}, {2}, {1, 2}, [1, 2], (1, 2), (1, (2,)), (True, 2), {"1"}, {1.5}, frozenset({1}), np.array([1, 2]),
              np.array([1.0, 2.0]), np.array([[1, 2]]), np.float64(1.0), 1.0, True, "1", b"1", None, {"a": 1},
              {"a": 2}]  # fmt: skip
    assert len({checkpoint.fingerprint(state) for state in states}) == len(states)


class _Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize(
    "attack",
    [
        _Calls(os.system, "true"),
        _Calls(eval, "1 + 1"),
        _Calls(getattr, linear_model.LogisticRegression, "learn_one"),
        _Calls(subprocess.run, ["true"]),
        _Calls(open, "/etc/hostname"),
        _Calls(operator.attrgetter, "__class__"),
        _Calls(compose.learn_during_predict),
        _Calls(__import__, "os"),
        _Calls(checkpoint._bound, linear_model.LogisticRegression(), "__init__"),
        _Calls(checkpoint._bound, [], "append"),
        Path("/etc"),
    ],
    ids=lambda attack: str(getattr(attack, "made", ("path",))[0])[:60],
)
def test_nothing_else_can_be_loaded(attack: Any) -> None:
    with pytest.raises(Unusable, match="may not hold"):
        checkpoint.loads(pickle.dumps([attack]))


@pytest.mark.parametrize("name", ["datasets.Elec2", "stream.Cache", "compat.SKL2RiverClassifier"])
def test_rivers_own_readers_of_files_cannot_be_loaded(name: str) -> None:
    module, _, cls = name.partition(".")
    with pytest.raises(Unusable, match="may not hold"):
        checkpoint.loads(f"criver.{module}\n{cls}\n.".encode())


def test_a_module_of_river_is_no_way_to_other_modules() -> None:
    with pytest.raises(Unusable, match="may not hold"):
        checkpoint.loads(b"criver.base.base\nsys\n.")
    with pytest.raises(Unusable, match="may not hold"):
        checkpoint.loads(pickle.PROTO + b"\x04" + b"\x8c\x0friver.base.base\x8c\x0bsys.modules\x93.")


@given(st.binary(max_size=200))
def test_damaged_bytes_are_unusable_not_a_crash(data: bytes) -> None:
    with pytest.raises(Unusable):
        checkpoint.loads(data + b"\xff")


def test_what_cannot_be_saved_says_so() -> None:
    with pytest.raises(Unusable, match="cannot be saved"):
        checkpoint.dumps(lambda: None)


def test_plain_state_survives() -> None:
    state = {
        "counter": collections.Counter("abca"),
        "queue": collections.deque([1, 2], maxlen=5),
        "at": {(1, "a"): None},
    }
    assert checkpoint.loads(checkpoint.dumps(state)) == state
    assert checkpoint.loads(checkpoint.dumps(state))["queue"].maxlen == 5
