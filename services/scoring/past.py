"""Looks at the past beside the live shards, each in a process of its own: explanations, and the sampled check.

Folding a log again takes a core for a while; in this process it would take it from the shards. One look at a time, each
with a time limit. The sampled check goes round for as long as the service lives; what it finds is counted, and a
difference is told on `headrace.alerts` under an id that says where, so that telling it twice is harmless.
"""

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from headrace.contracts.codec import encode
from headrace.contracts.events import Alert
from headrace.contracts.topics import ALERTS, stream_of
from headrace.errors import HeadraceError, Transient, Unusable
from headrace.kafka.producer import LogProducer
from headrace.metrics import catalogue
from headrace.recovery import Place
from services.scoring.settings import ScoringSettings

log = structlog.get_logger("headrace.past")

LOOK_SECONDS = 600.0
RULE = "rebuild-differs"


class Past:
    """Runs `python -m headrace.replay`. Safe to use from several threads; they take turns."""

    def __init__(self, settings: ScoringSettings) -> None:
        self._common = {
            "bootstrap": settings.bootstrap,
            "snapshots": str(settings.snapshot_folder),
            "key_file": str(settings.snapshot_key_file),
            "archive": settings.archive,
        }
        self._turn = threading.Lock()

    def explain(self, identity: str, streams: list[str]) -> dict[str, Any] | None:
        """Everything about the prediction of an observation; None if there is none by that id.

        Raises `Transient` if another look is under way or this one takes too long, `Unusable` if it cannot be told.
        """
        found: dict[str, Any] | None = self._look({"task": "explain", "streams": streams, "id": identity})
        return found

    def recheck(self, stream: str, partition: int, pick: float) -> dict[str, Any]:
        """The verdict on one stretch of a log; raises as `explain`."""
        verdict: dict[str, Any] = self._look(
            {"task": "recheck", "streams": [stream], "partition": partition, "pick": pick}
        )
        return verdict

    def _look(self, request: dict[str, Any]) -> Any:
        if not self._turn.acquire(blocking=False):
            raise Transient("another look at the past is under way; try again soon")
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "headrace.replay"],
                input=msgspec.json.encode({**self._common, **request}),
                capture_output=True,
                timeout=LOOK_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Transient(f"the look at the past was not done in {LOOK_SECONDS:.0f} s") from None
        finally:
            self._turn.release()
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if done.returncode:
            raise Transient(f"the look at the past failed: {said[-1] if said else 'no reason given'}")
        for line in said:  # which snapshots it refused
            log.warning("said by a look at the past", reason=line)
        answer = msgspec.json.decode(done.stdout)
        if "error" in answer:
            raise (Unusable if answer["kind"] == "Unusable" else Transient)(answer["error"])
        return answer["result"]


class Rechecker:
    """The sampled check, every `seconds`, on a thread of its own. held: the places whose shards are held here now."""

    def __init__(
        self,
        past: Past,
        bootstrap: str,
        seconds: float,
        held: Callable[[], list[Place]],
        metrics: CollectorRegistry,
    ) -> None:
        self._past = past
        self._bootstrap = bootstrap
        self._seconds = seconds
        self._held = held
        self._stopping = threading.Event()
        self._chance = random.Random()
        self._results = catalogue.SCORING_RECHECKS.on(metrics)

    def start(self) -> None:
        """Begin, unless the interval is 0."""
        if self._seconds > 0:
            threading.Thread(target=self._go_round, name="recheck", daemon=True).start()

    def stop(self) -> None:
        """Begin no further check; one in hand ends with this process."""
        self._stopping.set()

    def _go_round(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                places = self._held()
                if places:
                    self.check(self._chance.choice(places), self._chance.random())
            except Exception:
                log.exception("the sampled check failed")  # and goes on: it must not end unseen

    def check(self, place: Place, pick: float) -> None:
        """Check one stretch of one shard's log."""
        stream = stream_of(place[0])
        try:
            verdict = self._past.recheck(stream, place[1], pick)
        except HeadraceError as error:
            self._results.labels(stream, "not_done").inc()
            log.info("not checked", topic=place[0], partition=place[1], reason=str(error))
            return
        where = {"stream": stream, "partition": place[1], "start": verdict["start"], "end": verdict["end"]}
        self._results.labels(stream, "equal" if verdict["well"] else "different").inc()
        if verdict["well"]:
            log.info("checked", **where)
        else:
            log.error("what was stored is not what the log gives", verdict=verdict, **where)
            self._tell(stream, place[1], verdict)

    def _tell(self, stream: str, partition: int, verdict: dict[str, Any]) -> None:
        compared = [verdict[name] for name in ("predictions", "outcomes")]
        wrong = sum(one[name] for one in compared for name in ("different", "missing", "superfluous"))
        wrong += sum(one["stored"] != one["rebuilt"] for one in verdict["fingerprints"])
        told = Alert(
            id=f"{RULE}/{stream}/{partition}/{verdict['start']}-{verdict['end']}",
            stream=stream,
            rule=RULE,
            severity="critical",
            state="firing",
            metric="rebuild_differences",
            value=float(wrong),
            bound=0.0,
            at=0,
            reason=f"folding offsets {verdict['start']} to {verdict['end']} of partition {partition} again gives other"
            f" answers or states than were stored: headrace rebuild MODEL --stream {stream} --verify",
        )
        producer = LogProducer(self._bootstrap, client_id="headrace-recheck")
        try:
            key = f"{stream}/{RULE}".encode()
            producer.send(ALERTS.name, [{"key": key, "value": encode(told)}]).result(30)
        finally:
            producer.close(5.0)
