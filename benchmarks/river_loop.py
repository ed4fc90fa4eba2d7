"""Contestant (a): the bare River loop. No broker, no codec, no delay: the speed of light for one core."""

import sys
import time

from benchmarks.workload import labelled, river_model


def main(model_name: str, count: int) -> None:
    """Print labelled events a second."""
    rows = labelled(count)
    model = river_model(model_name)
    start = time.perf_counter()
    for row in rows:
        model.predict_proba_one(row.x)
        model.learn_one(row.x, row.y)
    print(len(rows) / (time.perf_counter() - start))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
