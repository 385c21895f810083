"""The parent's byte tunnel, as the enclave uses it: ask for a host, get its bytes.

One line each way, then bytes: `CONNECT host:port`, `OK`. What comes through is TLS that ends in
`egress`; the tunnel is trusted with nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from latensgate_enclave.egress import EgressError
from latensgate_enclave.nitro.vsock import SocketError, connect
from latensgate_shared.limits import EGRESS_CONNECT_TIMEOUT_MS

if TYPE_CHECKING:
    from latensgate_enclave.nitro.vsock import Address

_GRANTED: Final = b"OK\n"
_BUFFER_BYTES: Final = 256 * 1024


class TunnelDial:
    """Dials hosts through the parent.

    Args:
        address: Where the parent's tunnel listens.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    async def __call__(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a host.

        Raises:
            EgressError: The tunnel is not there or refuses.
        """
        try:
            opened = await connect(self._address, timeout_ms=EGRESS_CONNECT_TIMEOUT_MS)
        except SocketError as error:
            raise EgressError(error.detail, nothing_sent=True) from None
        reader, writer = await asyncio.open_connection(sock=opened, limit=_BUFFER_BYTES)
        granted = False
        try:
            writer.write(f"CONNECT {host}:{port}\n".encode())
            granted = await reader.readexactly(len(_GRANTED)) == _GRANTED
        except (OSError, asyncio.IncompleteReadError):
            pass  # the same as a refusal
        finally:
            if not granted:
                writer.transport.abort()
        if not granted:
            raise EgressError(f"{host}: the tunnel refuses", nothing_sent=True)
        return reader, writer
