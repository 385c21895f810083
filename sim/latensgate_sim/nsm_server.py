"""The device as a process sees it: one UNIX socket, ``u32 length ‖ CBOR`` both ways.

One request, one answer, in order. Calls are serial over all connections, because the real device
serves one call at a time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from latensgate_sim.connections import Connections
from latensgate_sim.nsm import REQUEST_MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_sim.nsm import NSM

_LENGTH_BYTES: Final = 4
_ACCEPTED_MAX_BYTES: Final = 16 * REQUEST_MAX_BYTES
"""Longer ones than the device takes are read and answered InputTooLarge; beyond this: cut."""


class NSMServer:
    """One device on one socket.

    Attributes:
        nsm: The device.
        path: The UNIX socket, mode 0600.
    """

    def __init__(self, nsm: NSM, path: Path) -> None:
        self.nsm = nsm
        self.path = path
        self._busy = asyncio.Lock()
        self._connections = Connections(self._talk)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._connections.accept, self.path)
        self.path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        await self._connections.end()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._exchange(reader, writer):
            pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return False
        if length > _ACCEPTED_MAX_BYTES:
            return False
        request = await reader.readexactly(length)
        async with self._busy:
            if self.nsm.faults.delay_s:
                await asyncio.sleep(self.nsm.faults.delay_s)
            answer = self.nsm.handle(request)
        writer.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
        await writer.drain()
        return True
