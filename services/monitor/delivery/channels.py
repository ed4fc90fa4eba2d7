"""The channels file: whom to tell of what, and how. Secrets are named there, never written there.

channels:
  - name: ops                       # signed webhook (Standard Webhooks)
    webhook: https://hooks.example.com/headrace
    secrets: [env:HOOK_SECRET]      # two while one is being replaced
    severity: warning               # at least
  - name: on-call                   # anything that apprise knows
    apprise: file:/run/secrets/pagerduty-url
    kinds: [concept, bias]
    group: escalation               # only what nobody has acknowledged
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from headrace.contracts.events import Alert
from headrace.errors import Unusable
from services.monitor.domain.listing import read_list
from services.monitor.domain.rules import RULE_NAME, SEVERITIES, Severity

CHANNELS_KEPT = 32
"""Each has a thread."""

SecretOf = Callable[[str], str]
"""The secret that a reference (`env:NAME`, `file:/path`) names. Raises `Unusable`."""


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to tell. Exactly one of webhook (a URL, or a reference to one) and apprise (a reference to a URL).

    secrets: references; of a webhook. severity: at least. kinds, streams, models: [] for each. group: `first` is told
    when an alert fires, `escalation` only when nobody has acknowledged it in time; each also of what comes after that.
    """

    name: str
    webhook: str = ""
    apprise: str = ""
    secrets: list[str] = []
    severity: Severity = "info"
    kinds: list[str] = []
    streams: list[str] = []
    models: list[str] = []
    group: Literal["first", "escalation"] = "first"

    def begins(self, alert: Alert) -> bool:
        """Whether the channel begins to hear of an alert with this step; it then hears of all that follow."""
        return (
            alert.state in (("firing", "escalated") if self.group == "first" else ("escalated",))
            and SEVERITIES.index(alert.severity) >= SEVERITIES.index(self.severity)
            and (not self.kinds or alert.kind in self.kinds)
            and (not self.streams or alert.stream in self.streams)
            and (not self.models or alert.model in self.models)
        )


def load(path: Path) -> list[Channel]:
    """Channels of the file; none if there is no file. Raises `Unusable` if it cannot be read as channels."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"the channels file cannot be read: {error}", where=path.name) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        # The error's own text quotes the line, which may hold what should not be there.
        raise Unusable("not YAML", where=path.name) from None
    return read_channels(document)


def read_channels(document: object) -> list[Channel]:
    """Channels from the plain form. Raises `Unusable` saying which is wrong."""
    return read_list(document, "channels", CHANNELS_KEPT, _read)


def _read(entry: object, where: str) -> Channel:
    try:
        channel = msgspec.convert(entry, Channel)
    except msgspec.ValidationError as error:
        raise Unusable(str(error), where=where) from None
    if not RULE_NAME.fullmatch(channel.name):
        raise Unusable("a-z, 0-9, _, . and -, at most 100 long", where=f"{where}.name")
    if bool(channel.webhook) == bool(channel.apprise):
        raise Unusable("say either webhook or apprise", where=where)
    if bool(channel.secrets) != bool(channel.webhook) or len(channel.secrets) > 2:
        raise Unusable(
            "a webhook has one secret, or two while one is being replaced", where=f"{where}.secrets"
        )
    for reference in (*channel.secrets, channel.apprise):
        if reference and not is_reference(reference):
            raise Unusable(
                "secrets are not written here: env:NAME or file:/path says where it is", where=where
            )
    return channel


def is_reference(text: str) -> bool:
    """Whether this names a secret rather than being one."""
    return text.startswith(("env:", "file:/"))
