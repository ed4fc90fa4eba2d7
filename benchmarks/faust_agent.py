"""Contestant (b): a straightforward Faust agent doing the same job, at least once.

Written as Faust's documentation would have it: one agent over the log, pending observations in a dict, two sinks.
"""

import json
import sys

import faust

from benchmarks.workload import river_model


def build(bootstrap: str, log: str, predictions: str, outcomes: str, model_name: str) -> faust.App:
    """The app; topics exist already."""
    app = faust.App(
        f"bench-{log}",
        broker=f"kafka://{bootstrap}",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=10.0,
    )
    source = app.topic(log, value_serializer="raw")
    said = app.topic(predictions, value_serializer="raw")
    became = app.topic(outcomes, value_serializer="raw")
    model = river_model(model_name)
    pending: dict[str, tuple[dict[str, float], float]] = {}

    @app.agent(source)
    async def score(stream):  # type: ignore[no-untyped-def]
        async for value in stream:
            event = json.loads(value)
            if event["type"] == "observation":
                score = model.predict_proba_one(event["x"]).get(True, 0.0)
                pending[event["id"]] = (event["x"], score)
                await said.send(value=json.dumps({"id": event["id"], "score": score}).encode())
            elif event["type"] == "label":
                x, score = pending.pop(event["id"])
                model.learn_one(x, event["y"])
                outcome = {"id": event["id"], "score": score, "y": event["y"]}
                await became.send(value=json.dumps(outcome).encode())

    return app


if __name__ == "__main__":
    arguments = sys.argv[1:6]
    sys.argv = ["faust", "worker", "-l", "warn", "--without-web"]
    build(*arguments).main()
