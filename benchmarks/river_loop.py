"""Contestant (a): the bare River loop. No broker, no codec, no delay: the speed of light for one core."""

import json
import sys
import time

from benchmarks.workload import river_model, years


def main(model_name: str, count: int) -> None:
    """Print labelled events a second, and CPU microseconds an event."""
    rows = list(years(count))
    model = river_model(model_name)
    start, cpu = time.perf_counter(), time.process_time()
    for row in rows:
        model.predict_proba_one(row.x)
        model.learn_one(row.x, row.y)
    elapsed, spent = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"events_per_second": count / elapsed, "cpu_us": 1e6 * spent / count}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
