"""Where a tunnel may lead: names of the allow-list, to public addresses or where a route says.

The names come from the enclave, the addresses from the DNS, and neither is believed: a name that is
not listed is refused, and so is an address inside this machine's networks, which no name of AWS has
and which a forged DNS answer would use. Where names do resolve to private addresses, as with VPC
endpoints, the operator says so by a route.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from latensgate_parent.limits import EGRESS_ADDRESSES_MAX_COUNT
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_PORT_MAX: Final = 65_535
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}:)((?:{_LABEL}\.)*{_LABEL}):([1-9][0-9]{{0,4}})")
_ROUTE: Final = re.compile(r"(\[[0-9a-f:.]+\]|[0-9.]+):([1-9][0-9]{0,4})")


class DestinationError(LatensgateError):
    """A tunnel may not lead there, or cannot."""

    code = ErrorCode.ERR_UPSTREAM


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IP address and a port: what is connected to."""

    address: str
    port: int


def parse_destination(text: str) -> tuple[str, int]:
    """Read ``host:port``: a lower-case DNS name and a port from 1.

    Raises:
        MalformedError: Anything else, an IP address included.
    """
    match = _NAME.fullmatch(text)
    if match is None or int(match[2]) > _PORT_MAX or match[1].rsplit(".", 1)[-1].isdigit():
        raise MalformedError("egress: <lower-case DNS name>:<port> expected")
    return match[1], int(match[2])


def parse_route(text: str) -> Endpoint:
    """Read ``ip:port`` or ``[ip]:port``: where the operator leads a name.

    Raises:
        MalformedError: Anything else, a name included.
    """
    match = _ROUTE.fullmatch(text)
    address = None if match is None else _address(match[1].strip("[]"))
    if match is None or address is None or int(match[2]) > _PORT_MAX:
        raise MalformedError("egress route: <IP address>:<port> expected")
    return Endpoint(str(address), int(match[2]))


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


class Resolver(Protocol):
    """Asks the DNS."""

    async def __call__(self, host: str, port: int, /) -> Sequence[str]:
        """Return the IP addresses of a host, best first; raises ``OSError``."""
        ...


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask as this machine is configured to."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, also when it stands for an IPv4 one."""
    address = _address(text)
    if address is None or "%" in text:  # with a zone, as only link-local ones have
        return False
    return all(each.is_global and not each.is_multicast for each in _meant(address))


def _meant(address: _Address) -> list[_Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    inner = address.ipv4_mapped or address.sixtofour
    return [address] if inner is None else [address, inner]


class Destinations:
    """The only places where tunnels lead.

    Args:
        allowed: ``host:port``.
        routes: ``host:port`` of the allow-list → where it leads instead of the DNS.
        resolve: Asks the DNS.

    Raises:
        MalformedError: A route for what is not allowed.
    """

    def __init__(
        self,
        allowed: frozenset[str],
        routes: Mapping[str, Endpoint],
        resolve: Resolver = system_resolver,
    ) -> None:
        self._allowed = frozenset(parse_destination(name) for name in allowed)
        self._routes = {parse_destination(name): end for name, end in routes.items()}
        if not self._routes.keys() <= self._allowed:
            raise MalformedError("egress routes: only destinations of the allow-list expected")
        self._resolve = resolve

    def allows(self, host: str, port: int) -> bool:
        """Whether a tunnel may lead there."""
        return (host, port) in self._allowed

    async def endpoints(self, host: str, port: int) -> Sequence[Endpoint]:
        """Return where an allowed destination is, best first; at least one.

        Raises:
            DestinationError: Not found, or not in the public internet.
        """
        route = self._routes.get((host, port))
        if route is not None:
            return [route]
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise DestinationError(f"{host}: not found in the DNS") from None
        public = [Endpoint(address, port) for address in found if is_public(address)]
        if not public:
            raise DestinationError(f"{host}: no public address; a private one needs a route")
        return public[:EGRESS_ADDRESSES_MAX_COUNT]
