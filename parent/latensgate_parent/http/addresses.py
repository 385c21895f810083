"""Whose request it is by address: the peer's, or what a trusted proxy says."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.http.errors import Header
    from latensgate_parent.settings_forms import Network

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


def parse_address(text: str) -> Address | None:
    """Return an IP address, None if this is none.

    A listener for IPv6 sees IPv4 peers as ``::ffff:192.0.2.1``: they are taken as what they are,
    or all of IPv4 would be one network, and no IPv4 proxy would be found among the trusted ones.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_address(peer: str, headers: Sequence[Header], trusted: Sequence[Network]) -> str:
    """Return the address whose requests are counted.

    ``X-Forwarded-For`` is read from its end, where our own proxies wrote: the first address that
    is not a trusted proxy's is the client's. What stands before it, the client may have invented.

    Args:
        peer: Of the connection.
        headers: As ASGI gives them.
        trusted: Networks of proxies; empty: the header is not looked at.
    """
    if not _is_in(peer, trusted):
        return peer
    fields = [value for name, value in headers if name == b"x-forwarded-for"]
    hops = b",".join(fields).decode("latin-1").split(",")
    for hop in reversed(hops):
        address = hop.strip()
        if parse_address(address) is None:
            break
        if not _is_in(address, trusted):
            return address
    return peer


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    address = parse_address(text) if networks else None
    return address is not None and any(address in network for network in networks)
