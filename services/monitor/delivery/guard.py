"""Keeps deliveries away from internal addresses (server-side request forgery).

Whoever may name a target, or own its DNS, must not be able to make this process talk to the network it lives in. A name
is resolved once, all its addresses are checked, and the connection goes to one that was checked: a name that answers
otherwise the next time (DNS rebinding) gains nothing. What is meant to be internal is allowed by name or by network.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable

from headrace.errors import HeadraceError, Unusable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], list[str]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(HeadraceError):
    """The target may not be talked to. Duty: none now; it is tried again, as its name may resolve better then."""


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Guard:
    """Says which addresses of a target may be talked to.

    internal: names and networks (`10.1.0.0/16`, `hooks.internal`) that are allowed although they are internal.
    """

    def __init__(self, internal: Iterable[str] = (), resolver: Resolve = resolve) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        self._resolve = resolver
        for entry in internal:
            try:
                self._networks.append(ipaddress.ip_network(entry))
            except ValueError:
                if "/" in entry or not entry:
                    raise Unusable(f"{entry!r} is no network and no name of a host") from None
                self._names.add(_name(entry))

    def addresses(self, host: str, port: int, *, plain: bool = False) -> list[str]:
        """Where a connection to `host` may go. plain: it is not encrypted, which only internal targets may be.

        Raises `Refused` if any of its addresses is internal and not allowed, `OSError` if it cannot be resolved.
        """
        found = self._resolve(host, port)
        if not found:
            raise Refused("the name has no address")
        if _name(host) in self._names:
            return found
        for text in found:
            address = ipaddress.ip_address(text.partition("%")[0])
            if any(address in network for network in self._networks):
                continue
            if is_internal(address):
                raise Refused("the target has an internal address")
            if plain:
                raise Refused("only https may leave")
        return found


def is_internal(address: Address) -> bool:
    """Whether this is anything but one host of the internet: loopback, private, link-local, multicast, reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if within is None and address in _NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if within is not None:
            return is_internal(within)
    return not address.is_global or address.is_multicast or address.is_reserved


def _name(host: str) -> str:
    return host.rstrip(".").lower()
