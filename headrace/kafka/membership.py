"""Whether a consumer has its place in the group, or is on its way back to it.

librdkafka 2.16 aborts the process when a subscription changes while it rejoins after a lost session, so a change waits
for the assignment that ends the rebalance (after our own change, not longer than `SUBSCRIBE_SECONDS`). And it has been
seen never to come back at all: after an outage longer than the session, about one time in ten on a busy machine, it
polled for ever, was told of nothing and was given nothing. The client cannot say so, but the group's coordinator knows
its members. So a consumer that hears nothing is looked for there; only another client helps if it is missing.
"""

import time
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.kafka.admin import client_settings
from headrace.kafka.silence import ANSWER_SECONDS, Silence

SUBSCRIBE_SECONDS = 20.0
"""How long a change of subscription waits for the assignment that the one before it must bring."""


class Membership:
    """Of one consumer, for its thread. client: its `client.id`, of which there is one in the group."""

    def __init__(self, bootstrap: str, group: str, client: str) -> None:
        self._bootstrap, self._group, self._client = bootstrap, group, client
        self._lost = False
        self._subscribed_until = 0.0
        self._silence = Silence(lambda: self._client not in self._members())
        self._admin: Any = None

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
        self.heard()

    def lost(self) -> None:
        """The session is over."""
        self._lost = True

    def heard(self) -> None:
        """The consumer has been given something."""
        self._silence.broken()

    def is_gone(self) -> bool:
        """Whether the group does not know this consumer, which has heard nothing for long. Asks the broker then."""
        return self._silence.is_for_ever()

    def _members(self) -> set[str]:
        """Clients in the group; while nobody answers, this one is believed to be there."""
        if self._admin is None:
            self._admin = AdminClient(client_settings(self._bootstrap, f"{self._client}-membership"))
        try:  # the newer call, describe_consumer_groups, aborts the process when a broker goes away under it
            groups = self._admin.list_groups(self._group, timeout=ANSWER_SECONDS)
        except KafkaException:
            return {self._client}
        return {member.client_id for group in groups for member in group.members}
