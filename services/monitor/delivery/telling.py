"""From a channel of the file to what tells it: the sender with its secrets, and an alert in words and as JSON."""

from collections.abc import Callable, Iterable

from headrace.contracts.codec import encode
from headrace.contracts.events import Alert
from headrace.contracts.times import to_text
from headrace.errors import Unusable
from services.monitor.delivery.apprised import Apprised
from services.monitor.delivery.channels import Channel, SecretOf, is_reference
from services.monitor.delivery.deliverer import Outlet
from services.monitor.delivery.guard import Guard
from services.monitor.delivery.webhook import Sender
from services.monitor.domain.alerts import plain


def outlets(channels: Iterable[Channel], secret_of: SecretOf, guard: Guard) -> list[Outlet]:
    """The channels, ready to be told. Raises `Unusable` if a secret or URL cannot be used, without repeating it."""
    found: list[Outlet] = []
    for channel in channels:
        try:
            make = _webhook if channel.webhook else _apprise
            found.append(Outlet(channel, make(channel, secret_of, guard)))
        except Unusable as error:
            raise Unusable(error.reason, where=f"channel {channel.name}") from None
    return found


def payload(alert: Alert) -> bytes:
    """The body of a webhook: `type`, `timestamp` (event time), and under `data` the whole step."""
    return encode({"type": f"alert.{alert.state}", "timestamp": _text(alert.at), "data": plain(alert)})


def message(alert: Alert) -> tuple[str, str]:
    """An alert for people: a title, and a text."""
    whose = f" {alert.model}" if alert.model else ""
    title = f"{alert.state} {alert.severity}: {alert.rule} on {alert.stream}{whose}"
    lines = [alert.reason, f"event time {_text(alert.at)}, alert {alert.fired}"]
    if alert.by:
        lines.insert(0, f"by {alert.by}" + (f": {alert.why}" if alert.why else ""))
    return title, "\n".join(lines)


def _webhook(channel: Channel, secret_of: SecretOf, guard: Guard) -> Callable[[Alert], None]:
    url = secret_of(channel.webhook) if is_reference(channel.webhook) else channel.webhook
    sender = Sender(url, [secret_of(reference) for reference in channel.secrets], guard)
    return lambda alert: sender.send(alert.id, payload(alert))


def _apprise(channel: Channel, secret_of: SecretOf, guard: Guard) -> Callable[[Alert], None]:
    apprised = Apprised(secret_of(channel.apprise), guard)
    return lambda alert: apprised.send(*message(alert), alert.severity)


def _text(ms: int) -> str | None:
    try:
        return to_text(ms)
    except OverflowError:
        return None
