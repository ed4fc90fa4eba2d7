"""A dry run of a model over made-up observations of a stream, before it is deployed.

River's estimators differ in what they can take: a linear model raises on text, some fail when a field is missing. On
the log that would show as a model that never learns. So when the contract is known, a fresh model is shown a few
harmless observations that follow it (every field there, then each optional field missing in turn) and has to answer and
to learn each. A model that cannot is refused with River's own words and a hint.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from headrace.contracts.events import Features, Scalar
from headrace.contracts.stream import Field, Task
from headrace.errors import Unusable
from headrace.fold.features import FeaturePlan, FeatureSpec

MOST_FIELDS = 40
"""Optional fields that are left out one by one; a contract may have more."""

LABELS: dict[Task, tuple[Scalar, Scalar]] = {
    "binary": (True, False),
    "multiclass": ("one", "another"),
    "regression": (1.0, 2.5),
}


def run(
    estimator: Any,
    task: Task,
    fields: Sequence[Field],
    inputs: Sequence[str] | None,
    features: Sequence[FeatureSpec],
) -> None:
    """Show the model the observations; it is spent afterwards. Raises `Unusable` if it cannot take one of them."""
    plan = FeaturePlan(features)
    used = [field for field in fields if field.feature and (inputs is None or field.name in inputs)]
    for i, (x, missing) in enumerate(_observations(used)):
        served = {**x, **plan.compute(x, "entity", i * 1000)}
        y = LABELS[task][i % 2]
        try:
            _answer(estimator, task, dict(served))
            estimator.learn_one(dict(served), y)
        except Exception as error:  # an estimator may raise anything
            when = f" when {missing!r} is missing" if missing else ""
            raise Unusable(
                f"cannot take this stream's observations{when}: {type(error).__name__}: {str(error)[:200]}"
                f"{_hint(used) if not missing else ''}",
                where="model",
            ) from None
        plan.learn(x, "entity", i * 1000, y)


def _answer(estimator: Any, task: Task, x: Features) -> None:
    if task == "regression":
        estimator.predict_one(x)
        return
    try:
        estimator.predict_proba_one(x)
    except NotImplementedError:
        estimator.predict_one(x)


def _observations(fields: Sequence[Field]) -> Iterator[tuple[Features, str]]:
    """(x, the field that is missing, if any)."""
    for variant in (0, 1):
        yield {field.name: _value(field, variant) for field in fields}, ""
    optional = [field.name for field in fields if not field.required][:MOST_FIELDS]
    for i, missing in enumerate(optional):
        if len(fields) > 1:
            yield {field.name: _value(field, i % 2) for field in fields if field.name != missing}, missing


def _value(field: Field, variant: int) -> Scalar:
    if field.type == "string":
        known = field.categories or ["one", "another"]
        return known[variant % len(known)]
    if field.type == "boolean":
        return variant == 0
    low = field.minimum if field.minimum is not None else min(1.0, field.maximum or 1.0)
    high = field.maximum if field.maximum is not None else low + 1.0
    value = low if variant else low + (high - low) / 2
    return value if field.type == "number" else int(value)


def _hint(fields: Sequence[Field]) -> str:
    texts = [field.name for field in fields if field.type == "string"]
    if not texts:
        return ""
    return (
        f". It may not take text ({', '.join(texts[:5])}): encode it (compose.SelectType of str, then "
        "preprocessing.OneHotEncoder), or name the numeric fields under `inputs`"
    )
