"""Sends a message through apprise: Slack, email, PagerDuty, Teams and a hundred others, each by one URL.

Apprise makes its own connections. Services with an address of their own (Slack) are as trustworthy as apprise; where
the URL names the host (json://, mailto://, ntfy://), that host is checked first, but it is resolved once more
afterwards, so this is weaker than what webhooks have. Redirects are not followed. Apprise is the extra `notify`, loaded
when it is needed.
"""

import logging
from typing import Any

from headrace.errors import Unusable
from services.monitor.delivery.guard import Guard
from services.monitor.delivery.webhook import NotTaken

ANY_PORT = 443

KINDS = {"info": "info", "warning": "warning", "critical": "failure"}


class Apprised:
    """One apprise URL. `Unusable` if apprise is not installed, or knows no such URL (its text does not repeat it)."""

    def __init__(self, url: str, guard: Guard) -> None:
        try:
            import apprise
        except ModuleNotFoundError:
            raise Unusable("apprise is not installed: pip install 'headrace[notify]'") from None
        # It writes the URLs it sends to, and they hold secrets.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        asset = apprise.AppriseAsset(http_redirects=False, app_id="Headrace", app_desc="Headrace")
        found = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if found is None:
            raise Unusable("no URL that apprise knows")
        self._service: Any = found
        self._guard = guard
        self.service = str(found.service_name)

    def send(self, title: str, body: str, severity: str) -> None:
        """Send a message. Raises `NotTaken`, `Refused` or `OSError`."""
        service = self._service
        if "host" in service.template_tokens:
            host = getattr(service, "smtp_host", None) or service.host
            if host:
                self._guard.addresses(host, service.port or ANY_PORT)
        if not service.notify(body=body, title=title, notify_type=KINDS.get(severity, "warning")):
            raise NotTaken(f"{self.service} did not take it")
