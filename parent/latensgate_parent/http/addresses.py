"""Whose request it is by address: the peer's, or what a trusted proxy says."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.http.errors import Header
    from latensgate_parent.settings_forms import Network


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
        if not _is_address(address):
            break
        if not _is_in(address, trusted):
            return address
    return peer


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    if not networks or not _is_address(text):
        return False
    address = ipaddress.ip_address(text)
    return any(address in network for network in networks)
