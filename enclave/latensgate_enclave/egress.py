"""Calls to AWS and other upstreams: TLS that ends in here, over a byte tunnel of the parent.

The parent sees host names and TLS records. Roots are pinned by the measured `trust.toml`; only
hosts of a fixed list are dialled; the SHA-256 of the server's leaf certificate goes into receipts
as evidence of who was called. The leaf's window is judged on enclave time, too: OpenSSL looks at
the system clock alone, and that is not the clock we trust.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cryptography import x509

from latensgate_enclave.http1 import (
    HttpRequest,
    HttpResponse,
    ResponseEnd,
    ResponseHead,
    ResponseReader,
)
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import (
    EGRESS_CONNECT_TIMEOUT_MS,
    EGRESS_IDLE_MAX_COUNT,
    EGRESS_READ_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
    from typing import Self, SupportsIndex

    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.environment import Dial
    from latensgate_enclave.http1 import ResponseEvent

_HTTPS_PORT: Final = 443


class EgressError(LatensgateError):
    """No answer came: tunnel, TLS or HTTP failed.

    Attributes:
        nothing_sent: Whether it is certain that the server has not seen the request.
    """

    code = ErrorCode.ERR_UPSTREAM

    def __init__(self, detail: str, *, nothing_sent: bool, code: ErrorCode | None = None) -> None:
        super().__init__(detail, code=code)
        self.nothing_sent = nothing_sent


@dataclass(frozen=True, slots=True)
class Call:
    """One request and its bounds.

    Attributes:
        request: What is sent.
        max_body_bytes: Largest answer body.
        deadline_ms: For the whole answer, milliseconds.
        connected: Told the hex SHA-256 of the server's certificate before anything is sent.
    """

    request: HttpRequest
    max_body_bytes: int
    deadline_ms: int
    connected: Callable[[str], None] | None = None


class _Reader(asyncio.StreamReader):
    """Knows how much lies unread: what comes unasked must not answer the next request."""

    unread_bytes = 0

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        received = bytes(data)
        self.unread_bytes += len(received)
        super().feed_data(received)

    async def read(self, n: int = -1) -> bytes:
        data = await super().read(n)
        self.unread_bytes -= len(data)
        return data


@dataclass(slots=True)
class _Connection:
    reader: _Reader
    writer: asyncio.StreamWriter
    tunnel: asyncio.StreamWriter  # kept, because one that is collected closes its socket
    leaf_sha256: str
    reusable: bool = False


class Reply:
    """An answer whose body is still coming; iterate over it for the body.

    Attributes:
        head: Status and fields.
    """

    def __init__(self, head: ResponseHead, events: AsyncIterator[ResponseEvent]) -> None:
        self.head = head
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece of the body; ends only after the whole body was seen.

        Raises:
            HTTPError: The body was cut short or malformed.
            EgressError: The connection broke.
        """
        async for event in self._events:
            if isinstance(event, bytes):
                return event
        raise StopAsyncIteration


def tls_context(ca_pem: str) -> ssl.SSLContext:
    """Return the only TLS settings that egress uses: TLS 1.2 or newer, pinned roots, host names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    context.set_alpn_protocols(["http/1.1"])
    return context


def check_window(host: str, leaf: bytes, now_s: int) -> None:
    """Judge the window of a server's certificate (DER) on enclave time.

    Raises:
        EgressError: `now_s`, seconds since 1970, lies outside it, or the certificate is malformed.
    """
    try:
        certificate = x509.load_der_x509_certificate(leaf)
    except ValueError:
        raise EgressError(f"{host}: its certificate is malformed", nothing_sent=True) from None
    begin = certificate.not_valid_before_utc.timestamp()
    end = certificate.not_valid_after_utc.timestamp()
    if not begin <= now_s <= end:
        raise EgressError(
            f"{host}: its certificate is not valid on enclave time", nothing_sent=True
        )


async def _start_tls(
    tunnel: asyncio.StreamWriter, context: ssl.SSLContext, host: str
) -> tuple[_Reader, asyncio.StreamWriter]:
    """Begin TLS in the tunnel, with a reader of its own.

    `StreamWriter.start_tls` would go on with the tunnel's reader, and what the parent has sent
    behind its grant lies in there: it would be read as the first bytes of the server's answer.
    """
    loop = asyncio.get_running_loop()
    reader = _Reader(EGRESS_READ_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport = await loop.start_tls(tunnel.transport, protocol, context, server_hostname=host)
    assert transport is not None  # noqa: S101  # only another kind of loop returns none
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Egress:
    """Sends requests to the hosts of the allow-list and keeps their connections open.

    Args:
        dial: The parent's tunnel.
        context: TLS settings, from `tls_context`.
        hosts: The only hosts that are ever dialled, with the port where it is not 443.
        clock: Enclave time.
        own_contexts: TLS settings of the hosts that have roots of their own.
    """

    def __init__(
        self,
        dial: Dial,
        context: ssl.SSLContext,
        hosts: frozenset[str],
        clock: EnclaveClock,
        own_contexts: Mapping[str, ssl.SSLContext] = MappingProxyType({}),
    ) -> None:
        self._dial = dial
        self._context = context
        self._own_contexts = own_contexts
        self._hosts = hosts
        self._clock = clock
        self._idle: dict[str, list[_Connection]] = {}

    async def send(self, call: Call) -> HttpResponse:
        """Send a request and wait for the whole answer.

        Raises:
            EgressError: No answer came in time, or none at all.
            HTTPError: The answer is not strict HTTP/1.1 or too long.
        """
        async with self.open(call) as reply:
            body = b"".join([piece async for piece in reply])
            return HttpResponse(reply.head.status, reply.head.headers, body)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncGenerator[Reply]:
        """Send a request and hand out its answer while it comes.

        Leaving the block before the body's end cuts the connection, which cancels the call.

        Raises:
            EgressError: No answer came in time, or none at all.
            HTTPError: The answer is not strict HTTP/1.1 or too long.
        """
        connection = await self._connection(call.request.host)
        reader = ResponseReader(max_body_bytes=call.max_body_bytes)
        connection.reusable = False
        if call.connected is not None:
            call.connected(connection.leaf_sha256)
        try:
            async with asyncio.timeout(call.deadline_ms / 1000):
                await self._write(connection, call.request)
                async with aclosing(self._events(connection, reader)) as events:
                    head = await anext(events)
                    assert isinstance(head, ResponseHead)  # noqa: S101  # the reader's first event
                    yield Reply(head, events)
        except TimeoutError:
            raise EgressError(
                f"{call.request.host}: no whole answer within {call.deadline_ms} ms",
                nothing_sent=False,
                code=ErrorCode.ERR_UPSTREAM_TIMEOUT,
            ) from None
        finally:
            self._put_back(call.request.host, connection)

    async def _write(self, connection: _Connection, request: HttpRequest) -> None:
        data = request.to_bytes()
        try:
            connection.writer.write(data)
            await connection.writer.drain()
        except OSError:
            raise EgressError(f"{request.host}: the connection broke", nothing_sent=False) from None

    async def _events(
        self, connection: _Connection, reader: ResponseReader
    ) -> AsyncGenerator[ResponseEvent]:
        while not reader.ended:
            try:
                data = await connection.reader.read(EGRESS_READ_BYTES)
            except OSError:
                raise EgressError("the connection broke", nothing_sent=False) from None
            if not data:
                reader.close()
            for event in reader.receive(data):
                if isinstance(event, ResponseEnd):
                    connection.reusable = event.reusable
                yield event

    async def _connection(self, host: str) -> _Connection:
        if host not in self._hosts:
            raise EgressError(f"{host} is not on the measured list of hosts", nothing_sent=True)
        idle = self._idle.get(host, [])
        while idle:
            connection = idle.pop()
            reader, writer = connection.reader, connection.writer
            if not (reader.unread_bytes or reader.at_eof() or writer.is_closing()):
                return connection
            writer.transport.abort()
        try:
            async with asyncio.timeout(EGRESS_CONNECT_TIMEOUT_MS / 1000):
                return await self._connect(host)
        except TimeoutError:
            raise EgressError(
                f"{host}: no TLS connection within {EGRESS_CONNECT_TIMEOUT_MS} ms",
                nothing_sent=True,
            ) from None

    async def _connect(self, host: str) -> _Connection:
        name, _, port = host.partition(":")
        _, tunnel = await self._dial(name, int(port or _HTTPS_PORT))
        context = self._own_contexts.get(host, self._context)
        with ExitStack() as undo:  # also when the connect timeout cancels this
            undo.callback(tunnel.transport.abort)
            try:
                reader, writer = await _start_tls(tunnel, context, name)
            except OSError:  # an SSLError is one, too
                raise EgressError(
                    f"{host}: TLS failed under the pinned roots", nothing_sent=True
                ) from None
            leaf = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            check_window(host, leaf, self._clock.now_s())
            undo.pop_all()
        return _Connection(reader, writer, tunnel, hashlib.sha256(leaf).hexdigest())

    def _put_back(self, host: str, connection: _Connection) -> None:
        idle = self._idle.setdefault(host, [])
        if connection.reusable and len(idle) < EGRESS_IDLE_MAX_COUNT:
            idle.append(connection)
        else:
            connection.writer.transport.abort()

    def close(self) -> None:
        """Cut every idle connection."""
        for idle in self._idle.values():
            for connection in idle:
                connection.writer.transport.abort()
            idle.clear()
