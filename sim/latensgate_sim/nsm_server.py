"""The device as a process sees it: one UNIX socket, ``u32 length ‖ CBOR`` both ways.

One request, one answer, in order. Calls are serial over all connections, because the real device
serves one call at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_sim.nsm import REQUEST_MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_sim.nsm import NSM

_LENGTH_BYTES: Final = 4
_ACCEPTED_MAX_BYTES: Final = 16 * REQUEST_MAX_BYTES
"""Longer ones than the device takes are read and answered InputTooLarge; beyond this: cut."""


@dataclass(slots=True)
class NSMServer:
    """One device on one socket."""

    nsm: NSM
    path: Path
    _server: asyncio.Server | None = None
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        self.path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

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
