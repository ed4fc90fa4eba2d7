"""What the data plane watches, for the API to show: noted on the host's thread, between batches, every few seconds."""

import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

from services.monitor.domain.finding import Watched
from services.monitor.processor import Summariser

EVERY_SECONDS = 2.0


class Noted(NamedTuple):
    """Where something is watched, and what."""

    topic: str
    partition: int
    watched: list[Watched]


class Watchboard:
    """The watches of this process's partitions. Bounds: those of the summarisers, which it does not keep alive."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watching: dict[str, dict[int, weakref.ref[Summariser]]] = {}
        self._noted_at: dict[str, float] = {}
        self._noted: dict[str, list[Noted]] = {}

    def admit(self, summariser: Summariser) -> Summariser:
        """One that was made; it takes the place of the one before it."""
        self._watching.setdefault(summariser.topic, {})[summariser.partition] = weakref.ref(summariser)
        return summariser

    def note(self, topic: str) -> None:
        """A batch of a topic is done (called on the host's thread)."""
        now = self._clock()
        if now - self._noted_at.get(topic, -EVERY_SECONDS) < EVERY_SECONDS:
            return
        self._noted_at[topic] = now
        alive = [
            (place, one) for place, ref in self._watching.get(topic, {}).items() if (one := ref()) is not None
        ]
        self._noted[topic] = [Noted(topic, place, one.watched()) for place, one in sorted(alive)]

    def noted(self, topic: str) -> list[Noted]:
        """As it was at most a few seconds before the last batch (from any thread)."""
        return self._noted.get(topic, [])
