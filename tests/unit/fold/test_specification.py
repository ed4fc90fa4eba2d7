"""Specifications: what is accepted, what is refused and how it is said, seeds, digests."""

import json
import numbers
import random
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base, compose, linear_model, optim, preprocessing

from headrace.contracts.stream import Field
from headrace.errors import Unusable
from headrace.fold import catalogue, replacements, specification
from headrace.fold.features import KINDS
from headrace.fold.specification import build, check, digest

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "models").glob("*.yaml"))
LR = "linear_model.LogisticRegression"


def node(name: str, **parameters: Any) -> dict[str, Any]:
    return {"class": name, "parameters": parameters}


def refused(document: Any, **more: Any) -> Unusable:
    with pytest.raises(Unusable) as caught:
        check(document, **more)
    return caught.value


def test_builds_what_one_would_write_in_python() -> None:
    document = {
        "model": [
            {
                "union": [
                    [node("compose.SelectType", types=["number"]), "preprocessing.StandardScaler"],
                    [node("compose.SelectType", types=[{"type": "str"}]), "preprocessing.OneHotEncoder"],
                ]
            },
            node(LR, optimizer=node("optim.SGD", lr=0.05), loss="optim.losses.Log", l2=0),
        ]
    }
    model = build(check(document, task="binary"))
    assert str(model).endswith("| LogisticRegression")
    assert isinstance(model["TransformerUnion"], compose.TransformerUnion)
    assert model["LogisticRegression"].optimizer.learning_rate == 0.05


def test_the_flights_example_is_bit_for_bit_the_plain_river_model() -> None:
    path = next(path for path in EXAMPLES if path.stem == "flights-logistic-regression")
    built = build(check(yaml.safe_load(path.read_text()), task="binary"))
    plain = (
        (compose.SelectType(numbers.Number) | preprocessing.StandardScaler())
        + (compose.SelectType(str) | preprocessing.OneHotEncoder())
    ) | linear_model.LogisticRegression(optimizer=optim.SGD(0.05))
    chance = random.Random(2)
    for _ in range(500):
        x = {"carrier": chance.choice("ABCDE"), "hour": chance.randrange(24), "wind": chance.random()}
        if chance.random() < 0.2:
            del x[chance.choice(list(x))]
        assert built.predict_proba_one(x) == plain.predict_proba_one(x)
        y = chance.random() < 0.3
        built.learn_one(x, y)
        plain.learn_one(x, y)


def test_steps_can_be_named() -> None:
    model = build(
        check(
            {
                "model": [
                    {"class": "preprocessing.StandardScaler", "name": "scaled"},
                    {"class": LR, "name": "lr"},
                ]
            }
        )
    )
    assert list(model.steps) == ["scaled", "lr"]
    taken = refused(
        {"model": [{"class": "preprocessing.StandardScaler", "name": "a"}, {"class": LR, "name": "a"}]}
    )
    assert "once" in taken.reason


@pytest.mark.parametrize(
    "document",
    [
        {"pipeline": ["preprocessing.StandardScaler", LR]},
        node("compose.Pipeline", steps=["preprocessing.StandardScaler", LR]),
        ["preprocessing.StandardScaler", LR],
    ],
)
def test_a_pipeline_can_be_written_in_three_ways(document: Any) -> None:
    assert str(build(check({"model": document}))) == "StandardScaler | LogisticRegression"


def test_a_product_a_rolling_statistic_and_keys_that_are_no_text() -> None:
    product = {"product": [node("compose.Select", keys=["a"]), node("compose.Select", keys=["b"])]}
    rolling = node("utils.Rolling", cls="stats.Var", window_size=3, ddof=0)
    aggregate = node("feature_extraction.Agg", on="a", by="k", how=rolling)
    sampler = node("imblearn.RandomUnderSampler", classifier=LR, desired_dist=[[True, 0.5], [False, 0.5]])
    model = build(check({"model": [{"union": [product, aggregate]}, sampler]}, task="binary"))
    assert model["RandomUnderSampler"].desired_dist == {True: 0.5, False: 0.5}
    transformed = model["TransformerUnion"].transform_one({"a": 2, "b": 3})
    assert transformed["a*b"] == 6


@pytest.mark.parametrize(
    ("document", "where", "says"),
    [
        ({}, "model", "is missing"),
        ([], "", "an object"),
        ({"model": LR, "seeds": 1}, "", "did you mean seed?"),
        ({"model": LR, "seed": -1}, "seed", "from 0"),
        ({"model": LR, "seed": True}, "seed", "from 0"),
        ({"model": "linear_model.LogisticRegresion"}, "model", "did you mean linear_model.LogisticRegression"),
        ({"model": "LogisticRegression"}, "model", "did you mean linear_model.LogisticRegression?"),
        ({"model": 3}, "model", "a node of the kind Estimator"),
        ({"model": []}, "model", "not allowed"),
        ({"model": {"parameters": {}}}, "model", "not allowed"),
        ({"model": {"class": LR, "params": {}}}, "model", "did you mean parameters?"),
        ({"model": {"class": LR, "parameters": []}}, "model.parameters", "an object of parameters"),
        ({"model": node(LR, l3=1)}, "model.parameters.l3", "it takes optimizer, loss, l2"),
        ({"model": node(LR, optimiser="optim.SGD")}, "model.parameters.optimiser", "did you mean optimizer?"),
        ({"model": node(LR, l2="0.1")}, "model.parameters.l2", "is text"),
        ({"model": node(LR, l2="1e-3")}, "model.parameters.l2", "YAML"),
        ({"model": node(LR, l2=float("nan"))}, "model.parameters.l2", "finite"),
        ({"model": node(LR, loss="optim.losses.Squared")}, "model.parameters.loss", "optim.losses.Log"),
        ({"model": ["preprocessing.StandardScaler", node(LR, loss=7)]}, "model[1].parameters.loss", "BinaryLoss"),
        ({"model": {"union": []}}, "model.union", "at least one"),
        ({"model": {"union": ["preprocessing.StandardScaler"], "class": LR}}, "model", "unknown key 'class'"),
        ({"model": "multiclass.OneVsRestClassifier"}, "model.parameters", "needs 'classifier'"),
        ({"model": node("forest.ARFClassifier", n_models=0)}, "model.parameters.n_models", "within 1 and 1000"),
        ({"model": node("forest.ARFClassifier", n_models=10**9)}, "model.parameters.n_models", "within 1 and 1000"),
        ({"model": node("forest.ARFClassifier", n_models=2.5)}, "model.parameters.n_models", "whole number"),
        ({"model": node("anomaly.HalfSpaceTrees", height=60)}, "model.parameters.height", "within 1 and 15"),
        ({"model": node("compose.SelectType", types=["text"])}, "model.parameters.types[0]", "number"),
        ({"model": node("preprocessing.OneHotEncoder", categories=["a"])}, "model.parameters.categories", "an object"),
        ({"model": node("conf.RegressionJackknife", regressor=LR)}, "model.parameters.regressor", "Regressor"),
        ({"model": node("ensemble.EWARegressor", models=[])}, "model", "refuses"),
        ({"model": "compose.FuncTransformer"}, "model", "takes a function"),
        ({"model": node("compose.TargetTransformRegressor", regressor=LR, func="math.log")}, "model", "a function"),
        ({"model": "datasets.Elec2"}, "model", "files"),
        ({"model": "compat.SKL2RiverClassifier"}, "model", "other libraries"),
        ({"model": "river.linear_model.LogisticRegression"}, "model", "no class"),
        ({"model": "os.system"}, "model", "no class"),
        ({"model": "builtins.eval"}, "model", "no class"),
        ({"model": "custom:nothing"}, "model", "no estimator 'nothing'"),
        ({"model": LR, "inputs": []}, "inputs", "leave it out"),
        ({"model": LR, "inputs": ["a", "a"]}, "inputs[1]", "twice"),
        ({"model": LR, "features": {}}, "features", "a list"),
        ({"model": {1: 2}}, "model", "not text"),
        ({"model": object()}, "", "JSON"),
    ],
)  # fmt: skip
def test_says_where_and_what_is_allowed(document: Any, where: str, says: str) -> None:
    error = refused(document)
    assert (error.where, says in error.reason) == (where, True), error
    assert len(str(error)) < 1500


def test_documents_are_bounded() -> None:
    deep: Any = LR
    for _ in range(60):
        deep = {"pipeline": [deep]}
    assert "deeper" in refused({"model": deep}).reason
    very_deep: Any = []
    for _ in range(100_000):
        very_deep = [very_deep]
    assert "deeper" in refused({"model": very_deep}).reason
    assert "nodes" in refused({"model": {"union": ["preprocessing.StandardScaler"] * 501}}).reason
    assert "bytes" in refused({"model": node("compose.Prefixer", prefix="x" * 70_000)}).reason
    inner = node("ensemble.BaggingClassifier", model=LR, n_models=500)
    assert (
        "more than 10000"
        in refused({"model": node("ensemble.BaggingClassifier", model=inner, n_models=500)}).reason
    )


@pytest.mark.parametrize(
    ("model", "task", "says"),
    [
        (LR, "regression", "no regressor"),
        (LR, "multiclass", "OneVsRestClassifier"),
        ("linear_model.LinearRegression", "binary", "no classifier"),
        (["preprocessing.StandardScaler", "linear_model.LinearRegression"], "multiclass", "no classifier"),
        ("preprocessing.StandardScaler", "binary", "no classifier"),
        ("optim.SGD", "binary", "Estimator"),
        ([LR, "preprocessing.StandardScaler"], "binary", "no classifier"),
    ],
)
def test_the_model_must_suit_the_task(model: Any, task: Any, says: str) -> None:
    assert says in refused({"model": model}, task=task).reason


FIELDS = [
    Field("carrier", "string", feature=True),
    Field("hour", "integer", feature=True),
    Field("id", "string", feature=False),
]


def test_inputs_and_features_name_fields_of_the_contract() -> None:
    good = {
        "model": "tree.HoeffdingTreeClassifier",
        "inputs": ["hour"],
        "features": [
            {"name": "late", "kind": "rate", "of": "label", "by": "carrier", "window_seconds": 3600}
        ],
    }
    checked = check(good, task="binary", fields=FIELDS)
    assert checked.inputs == ("hour",)
    assert checked.features[0].by == ("carrier",)
    assert "did you mean hour?" in refused({**good, "inputs": ["hours"]}, fields=FIELDS).reason
    assert refused({**good, "inputs": ["id"]}, fields=FIELDS).where == "inputs[0]"


STREAM = [
    Field("carrier", "string", feature=True, categories=["UA", "AA"]),
    Field("hour", "integer", feature=True, required=True, minimum=0, maximum=23),
    Field("wind", "number", feature=True, maximum=-5.0),
    Field("weekend", "boolean", feature=True),
    Field("secret", "string", feature=False),
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_take_the_observations_of_a_mixed_stream(path: Path) -> None:
    text = path.read_text()
    task = next(t for t in ("binary", "multiclass", "regression") if f"# task: {t}" in text)
    fields = [*STREAM, Field("origin", "string", feature=True)]
    assert check(yaml.safe_load(text), task=task, fields=fields).model  # type: ignore[arg-type]


def test_a_model_that_cannot_take_the_stream_is_refused() -> None:
    error = refused({"model": ["preprocessing.StandardScaler", LR]}, task="binary", fields=STREAM)
    assert "TypeError" in error.reason
    assert "may not take text (carrier)" in error.reason
    good = {"model": ["preprocessing.StandardScaler", LR], "inputs": ["hour", "wind", "weekend"]}
    assert check(good, task="binary", fields=STREAM).inputs == ("hour", "wind", "weekend")
    cross = {"union": [node("compose.Select", keys=["hour"]), node("feature_extraction.PolynomialExtender")]}
    assert "carrier" in refused({"model": [cross, LR]}, task="binary", fields=STREAM).reason


class NeedsWind(base.Classifier):
    """Fails when a field is missing, as some user's class might."""

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Nothing."""

    def predict_one(self, x: dict[str, Any]) -> bool:
        return bool(x["wind"] > 0)


def test_a_model_that_fails_on_missing_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.Entry("custom:needs_wind", NeedsWind, {})
    monkeypatch.setattr(catalogue, "custom", lambda name: entry)
    error = refused({"model": "custom:needs_wind"}, task="binary", fields=STREAM)
    assert "when 'wind' is missing: KeyError" in error.reason


def test_every_seed_is_derived_and_different_seeds_differ() -> None:
    document = {
        "model": node("ensemble.BaggingClassifier", model=node("tree.HoeffdingAdaptiveTreeClassifier"))
    }
    one, same, other = (build(check({**document, "seed": seed})) for seed in (1, 1, 2))
    assert isinstance(one.seed, int)
    assert one.model.seed not in (None, one.seed)
    assert (one.seed, one.model.seed) == (same.seed, same.model.seed)
    assert one.seed != other.seed
    given_seed = build(check({"model": node("forest.ARFClassifier", seed=7)}))
    assert given_seed.seed == 7
    unset = build(check({"model": node("forest.ARFClassifier", seed=None)}))
    assert isinstance(unset.seed, int)


def test_the_digest_depends_on_content_only() -> None:
    text = "model:\n  class: linear_model.LogisticRegression\n  parameters: {l2: 0.5, l1: 0.0}\nseed: 3\n"
    document = {"seed": 3, "model": {"parameters": {"l1": 0.0, "l2": 0.5}, "class": LR}}
    assert digest(yaml.safe_load(text)) == digest(document)
    assert digest({**document, "seed": 4}) != digest(document)
    code = (
        "from headrace.fold.specification import digest; import json;"
        f"print(digest(json.loads({json.dumps(document)!r})))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=EXAMPLES[0].parents[2]
    )
    assert said.stdout.strip() == digest(document)


def test_equal_digests_mean_equal_models() -> None:
    """Key order in the document must not reach the model: the order of one-hot columns decides the order of sums."""
    one = {"model": node("preprocessing.OneHotEncoder", categories={"b": ["y", "x"], "a": ["z"]})}
    two = {"model": node("preprocessing.OneHotEncoder", categories={"a": ["z"], "b": ["y", "x"]})}
    x = {"a": "z", "b": "x"}
    first, second = (list(build(check(d)).transform_one(x).items()) for d in (one, two))
    assert digest(one) == digest(two)
    assert first == second == [("a_z", 1), ("b_y", 0), ("b_x", 1)]


class Constant(base.Classifier):
    """A user's own estimator."""

    def __init__(self, answer: bool = True, seed: int | None = None) -> None:
        self.answer = answer
        self.seed = seed

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Nothing."""

    def predict_one(self, x: dict[str, Any]) -> bool:
        return self.answer


def test_a_users_own_class_comes_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("constant", "tests_own_estimator:Constant", catalogue.ENTRY_POINT_GROUP),
        EntryPoint("function", "tests_own_estimator:function", catalogue.ENTRY_POINT_GROUP),
    ]
    module = type(sys)("tests_own_estimator")
    module.Constant = Constant  # type: ignore[attr-defined]
    module.function = len  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_own_estimator", module)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: points)
    catalogue.custom.cache_clear()
    try:
        model = build(
            check(
                {"model": ["preprocessing.StandardScaler", node("custom:constant", answer=False)]},
                task="binary",
            )
        )
        assert model.predict_one({"a": 1}) is False
        assert isinstance(model["Constant"].seed, int), "seeded like any other"
        assert (
            "no parameter 'anwser'; did you mean answer?"
            in refused({"model": node("custom:constant", anwser=1)}).reason
        )
        assert "river.base" in refused({"model": "custom:function"}).reason
        assert "constant, function" in refused({"model": "custom:other"}).reason
    finally:
        catalogue.custom.cache_clear()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([LR, "compose.Select", "forest.ARFClassifier", "class", "parameters", "union", "optim.SGD"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["class", "parameters", "union", "pipeline", "model", "name", "keys", "steps", "seed", "loss"]),
        inner,
        max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_no_document_gets_anything_but_a_model_or_unusable(value: Any) -> None:
    try:
        checked = check({"model": value})
    except Unusable:
        return
    assert isinstance(build(checked), base.Base)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_used(path: Path) -> None:
    text = path.read_text()
    task = next(t for t in ("binary", "multiclass", "regression") if f"# task: {t}" in text)
    model = build(check(yaml.safe_load(text), task=task))  # type: ignore[arg-type]
    xs = [
        {"carrier": c, "origin": "JFK", "dep_hour": h, "distance": 100.0 * h}
        for h, c in enumerate("ABAB" * 30)
    ]
    y: Any
    for i, x in enumerate(xs):
        y = {"binary": i % 2 == 0, "multiclass": "abc"[i % 3], "regression": i / 10}[task]
        model.predict_one(x) if task == "regression" else model.predict_proba_one(x)
        del x["distance" if i % 5 == 0 else "origin"]
        model.learn_one(x, y)
    said = model.predict_one(xs[1])
    assert isinstance(said, {"binary": bool, "multiclass": str, "regression": float}[task])


def test_there_are_examples_for_every_task() -> None:
    assert len(EXAMPLES) >= 5


def test_the_final_estimator_is_found_in_nested_pipelines() -> None:
    model = compose.Pipeline(compose.Pipeline(linear_model.LogisticRegression()))
    assert isinstance(specification.final_estimator(model), linear_model.LogisticRegression)


def test_the_documentation_names_what_is_left_out_and_replaced() -> None:
    text = (Path(__file__).parents[3] / "docs" / "model-specifications.md").read_text()
    replaced = {
        name for name, entry in catalogue.entries().items() if entry.cls in replacements.REPLACED.values()
    }
    for name in (*catalogue.EXCLUDED, *catalogue.EXCLUDED_MODULES, *replaced, *KINDS):
        assert f"`{name}`" in text, name
    for name, reason in {**catalogue.EXCLUDED, **catalogue.EXCLUDED_MODULES}.items():
        assert f"| `{name}` | {reason} |" in text


def test_the_documentations_example_can_be_used() -> None:
    text = (Path(__file__).parents[3] / "docs" / "model-specifications.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    assert check(yaml.safe_load(example), task="binary").inputs == ("carrier", "dep_hour", "distance")
