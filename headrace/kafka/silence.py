"""When a client that hears nothing is given up.

After an outage librdkafka 2.16 has been seen to do nothing any more, and to say nothing about it. Silence alone proves
nothing, as there may be nothing to hear; so after a while it is looked whether the client misses something, and what it
misses several times in a row it will never get.
"""

import time
from collections.abc import Callable

LOOK_SECONDS = 8.0
"""Of silence, until it is looked whether something is missed."""
MISSED_LOOKS = 2
"""In a row, until the client is given up: it may be on its way just now."""
ANSWER_SECONDS = 1.0
"""How long a look may wait for the broker."""


class Silence:
    """Of one client, for its thread. misses: whether it misses something; may take `ANSWER_SECONDS`."""

    def __init__(self, misses: Callable[[], bool]) -> None:
        self._misses = misses
        self.broken()

    def broken(self) -> None:
        """The client has heard something."""
        self._next_look, self._missed = time.monotonic() + LOOK_SECONDS, 0

    def is_for_ever(self) -> bool:
        """Whether the client is to be given up; looks, if it is time to."""
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._missed = self._missed + 1 if self._misses() else 0
        return self._missed >= MISSED_LOOKS
