"""The real data sets as columns, and what is done to them so that nothing drifts."""

import csv
import gzip
from typing import Any

import numpy as np
from river import linear_model, naive_bayes, preprocessing

from benchmarks.drift import streams

FIELDS = {
    "elec2": (["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"], []),
    "noaa_weather": ([f"feat_{at}" for at in range(1, 9)], []),
    "bike_hour": (["hr", "temp", "atemp", "hum", "windspeed", "cnt"], ["weathersit", "workingday"]),
    "adult": (
        ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"],
        ["workclass", "education", "marital_status", "occupation", "race", "sex", "native_country"],
    ),
}
LABELS = {"elec2": ("class", "UP"), "noaa_weather": ("target", "1"), "adult": ("income", ">50K")}


def raw(name: str) -> list[dict[str, str]]:
    """The rows as text."""
    with gzip.open(streams.DATA / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def columns(name: str) -> dict[str, Any]:
    """Fields of a data set: numbers as float64, categories as lists of text; `?` is missing."""
    rows = raw(name)
    numeric, categorical = FIELDS[name]
    found: dict[str, Any] = {field: np.array([float(row[field]) for row in rows]) for field in numeric}
    for field in categorical:
        found[field] = np.array([None if row[field] == "?" else row[field] for row in rows], object)
    return found


def judged(name: str, model: str = "logistic") -> tuple[Any, Any, Any]:
    """Labels, answers (0/1) and scores of a River model that predicts each row before it learns it."""
    numeric, categorical = FIELDS[name]
    label, positive = LABELS[name]
    made = (
        preprocessing.StandardScaler() | linear_model.LogisticRegression()
        if model == "logistic"
        else naive_bayes.GaussianNB()
    )
    labels, scores = [], []
    for row in raw(name):
        x = {field: float(row[field]) for field in numeric} | {
            f"{field}={row[field]}": 1.0 for field in categorical
        }
        y = row[label] == positive
        scores.append(made.predict_proba_one(x).get(True, 0.5))
        labels.append(y)
        made.learn_one(x, y)
    found = np.array(scores)
    return np.array(labels, np.uint8), (found >= 0.5).astype(np.uint8), found


def permuted(count: int, block: int, rng: np.random.Generator) -> Any:
    """An order of rows in which blocks of that length are shuffled; 1: every row. What is left of a block is left
    out.
    """
    starts = rng.permutation(count // block) * block
    return (starts[:, None] + np.arange(block)).ravel()
