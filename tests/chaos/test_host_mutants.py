"""The Kafka host, broken on purpose: the checker of `make chaos` notices each time, and is content without.

Real broker, real scoring process, a log written straight to the topic, a few kills and aborts at named points.
"""

import random
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from headrace.contracts import stream as contracts
from headrace.contracts.cleanse import Cleanser
from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, ModelDeployed
from tests.chaos import checker, follower, points, stream
from tests.chaos.child import MUTANT
from tests.chaos.cluster import Cluster
from tests.chaos.load import Sent
from tests.integration.ingest_system import announce, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

GROUP = "headrace.scoring"
LOG = f"{stream.STREAM}.log"
OUTPUTS = (f"{stream.STREAM}.predictions", f"{stream.STREAM}.outcomes")
TOPICS = (LOG, *OUTPUTS, f"{stream.STREAM}.inbox", f"{stream.STREAM}.rejected")
ROUNDS = (("after_offsets_before_commit", "kill"), ("before_produce", "kill"), ("before_commit", "fail"))
"""Each mutant is caught by at least one of these."""
EVENTS_A_ROUND = 150
PATIENCE_SECONDS = 20.0


class Writer:
    """Writes a log as ingest and the registry would, and remembers what it wrote."""

    def __init__(self, bootstrap: str) -> None:
        self.sent = Sent()
        settings = {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"}
        self._producer = Producer({**settings, "log.connection.close": False, "logger": follower.Quiet()})
        self._cleanser = Cleanser(contracts.from_dict(stream.CONTRACT))
        self._rng = random.Random(3)
        contract = self._cleanser.contract.to_dict()
        controls = [encode(ContractAdopted("contract", 0, 1, contract))]
        for model, specification in stream.MODELS.items():
            role = "champion" if model == stream.CHAMPION else "challenger"
            controls.append(encode(ModelDeployed(f"deploy/{model}", 0, model, 1, specification, role)))
        for partition in range(stream.PARTITIONS):
            for control in controls:
                self._producer.produce(LOG, control, b"control", partition=partition)
        self._producer.flush(20)

    def write(self, seconds: float, count: int) -> None:
        """Observations with their labels, spread over a few seconds."""
        for _ in range(count):
            number = len(self.sent.observations)
            seen, y = stream.observation(self._rng, f"log-{number}", 0.0)
            known = stream.Event(
                0.0, True, seen.id, seen.entity, {"id": seen.id, "label": y, "entity": seen.entity}
            )
            now = time.time_ns() // 1_000_000
            observation = self._cleanser.observation(seen.line(), now_ms=now, new_id=lambda: "none")
            for value in (encode(observation), encode(self._cleanser.label(known.line(), now_ms=now))):
                self._producer.produce(LOG, value, seen.entity.encode())
            self.sent.observations.add(seen.id)
            self.sent.labels.add(seen.id)
            self._producer.poll(seconds / count)
        assert self._producer.flush(20) == 0


@pytest.mark.parametrize(
    "mutant", ["", "skip_offsets", "commit_early", "recover_aloud", "stay_ahead", "keep_the_state"]
)
def test_the_checker_catches_it(tmp_path: Path, mutant: str) -> None:
    cluster = Cluster(tmp_path / "home", **{MUTANT: mutant})
    scoring = cluster.services["scoring-0"]
    try:
        cluster.open()
        announce(cluster.bootstrap, contracts.from_dict(stream.CONTRACT))
        writer = Writer(cluster.bootstrap)
        cluster.up(("scoring-0",))
        for point, action in ROUNDS:
            writer.write(1.5, EVENTS_A_ROUND)
            points.arm(scoring.armed, point, 2, action)
            writer.write(1.5, EVENTS_A_ROUND)
            until(lambda: not scoring.armed.exists(), PATIENCE_SECONDS, f"{point} is passed")
            cluster.wait_ready("scoring-0")
        writer.write(1.0, EVENTS_A_ROUND)
        _settled(cluster.bootstrap)
        logs = follower.read_all(cluster.bootstrap, TOPICS)
        committed = follower.committed(cluster.bootstrap, GROUP, LOG, stream.PARTITIONS)
    finally:
        cluster.down()
    verdict = checker.check(logs, stream.STREAM, writer.sent, checker.expected(logs, stream.STREAM))
    ends = {number: records[-1].offset + 1 for (topic, number), records in logs.items() if topic == LOG}
    checker.check_committed(verdict, committed, ends)
    print(mutant or "unchanged", verdict.lost, verdict.doubled, verdict.wrong, verdict.shown())
    if mutant:
        assert verdict.lost + verdict.doubled > 0
    else:
        assert verdict.findings == {}
        assert scoring.lives == 3  # the two kills were real


def _settled(bootstrap: str) -> None:
    """Wait until nothing comes any more: a mutant may never commit what the end is, so the outputs are watched."""
    counts: list[int] = []
    deadline = time.monotonic() + 60
    while len(counts) < 3 or len(set(counts[-3:])) > 1:
        time.sleep(1.0)
        counts.append(sum(map(len, follower.read_all(bootstrap, OUTPUTS).values())))
        assert time.monotonic() < deadline, "outputs come for ever"
