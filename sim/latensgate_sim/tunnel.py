r"""A byte tunnel over a UNIX socket, for an enclave process without a parent beside it.

The client sends ``CONNECT host:port\n``; the answer is ``OK\n`` and then the bytes of the
connection, or ``ERR reason\n`` and the end. Only names of the allow-list go through, and each
leads to a simulated server on this machine. Half-close passes in both directions, and a slow reader
holds back its writer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from latensgate_sim.connections import Connections

if TYPE_CHECKING:
    from pathlib import Path

LINE_MAX_BYTES: Final = 300
"""A host name has at most 253 characters."""
LINE_TIMEOUT_S: Final = 5.0
CHUNK_BYTES: Final = 64 * 1024
BUFFER_BYTES: Final = 64 * 1024

Tap: TypeAlias = Callable[[str, bytes], None]
"""Called with ``up`` or ``down`` and the bytes that pass."""


class Tunnel:
    """One listener.

    Attributes:
        path: The UNIX socket, mode 0600.
        routes: ``host:port`` to a port on 127.0.0.1.
        tap: Sees all bytes that pass; for tests that search for leaks.
        refuse: Answer ``ERR`` to everyone, as a parent without network.
        dialled: Every destination asked for, allowed or not.
    """

    def __init__(self, path: Path, routes: Mapping[str, int]) -> None:
        self.path = path
        self.routes = routes
        self.tap: Tap | None = None
        self.refuse = False
        self.dialled: list[str] = []
        self._connections = Connections(self._connect)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(
            self._connections.accept, self.path, limit=LINE_MAX_BYTES
        )
        self.path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        await self._connections.end()

    async def cut(self) -> None:
        """Cut all open connections, as a parent that dies."""
        await self._connections.cut()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(LINE_TIMEOUT_S):
            line = await reader.readuntil(b"\n")
        command, _, destination = line.decode("ascii", "replace").rstrip("\n").partition(" ")
        self.dialled.append(destination)
        port = self.routes.get(destination)
        if command != "CONNECT" or port is None or self.refuse:
            writer.write(b"ERR not allowed\n")
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"OK\n")
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far_writer, "up"))
                both.create_task(self._pump(far_reader, writer, "down"))
        except* (OSError, asyncio.CancelledError):
            writer.transport.abort()
            far_writer.transport.abort()
        finally:
            await _close(far_writer)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str
    ) -> None:
        sink.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        while data := await source.read(CHUNK_BYTES):
            if self.tap is not None:
                self.tap(direction, data)
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
