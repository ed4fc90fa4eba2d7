"""Following what scoring has made of what was sent: how far it is, how good it is, when it is through."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headrace.client import Client, ServiceProblem
from headrace.client.problems import Busy, Unreachable
from headrace.contracts.topics import LOG, topic
from headrace.errors import HeadraceError

POLL_SECONDS = 0.5
EAGER_POLL_SECONDS = 0.1
STALLED_SECONDS = 3.0
SILENT_SECONDS = 60.0
STUCK_SECONDS = 300.0
MARKERS = 2
"""A log that was written in transactions ends in markers, which are offsets but no records."""


@dataclass(slots=True)
class Live:
    """The latest metrics of a stream. at: monotonic seconds; document: as scoring gave it, {} before the first."""

    document: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0
    first_prediction_at: float = 0.0

    @property
    def total(self) -> dict[str, Any]:
        """Counts and models over all partitions."""
        total: dict[str, Any] = self.document.get("total") or {}
        return total

    def count(self, name: str) -> int:
        """One of the counters; 0 before anything is known."""
        return int(self.total.get(name) or 0)

    @property
    def folded(self) -> int:
        """Observations and labels that went through the fold."""
        return self.count("observations") + self.count("duplicates") + self.count("labels")

    def champion(self) -> dict[str, Any]:
        """The champion's entry; {} if there is none."""
        models = self.total.get("models") or []
        return next((model for model in models if model.get("role") == "champion"), {})

    def metric(self, name: str) -> float | None:
        """A metric of the champion over everything so far."""
        value = self.champion().get("metrics", {}).get("overall", {}).get(name)
        return float(value) if isinstance(value, int | float) else None


class Follower:
    """Polls the metrics of a stream on a thread of its own; `live` is the latest. Errors mean: no news.

    client: one that gives up soon, as a poll that is missed is made up by the next.
    """

    def __init__(self, client: Client, stream: str) -> None:
        self._client = client
        self._stream = stream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="metrics", daemon=True)
        self.live = Live()

    def start(self) -> "Follower":
        """Begin to poll."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _follow(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(POLL_SECONDS if self.live.first_prediction_at else EAGER_POLL_SECONDS)

    def refresh(self) -> None:
        """Ask once."""
        try:
            document = self._client.metrics(self._stream)
        except (ServiceProblem, Busy, Unreachable):
            return
        now = time.monotonic()
        first = self.live.first_prediction_at
        live = Live(document, now, first)
        if not first and live.count("predictions"):
            live.first_prediction_at = now
        self.live = live


def behind(bootstrap: str, stream: str, live: Live) -> int | None:
    """Log records that scoring has not folded yet; None if it has not said anything."""
    from headrace.kafka.admin import end_offsets

    partitions = live.document.get("partitions")
    if not isinstance(partitions, dict):
        return None
    ends = end_offsets(bootstrap, topic(LOG, stream))
    return sum(
        max(0, end - 1 - int(partitions.get(str(number), {}).get("offset", -1)))
        for number, end in ends.items()
    )


class Stuck(HeadraceError):
    """Scoring does not answer, or does not get on. Duty: `headrace doctor`, `headrace up`; what was sent is safe."""


def wait_until_folded(
    follower: Follower,
    bootstrap: str,
    stream: str,
    told: Callable[[int], None],
    timeout_seconds: float | None = None,
) -> int:
    """Wait until scoring has folded the whole log; `told` hears the lag. Returns the lag left (0 unless timed out).

    Raises `Stuck` if scoring is silent for `SILENT_SECONDS` or does not get on for `STUCK_SECONDS`.
    """
    began = moved = time.monotonic()
    last = -1
    while True:
        follower.refresh()
        now = time.monotonic()
        if now - max(began, follower.live.at) > SILENT_SECONDS:
            raise Stuck(_stuck(f"scoring has not answered for {SILENT_SECONDS:.0f} s"))
        lag = behind(bootstrap, stream, follower.live)
        if lag == 0:
            return 0
        if lag is not None:
            told(lag)
            if lag != last:
                last, moved = lag, now
            elif lag <= MARKERS and now - moved > STALLED_SECONDS:
                return 0
        if now - moved > STUCK_SECONDS:
            raise Stuck(_stuck(f"scoring is {lag} events behind and has not moved for {STUCK_SECONDS:.0f} s"))
        if timeout_seconds is not None and now - began > timeout_seconds:
            return -1 if lag is None else lag
        time.sleep(EAGER_POLL_SECONDS)


def _stuck(what: str) -> str:
    return f"{what}; what was sent is safe in the log. headrace doctor says more, headrace up starts what has ended"
