"""Sends a signed request: Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`).

The plain `http.client` and not a client with more comfort: the connection has to go to an address that was checked, no
redirect may be followed, no proxy be taken from the environment, and all of it must end in time, also against a server
that sends a byte now and then. A signature is made with each secret, so that a secret can be replaced in two steps.
"""

import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from standardwebhooks.webhooks import Webhook

from headrace import __version__
from headrace.errors import Unusable
from services.monitor.delivery.guard import Guard

ANSWER_SECONDS = 10.0
"""All that a delivery may take once the name is resolved."""
ANSWER_BYTES = 64 * 1024
PORTS = {"https": 443, "http": 80}
GONE = 410
SECRET_BYTES = 24


class Target(NamedTuple):
    """Where a webhook goes. path: with the query."""

    scheme: str
    host: str
    port: int
    path: str


class NotTaken(Exception):
    """The receiver did not take it. for_good: it says that it never will. The text holds no secret."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


def target(url: str) -> Target:
    """The parts of a URL. Raises `Unusable` if it is none that can be sent to (its text does not repeat it)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unusable("no URL") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise Unusable("a URL with https:// is expected")
    if parts.username is not None or parts.password is not None:
        raise Unusable("a URL holds no user and no password: the signature says who sends it")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise Unusable("the URL's path has to be escaped")
    return Target(parts.scheme, parts.hostname, port or PORTS[parts.scheme], path)


def signer(secret: str) -> Webhook:
    """A secret (`whsec_` and base64) to sign with. Raises `Unusable`."""
    kind, _, encoded = secret.partition("_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if kind != "whsec" or len(key) < SECRET_BYTES:
        raise Unusable(f"a webhook's secret is whsec_ and at least {SECRET_BYTES} bytes in base64")
    return Webhook(key)


class Sender:
    """Sends to one target, whichever of its addresses answers first."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[str],
        guard: Guard,
        *,
        context: ssl.SSLContext | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.target = target(url)
        self._signers = [signer(secret) for secret in secrets]
        self._guard = guard
        self._context = context or ssl.create_default_context()
        self._seconds = seconds

    def send(self, id: str, body: bytes, now: datetime | None = None) -> None:
        """Send `body` under `id`. Raises `NotTaken`, `Refused`, `OSError` or `http.client.HTTPException`."""
        at = now or datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": f"headrace/{__version__}",
            "webhook-id": id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(one.sign(id, at, body.decode()) for one in self._signers),
        }
        where = self.target
        addresses = self._guard.addresses(where.host, where.port, plain=where.scheme == "http")
        stream = self._connect(addresses)
        ended = threading.Timer(self._seconds, _cut, (stream,))
        ended.daemon = True
        ended.start()
        try:
            if isinstance(stream, ssl.SSLSocket):
                stream.do_handshake()
            connection = http.client.HTTPConnection(where.host, where.port, timeout=self._seconds)
            connection.sock = stream
            connection.auto_open = 0  # never a connection of its own, which nobody would have checked
            connection.request("POST", where.path, body, headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES)
            status = answer.status
        finally:
            ended.cancel()
            stream.close()
        if 300 <= status < 400:
            raise NotTaken(f"HTTP {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise NotTaken(f"HTTP {status}", for_good=status == GONE)

    def _connect(self, addresses: Sequence[str]) -> socket.socket:
        where = self.target
        last: OSError = OSError("no address")
        for address in addresses:
            try:
                stream = socket.create_connection((address, where.port), self._seconds)
            except OSError as error:
                last = error
                continue
            if where.scheme == "http":
                return stream
            return self._context.wrap_socket(
                stream, server_hostname=where.host, do_handshake_on_connect=False
            )
        raise last


def _cut(stream: socket.socket) -> None:
    try:
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:
        stream.close()
