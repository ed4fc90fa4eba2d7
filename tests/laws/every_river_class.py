"""Documents that put each catalogued River class to work, and a worker that runs them all in one process.

Run as a program (`python tests/laws/every_river_class.py CUTS`) it prints one JSON object: class name ->
digest of every answer and the final state's fingerprint. CUTS: after which events the model is saved and reloaded.
The law test runs it in two processes with different hash seeds and different cuts and compares.
"""

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

from river import base, compose, optim, stats, tree
from river.bandit.base import Policy
from river.metrics.base import ClassificationMetric, RegressionMetric
from river.neighbors.base import BaseNN
from river.tree.splitter.base import Quantizer

from headrace import checkpoint
from headrace.errors import Unusable
from headrace.fold import catalogue, specification

EVENTS = 300

LR = "linear_model.LogisticRegression"
REGRESSION = "linear_model.LinearRegression"
TREE = "tree.HoeffdingTreeClassifier"
REGRESSION_TREE = "tree.HoeffdingTreeRegressor"


def node(name: str, **parameters: Any) -> dict[str, Any]:
    """A node of a document."""
    return {"class": name, "parameters": parameters}


GIVEN: dict[str, dict[str, Any]] = {
    "anomaly.PredictiveAnomalyDetection": {"predictive_model": REGRESSION},
    "anomaly.QuantileFilter": {"anomaly_detector": "anomaly.HalfSpaceTrees", "q": 0.9},
    "anomaly.ThresholdFilter": {"anomaly_detector": "anomaly.HalfSpaceTrees", "threshold": 0.9},
    "bandit.EpsilonGreedy": {"epsilon": 0.2},
    "bandit.Exp3": {"gamma": 0.2},
    "bandit.UCB": {"delta": 1.0},
    "compose.Discard": {"keys": ["c"]},
    "compose.Grouper": {"transformer": "preprocessing.StandardScaler", "by": "k"},
    "compose.Pipeline": {"steps": ["preprocessing.StandardScaler", LR]},
    "compose.Prefixer": {"prefix": "p_"},
    "compose.Renamer": {"mapping": {"a": "z"}},
    "compose.Select": {"keys": ["c", "b", "a"]},
    "compose.SelectType": {"types": ["number"]},
    "compose.Suffixer": {"suffix": "_s"},
    "compose.TransformerProduct": {
        "transformers": [node("compose.Select", keys=["a", "b"]), node("compose.Select", keys=["c"])]
    },
    "compose.TransformerUnion": {"transformers": ["preprocessing.StandardScaler", "preprocessing.MinMaxScaler"]},
    "conf.RegressionJackknife": {"regressor": REGRESSION},
    "drift.DriftRetrainingClassifier": {"model": TREE},
    "dummy.StatisticRegressor": {"statistic": "stats.Mean"},
    "ensemble.EWARegressor": {"models": [REGRESSION, REGRESSION_TREE]},
    "ensemble.StackingClassifier": {"models": [LR, TREE], "meta_classifier": LR},
    "ensemble.VotingClassifier": {"models": [LR, TREE, "naive_bayes.GaussianNB"]},
    "feature_extraction.Agg": {"on": "a", "by": ["k"], "how": "stats.Mean"},
    "feature_extraction.TargetAgg": {"by": ["k"], "how": "stats.Mean"},
    "feature_extraction.BagOfWords": {"on": "t"},
    "feature_extraction.TFIDF": {"on": "t"},
    "feature_selection.PoissonInclusion": {"p": 0.3},
    "feature_selection.SelectKBest": {"similarity": "stats.PearsonCorr", "k": 2},
    "imblearn.HardSamplingClassifier": {"classifier": LR, "size": 20, "p": 0.3},
    "imblearn.HardSamplingRegressor": {"regressor": REGRESSION, "size": 20, "p": 0.3},
    "imblearn.RandomOverSampler": {"classifier": LR, "desired_dist": {"true": 0.5, "false": 0.5}},
    "imblearn.RandomSampler": {"classifier": LR, "desired_dist": {"true": 0.5, "false": 0.5}},
    "imblearn.RandomUnderSampler": {"classifier": LR, "desired_dist": {"true": 0.5, "false": 0.5}},
    "metrics.FBeta": {"beta": 0.5},
    "metrics.MacroFBeta": {"beta": 0.5},
    "metrics.MicroFBeta": {"beta": 0.5},
    "metrics.WeightedFBeta": {"beta": 0.5},
    "model_selection.BanditClassifier": {
        "models": [LR, TREE], "metric": "metrics.Accuracy", "policy": node("bandit.EpsilonGreedy", epsilon=0.1)
    },
    "model_selection.BanditRegressor": {
        "models": [REGRESSION, REGRESSION_TREE], "metric": "metrics.MAE", "policy": node("bandit.UCB", delta=1.0)
    },
    "model_selection.GreedyRegressor": {"models": [REGRESSION, REGRESSION_TREE]},
    "model_selection.SuccessiveHalvingClassifier": {
        "models": [TREE, "naive_bayes.GaussianNB"], "metric": "metrics.Accuracy", "budget": 100
    },
    "model_selection.SuccessiveHalvingRegressor": {
        "models": [REGRESSION, REGRESSION_TREE], "metric": "metrics.MAE", "budget": 100
    },
    "multiclass.OneVsOneClassifier": {"classifier": LR},
    "multiclass.OneVsRestClassifier": {"classifier": LR},
    "multiclass.OutputCodeClassifier": {"classifier": LR, "code_size": 6},
    "neighbors.SWINN": {"graph_k": 5, "warm_up": 50, "maxlen": 100},
    "optim.Averager": {"optimizer": "optim.SGD"},
    "optim.initializers.Constant": {"value": 0.1},
    "optim.schedulers.Constant": {"learning_rate": 0.02},
    "optim.schedulers.InverseScaling": {"learning_rate": 0.02},
    "optim.schedulers.Optimal": {"loss": "optim.losses.Hinge"},
    "preprocessing.Binarizer": {},
    "preprocessing.GapEncoder": {"on": "t", "n_components": 3},
    "preprocessing.LDA": {"n_components": 3},
    "preprocessing.PredClipper": {"regressor": REGRESSION, "y_min": -1, "y_max": 5},
    "preprocessing.StatImputer": {"imputers": [["m", "stats.Mean"], ["k", "none"]]},
    "preprocessing.TargetMinMaxScaler": {"regressor": REGRESSION},
    "preprocessing.TargetStandardScaler": {"regressor": REGRESSION},
    "rules.AMRules": {"n_min": 20, "delta": 0.3, "tau": 0.6},
    "stats.AutoCorr": {"lag": 2},
    "stats.BayesianMean": {"prior": 0.5, "prior_weight": 5},
    "stats.Link": {"left": "stats.Shift", "right": "stats.Mean"},
    "utils.Rolling": {"cls": "stats.Mean", "window_size": 20},
}  # fmt: skip

ENCODED = {
    "union": [
        node("compose.SelectType", types=["number"]),
        [node("compose.Select", keys=["k"]), "preprocessing.OneHotEncoder"],
    ]
}
"""Numbers as they are, texts one-hot."""


def parameters(name: str) -> dict[str, Any]:
    """Parameters with which the class can be built and is small enough for a test."""
    if name in GIVEN:
        return GIVEN[name]
    given: dict[str, Any] = {}
    for parameter in catalogue.entries()[name].parameters.values():
        if parameter.name in ("n_models", "n_estimators", "n_trees"):
            given[parameter.name] = 3
        elif parameter.required and parameter.name in ("model", "regressor", "classifier"):
            wants_regressor = parameter.name == "regressor" or name.endswith("Regressor")
            given[parameter.name] = REGRESSION if wants_regressor else "naive_bayes.GaussianNB"
        elif parameter.required and parameter.name == "window_size":
            given[parameter.name] = 20
        elif parameter.name == "grace_period" and parameter.slot == (catalogue.Plain(int),):
            given[parameter.name] = 40
        elif parameter.name in ("delta", "tau") and "tau" in catalogue.entries()[name].parameters:
            given[parameter.name] = 0.2  # splits within the few events of the test
        elif parameter.required and parameter.name == "q":
            given[parameter.name] = 0.5
    return given


def context(name: str) -> tuple[str, Any] | None:
    """(task, model document) in which the class works; None if it is of no kind that a model can use."""
    cls = catalogue.entries()[name].cls
    one = node(name, **parameters(name))
    if issubclass(cls, base.Classifier):
        return "binary", one
    if issubclass(cls, base.Regressor):
        return "regression", one
    if issubclass(cls, compose.Pipeline):
        return "binary", one
    if issubclass(cls, Policy):
        return "binary", node(
            "model_selection.BanditClassifier", models=[LR, TREE], metric="metrics.Accuracy", policy=one
        )
    if issubclass(cls, base.AnomalyFilter | base.BaseTransformer):
        return "binary", [one, ENCODED, LR] if _gives_text(cls) else [one, LR]
    if issubclass(cls, base.AnomalyDetector | base.SupervisedAnomalyDetector):
        return "binary", [node("anomaly.ThresholdFilter", anomaly_detector=one, threshold=0.8), LR]
    return _part(cls, one)


def _gives_text(cls: type) -> bool:
    return cls.__name__ in ("PreviousImputer", "StatImputer", "Renamer", "Prefixer", "Suffixer")


def _part(cls: type, one: dict[str, Any]) -> tuple[str, Any] | None:
    """The context of what is no step by itself."""
    for kind, made in (
        (optim.base.Optimizer, ("binary", node(LR, optimizer=one))),
        (optim.losses.BinaryLoss, ("binary", node(LR, loss=one))),
        (optim.losses.RegressionLoss, ("regression", node(REGRESSION, loss=one))),
        (optim.losses.MultiClassLoss, ("multiclass", node("linear_model.SoftmaxRegression", loss=one))),
        (optim.base.Scheduler, ("binary", node(LR, intercept_lr=one))),
        (optim.base.Initializer, ("binary", node(LR, initializer=one))),
        (ClassificationMetric, ("binary", node("model_selection.SuccessiveHalvingClassifier",
                                               models=[LR, TREE], metric=one, budget=60))),
        (RegressionMetric, ("regression", node("model_selection.GreedyRegressor",
                                               models=[REGRESSION, REGRESSION_TREE], metric=one))),
        (BaseNN, ("binary", node("neighbors.KNNClassifier", engine=one))),
        (Quantizer, ("regression", node("tree.SGTRegressor", feature_quantizer=one, grace_period=40))),
        (stats.base.Bivariate, ("regression", [node("feature_selection.SelectKBest", similarity=one, k=2),
                                               REGRESSION])),
        (stats.base.Univariate, ("regression", node("dummy.StatisticRegressor", statistic=one))),
    ):  # fmt: skip
        if issubclass(cls, kind):
            return made
    if issubclass(cls, tree.splitter.Splitter):
        forest = "regression" if "EBST" in cls.__name__ or "QO" in cls.__name__ else "binary"
        return forest, node(
            REGRESSION_TREE if forest == "regression" else TREE, splitter=one, grace_period=40
        )
    if issubclass(cls, base.BinaryDriftDetector):
        warns = issubclass(cls, base.BinaryDriftAndWarningDetector)
        return "binary", node(
            "drift.DriftRetrainingClassifier", model=TREE, drift_detector=one, train_in_background=warns
        )
    if issubclass(cls, base.DriftDetector):
        return "binary", node("forest.ARFClassifier", n_models=3, drift_detector=one, warning_detector=one)
    if cls.__name__ == "Rolling":
        return "regression", [node("feature_extraction.Agg", on="a", by=["k"], how=one), REGRESSION]
    return None


def stream(task: str, rich: bool) -> Iterator[tuple[dict[str, Any], Any]]:
    """Events with drift, missing fields and repeated values; rich: with texts, booleans and a short sentence."""
    chance = random.Random(7)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    for i in range(EVENTS):
        x: dict[str, Any] = {"a": chance.random(), "b": round(chance.random(), 2), "c": chance.randrange(5)}
        signal = x["a"] + x["b"] * (1 if i < EVENTS // 2 else -1) + 0.1 * x["c"]
        if rich:
            x["k"] = chance.choice(words)
            x["t"] = " ".join(chance.choice(words) for _ in range(4))
            x["flag"] = chance.random() < 0.3
            signal += words.index(x["k"]) / 8
            if chance.random() < 0.7:
                x["m"] = chance.gauss(0, 1)
            if chance.random() < 0.1:
                del x["k"]
        if task == "binary":
            yield x, signal > 0.9
        elif task == "multiclass":
            yield x, words[min(3, int(signal * 3) % 4)]
        else:
            yield x, signal + chance.gauss(0, 0.1)


def run(document: dict[str, Any], task: str, cuts: set[int], rich: bool) -> tuple[str, str]:
    """(digest of all answers, fingerprint). Raises whatever the model raises."""
    model = specification.build(specification.check(document))
    answers = hashlib.sha256()
    for i, (x, y) in enumerate(stream(task, rich)):
        if i in cuts:
            model = checkpoint.loads(checkpoint.dumps(model))
        if task == "regression":
            said = model.predict_one(dict(x))
            answers.update(repr(said if said is None else float(said)).encode())
        else:
            try:
                said = model.predict_proba_one(dict(x))
            except NotImplementedError:
                said = model.predict_one(dict(x))
            answers.update(repr(said).encode())
        model.learn_one(dict(x), y)
    return answers.hexdigest()[:16], checkpoint.fingerprint(model)[:16]


def attempt(model: Any, task: str, cuts: set[int]) -> list[Any]:
    """Rich observations first, then texts one-hot, then numbers only: [how, answers, fingerprint], or [errors]."""
    errors = []
    for how, rich, document in (
        ("rich", True, model),
        ("encoded", True, [ENCODED, model]),
        ("numbers", False, model),
    ):
        try:
            return ["; ".join([how, *errors]), *run({"model": document, "seed": 5}, task, cuts, rich)]
        except Exception as caught:  # any class may raise anything
            errors.append(f"{how} {type(caught).__name__}: {caught}"[:200])
    return [f"fails: {'; '.join(errors)}"]


def main() -> None:
    """See the module's text."""
    cuts = {int(cut) for cut in sys.argv[1].split(",") if cut}
    results: dict[str, list[Any]] = {}
    for name in sorted(catalogue.entries()):
        found = context(name)
        if found is None:
            results[name] = ["no context"]
            continue
        task, model = found
        results[name] = attempt(model, task, cuts)
        if task == "binary" and issubclass(catalogue.entries()[name].cls, base.Classifier):
            try:
                specification.check({"model": model}, task="multiclass")
            except Unusable:
                continue
            results[f"{name} (multiclass)"] = attempt(model, "multiclass", cuts)
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
