"""Contestant (c): Quix Streams doing the same job, exactly once. Runs in an environment of its own (see run.py).

Needs quixstreams and river only: its pins clash with Headrace's. Pending observations are in memory, as in the others.
"""

import sys

from quixstreams import Application
from river import forest, linear_model, preprocessing, tree


def river_model(name: str):  # type: ignore[no-untyped-def]
    """As in workload.py, which this environment cannot import."""
    if name == "logistic":
        return preprocessing.StandardScaler() | linear_model.LogisticRegression()
    if name == "tree":
        return tree.HoeffdingTreeClassifier()
    return forest.ARFClassifier(n_models=10, seed=42)


def main(bootstrap: str, log: str, predictions: str, outcomes: str, model_name: str) -> None:
    """Run until killed."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"bench-{log}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        auto_create_topics=False,
        loglevel="WARNING",
        producer_extra_config={"retry.backoff.ms": 5, "retry.backoff.max.ms": 20},
    )
    model = river_model(model_name)
    pending = {}

    def predict(event):  # type: ignore[no-untyped-def]
        score = model.predict_proba_one(event["x"]).get(True, 0.0)
        pending[event["id"]] = (event["x"], score)
        return {"id": event["id"], "score": score}

    def learn(event):  # type: ignore[no-untyped-def]
        x, score = pending.pop(event["id"])
        model.learn_one(x, event["y"])
        return {"id": event["id"], "score": score, "y": event["y"]}

    events = app.dataframe(app.topic(log, value_deserializer="json"))
    observations = events.filter(lambda event: event["type"] == "observation").apply(predict)
    observations.to_topic(app.topic(predictions, value_serializer="json"))
    labels = events.filter(lambda event: event["type"] == "label").apply(learn)
    labels.to_topic(app.topic(outcomes, value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:6])
