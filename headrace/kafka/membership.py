"""Whether a consumer has its place in the group, or is on its way back to it.

librdkafka 2.16 aborts the process when a subscription changes while it rejoins after a lost session, so a change waits
for the assignment that ends the rebalance (after our own change, not longer than `SUBSCRIBE_SECONDS`). And it has been
seen never to come back at all: after an outage longer than the session, about one time in ten on a busy machine, it
polled for ever and was given nothing. Only another client helps then.
"""

import time
from typing import Any

from confluent_kafka import KafkaException

SUBSCRIBE_SECONDS = 20.0
"""How long a change of subscription waits for the assignment that the one before it must bring."""
REJOIN_SECONDS = 15.0
"""After so long without a place the client is given up, if the broker answers it."""
ANSWER_SECONDS = 1.0


class Membership:
    """Of one consumer, for its thread."""

    def __init__(self) -> None:
        self._lost = False
        self._subscribed_until = 0.0
        self._patience_ends = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the subscription may change."""
        return not self._lost and time.monotonic() >= self._subscribed_until

    def subscribed(self) -> None:
        """The subscription has just changed."""
        self._subscribed_until = time.monotonic() + SUBSCRIBE_SECONDS

    def assigned(self) -> None:
        """The group has given this consumer its partitions."""
        self._lost, self._subscribed_until = False, 0.0

    def lost(self) -> None:
        """The session is over."""
        self._lost = True
        self._patience_ends = time.monotonic() + REJOIN_SECONDS

    def is_stuck(self, consumer: Any) -> bool:
        """Whether the way back has taken too long though the broker answers."""
        if not self._lost or time.monotonic() < self._patience_ends:
            return False
        self._patience_ends = time.monotonic() + REJOIN_SECONDS
        try:
            consumer.list_topics(timeout=ANSWER_SECONDS)
        except KafkaException:
            return False
        return True
