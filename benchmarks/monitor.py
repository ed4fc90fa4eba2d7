"""How many records a second one process of the monitor's data plane counts, by kind of topic.

A made-up stream of eight numbers and four texts, two of which make groups, and one model, in batches as the host
fetches them; every batch's summaries are encoded, and no broker takes part. The best of some rounds counts, as a
machine's speed wanders.

    python -m benchmarks.monitor
"""

import json
import random
import time
from typing import Any

from headrace.contracts.codec import encode
from headrace.contracts.groups import Groups
from headrace.contracts.statistics import Kind
from headrace.contracts.stream import Field
from headrace.processor import Batch
from headrace.testing import builders
from services.monitor.processor import Summariser, WindowShape

RECORDS = 100_000
BATCH_RECORDS = 10_000
CONTRACT = builders.contract(
    fields=[
        *(Field(f"n{n}", "number") for n in range(8)),
        *(Field(f"c{n}", "string", sensitive=n < 2) for n in range(4)),
    ]
)


def main() -> None:
    """Measure and print JSON."""
    print(json.dumps(measure(3)))


def measure(rounds: int) -> dict[str, Any]:
    """Records a second by kind of topic: by the clock, and by CPU time, as others may work on the machine too."""
    best = {
        kind: [max(found) for found in zip(*(rates(kind, values) for _ in range(rounds)), strict=True)]
        for kind, values in made().items()
    }
    return {
        "records_per_second": {kind: round(wall) for kind, (wall, _) in best.items()},
        "records_per_cpu_second": {kind: round(cpu) for kind, (_, cpu) in best.items()},
    }


def made() -> dict[Kind, list[bytes]]:
    """Records of three topics, a tenth of a second of event time apart."""
    chance, groups = random.Random(7), Groups(CONTRACT)
    log, predictions, outcomes = [encode(builders.adopted(CONTRACT))], [], []
    for n in range(RECORDS):
        x = {f"n{of}": chance.gauss(10.0 * of, 1.0 + of) for of in range(8)}
        seen = builders.observation(
            f"o{n}", x | {f"c{of}": chance.choice("ABCDEF") for of in range(4)}, at=n * 100
        )
        score = chance.random()
        said = builders.prediction(seen.id, score, at=seen.at, offset=n)
        came = builders.outcome(
            seen.id, chance.random() < score, score, at=seen.at, observed_at=seen.at - n % 7000
        )
        said.groups = came.groups = groups.of(seen.x, seen.aside)
        log.append(encode(seen))
        predictions.append(encode(said))
        outcomes.append(encode(came))
    return {"log": log, "predictions": predictions, "outcomes": outcomes}


def rates(kind: Kind, values: list[bytes]) -> tuple[float, float]:
    """Records a second over one run, by the clock and by CPU time."""
    topic = f"s.{kind}"
    summariser = Summariser(topic, 0, WindowShape())
    batches = [
        Batch(topic, 0, range(first, first + len(some)), [None] * len(some), some)
        for first in range(0, len(values), BATCH_RECORDS)
        if (some := values[first : first + BATCH_RECORDS])
    ]
    began, cpu_began = time.perf_counter(), time.process_time()
    for batch in batches:
        summariser.process(batch)
    return len(values) / (time.perf_counter() - began), len(values) / (time.process_time() - cpu_began)


if __name__ == "__main__":
    main()
