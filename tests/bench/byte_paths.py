"""What the gateway is compared with: two processes that move the same bytes and read none of them.

``forward`` stands where the parent is (uvloop, TCP to UNIX socket), ``echo`` where the enclave is
(asyncio's own loop): it counts to the length of a request and writes a ready-made answer.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop


class Echo(asyncio.Protocol):
    """Answers after so many bytes."""

    def __init__(self, request_bytes: int, answer: bytes) -> None:
        self._request_bytes = request_bytes
        self._answer = answer
        self._left = request_bytes
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left == 0:
            self._left = self._request_bytes
            self._transport.write(self._answer)


class Pipe(asyncio.Protocol):
    """One end; what comes goes to the other."""

    def __init__(self, target: str | None, other: Pipe | None = None) -> None:
        self._target = target
        self._early = b""
        self._other = other
        self.transport: Any = None
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self._target is not None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial(self._target))

    async def _dial(self, target: str) -> None:
        loop = asyncio.get_running_loop()
        _, self._other = await loop.create_unix_connection(lambda: Pipe(None, self), target)
        if self._early:
            self._other.transport.write(self._early)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._other is not None:
            self._other.transport.close()


async def _echo(path: str, request_bytes: str, answer: str) -> None:
    data, size = Path(answer).read_bytes(), int(request_bytes)  # noqa: ASYNC240  # before it serves
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Echo(size, data), path)
    await _serve(server)


async def _forward(path: str) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Pipe(path), "127.0.0.1", 0)
    await _serve(server, str(server.sockets[0].getsockname()[1]))


async def _serve(server: asyncio.Server, told: str = "ready") -> None:
    print(told, flush=True)
    await server.serve_forever()


def main() -> None:
    """``forward SOCKET`` or ``echo SOCKET BYTES FILE``; prints the port or ``ready``."""
    kind, *rest = sys.argv[1:]
    if kind == "echo":
        asyncio.run(_echo(*rest))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_forward(*rest))


if __name__ == "__main__":
    main()
