"""The load: observations and labels at a steady rate, half by HTTP, half by the inbox, with poison among them.

Two threads. What was acknowledged is remembered in `Sent`; that is what the checker holds the system to. A body that
fails is sent again, unchanged, until it is acknowledged, as the documentation tells a client to do; now and then one
is sent again although it was acknowledged, as a client does whose answer was lost.
"""

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
from confluent_kafka import Producer

from tests.chaos import poison, stream
from tests.chaos.follower import Quiet

BODY_EVENTS = 20
POISON_SHARE = 0.02
ODD_SHARE = 0.01
AGAIN_SHARE = 0.03
TIMEOUT_SECONDS = 20.0


@dataclass
class Sent:
    """What the system has acknowledged, and what it refused.

    observations, labels: ids. refused: marks of poison that HTTP named as refused. placed: where in the inbox poison
    lies, (partition, offset). events: everything sent, repeats not counted. answers: HTTP status -> how often.
    """

    observations: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    placed: set[tuple[int, int]] = field(default_factory=set)
    events: int = 0
    answers: dict[str, int] = field(default_factory=dict)


class Source:
    """Events in the order in which they are due, drawn from a seed. prefix: of their ids."""

    def __init__(self, seed: int, prefix: str, rate: float) -> None:
        self._rng = random.Random(f"{seed}/{prefix}")
        self._prefix = prefix
        self._rate = rate
        self._count = 0
        self._serial = itertools.count()
        self._due: list[tuple[float, int, stream.Event]] = []
        self._next = time.monotonic()

    def take(self, now: float, most: int, *, fresh: bool) -> list[stream.Event]:
        """Events that are due. fresh: new observations too, not only labels that are owed."""
        while fresh and self._next <= now:
            self._next += self._rng.expovariate(self._rate)
            self._observe()
        taken = []
        while self._due and len(taken) < most and self._due[0][0] <= now:
            taken.append(heapq.heappop(self._due)[2])
        return taken

    def owed(self) -> int:
        """Events that were drawn and not yet taken."""
        return len(self._due)

    def poison(self) -> tuple[str, bytes] | None:
        """Now and then: a mark and a record that must be refused."""
        if self._rng.random() >= POISON_SHARE:
            return None
        self._count += 1
        mark = f"{self._prefix}-poison-{self._count}-"
        return mark, poison.refused(self._rng, mark)

    def chance(self, share: float) -> bool:
        """Whether to do something rare."""
        return self._rng.random() < share

    def _observe(self) -> None:
        self._count += 1
        seen, y = stream.observation(self._rng, f"{self._prefix}-{self._count}", self._next)
        if self._rng.random() < ODD_SHARE:
            seen = seen._replace(body={**poison.odd(self._rng, seen.body)})
        self._push(seen)
        label = stream.label(self._rng, seen, y)
        if label is not None:
            self._push(label)

    def _push(self, event: stream.Event) -> None:
        heapq.heappush(self._due, (event.due, next(self._serial), event))


class Load:
    """Both threads. rate: observations a second, together. Failures of a thread are kept in `failures`."""

    def __init__(self, seed: int, rate: float, *, url: str, key: str, bootstrap: str) -> None:
        self.sent = Sent()
        self.failures: list[str] = []
        self._http_source = Source(seed, "http", rate / 2)
        self._inbox_source = Source(seed, "inbox", rate / 2)
        self._url = url
        self._key = key
        self._bootstrap = bootstrap
        self._fresh = True
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True)
            for work in (self._by_http, self._by_inbox)
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def finish(self, timeout_seconds: float) -> None:
        """Make no new observations, send what is owed, wait for the last acknowledgement."""
        self._fresh = False
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        self._ended.set()
        if any(thread.is_alive() for thread in self._threads):
            self.failures.append("the load did not get through in time")

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            raise

    def _going(self, source: Source) -> bool:
        return not self._ended.is_set() and (self._fresh or source.owed() > 0)

    # -- HTTP -------------------------------------------------------------------------------------------------------

    def _by_http(self) -> None:
        source = self._http_source
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/x-ndjson"}
        with httpx.Client(
            base_url=self._url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False
        ) as http:
            while self._going(source):
                events = source.take(time.monotonic(), BODY_EVENTS, fresh=self._fresh)
                if not events:
                    time.sleep(0.02)
                    continue
                lines: list[tuple[str, stream.Event | str, bytes]] = [
                    (event.id, event, event.line()) for event in events
                ]
                bad = source.poison()
                if bad is not None:
                    lines.append((bad[0], bad[0], bad[1]))
                self.sent.events += len(lines)
                body = b"\n".join(line for _, _, line in lines)
                answer = self._until_acknowledged(http, body)
                self._remember(lines, answer)
                if source.chance(AGAIN_SHARE):
                    self._until_acknowledged(http, body)

    def _until_acknowledged(self, http: httpx.Client, body: bytes) -> dict[str, Any]:
        while not self._ended.is_set():
            try:
                response = http.post(f"/v1/streams/{stream.STREAM}/events", content=body)
                status = str(response.status_code)
            except httpx.TransportError as error:
                status = type(error).__name__
            self.sent.answers[status] = self.sent.answers.get(status, 0) + 1
            if status == "202":
                answer: dict[str, Any] = response.json()
                return answer
            if status == "422":
                return {"ids": [], "rejected": response.json()["rejected"]}
            time.sleep(0.2)
        return {"ids": [], "rejected": []}

    def _remember(self, lines: list[tuple[str, "stream.Event | str", bytes]], answer: dict[str, Any]) -> None:
        refused = {error["line"] - 1 for error in answer["rejected"]}
        ids = iter(answer["ids"])
        for number, (name, event, line) in enumerate(lines):
            if number in refused:
                if isinstance(event, str):
                    self.sent.refused.add(name)
                else:
                    self.failures.append(f"refused although good: {line!r}")
            elif (given := next(ids, None)) is not None:
                if isinstance(event, str) or given != name:
                    self.failures.append(f"accepted as {given}: {line[:200]!r}")
                else:
                    (self.sent.labels if event.is_label else self.sent.observations).add(name)

    # -- the inbox --------------------------------------------------------------------------------------------------

    def _by_inbox(self) -> None:
        source = self._inbox_source
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 200_000,
                "message.max.bytes": 1_500_000,
                "client.id": "load-inbox",
                "log.connection.close": False,
                "logger": Quiet(),
            }
        )
        while self._going(source):
            for event in source.take(time.monotonic(), 200, fresh=self._fresh):
                line = event.line()
                self._produce(producer, event.entity, line, self._delivered(event))
                if source.chance(AGAIN_SHARE):
                    self._produce(producer, event.entity, line, self._delivered(event))
                bad = source.poison()
                if bad is not None:
                    value = None if source.chance(0.05) else bad[1]
                    self._produce(producer, event.entity, value, self._poisoned)
            producer.poll(0.02)
        if producer.flush(100):
            self.failures.append("the inbox did not take everything in time")

    def _produce(
        self, producer: Producer, key: str, value: bytes | None, done: Callable[[Any, Any], None]
    ) -> None:
        self.sent.events += 1
        producer.produce(f"{stream.STREAM}.inbox", value, key.encode(), on_delivery=done)

    def _delivered(self, event: stream.Event) -> Callable[[Any, Any], None]:
        def done(error: Any, _message: Any) -> None:
            if error is None:
                (self.sent.labels if event.is_label else self.sent.observations).add(event.id)
            else:
                self.failures.append(f"the inbox did not take {event.id}: {error}")

        return done

    def _poisoned(self, error: Any, message: Any) -> None:
        if error is None:
            self.sent.placed.add((message.partition(), message.offset()))
        else:
            self.failures.append(f"the inbox did not take poison: {error}")
