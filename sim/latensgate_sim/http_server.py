"""A small HTTP/1.1 server over TLS, enough for AWS clients.

Keep-alive, bodies with a length, chunked answers, and connections that a test may cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from latensgate_sim.connections import Connections
from latensgate_sim.errors import CutConnectionError

if TYPE_CHECKING:
    import ssl

HEAD_MAX_BYTES: Final = 64 * 1024
BODY_MAX_BYTES: Final = 32 * 1024 * 1024
"""Bedrock's own limit is near 25 MB."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was sent.

    Attributes:
        target: Path and query, still percent-encoded.
        headers: Lower-case names; repeated ones are joined with a comma.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query without its question mark."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; a generator as body is sent chunked, piece by piece."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncGenerator[bytes, None] = b""


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class HTTPServer:
    """One TLS listener on 127.0.0.1.

    Attributes:
        port: Set by ``start``.
        connections: What is open.
    """

    def __init__(self, handler: Handler, tls: ssl.SSLContext) -> None:
        self.port = 0
        self.connections = Connections(self._talk)
        self._handler = handler
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on an ephemeral port."""
        self._server = await asyncio.start_server(
            self.connections.accept, "127.0.0.1", 0, limit=HEAD_MAX_BYTES
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        await self.connections.end()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # here and not in start_server, so that a connection that never says hello is counted too
        await writer.start_tls(self._tls)
        while await self._exchange(reader, writer):
            pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read_request(reader)
        if request is None:
            return False
        response = await self._handler(request)
        await _write_response(writer, response)
        return request.headers.get("connection", "").lower() != "close"


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, target = _request_line(lines[0])
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        key, separator, value = line.partition(":")
        if not separator:
            raise CutConnectionError("a header line without a colon")
        key = key.strip().lower()
        headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
    body = await reader.readexactly(_content_length(headers))
    return Request(method, target, headers, body)


def _request_line(line: str) -> tuple[str, str]:
    parts = line.split(" ")
    expected = 3
    if len(parts) != expected or parts[2] != "HTTP/1.1":
        raise CutConnectionError("not an HTTP/1.1 request line")
    return parts[0], parts[1]


def _content_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise CutConnectionError("AWS clients send a length")
    text = headers.get("content-length", "0")
    if not text.isdigit() or int(text) > BODY_MAX_BYTES:
        raise CutConnectionError("content-length")
    return int(text)


async def _write_response(writer: asyncio.StreamWriter, response: Response) -> None:
    status = http.HTTPStatus(response.status)
    headers = {**response.headers}
    if isinstance(response.body, bytes):
        headers["Content-Length"] = str(len(response.body))
    else:
        headers["Transfer-Encoding"] = "chunked"
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    if isinstance(response.body, bytes):
        writer.write(response.body)
        await writer.drain()
    else:
        await _write_chunks(writer, response.body)


async def _write_chunks(writer: asyncio.StreamWriter, body: AsyncGenerator[bytes, None]) -> None:
    async with contextlib.aclosing(body):
        async for piece in body:
            writer.write(f"{len(piece):x}\r\n".encode("ascii") + piece + b"\r\n")
            await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
