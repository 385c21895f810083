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
from collections import deque
from contextlib import ExitStack, asynccontextmanager
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
from latensgate_enclave.tls_stream import TLSStream
from latensgate_enclave.values import Value
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import EGRESS_CONNECT_TIMEOUT_MS, EGRESS_IDLE_MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from typing import Self

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


class Call(Value, frozen=True):
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


@dataclass(slots=True)
class _Connection:
    stream: TLSStream
    leaf_sha256: str
    reusable: bool = False


class Reply:
    """An answer whose body is still coming; iterate over it for the body.

    Attributes:
        head: Status and fields.
    """

    head: ResponseHead

    def __init__(self, connection: _Connection, max_body_bytes: int) -> None:
        self._connection = connection
        self._reader = ResponseReader(max_body_bytes=max_body_bytes)
        self._pieces: deque[bytes] = deque()

    async def begin(self) -> None:
        """Wait for status and fields; raises as iterating does."""
        events: list[ResponseEvent] = []
        while not events:
            events = await self._more()
        head = events[0]
        assert isinstance(head, ResponseHead)  # noqa: S101  # the reader's first event
        self.head = head

    async def _more(self) -> list[ResponseEvent]:
        try:
            data = await self._connection.stream.read()
        except OSError:
            raise EgressError("the connection broke", nothing_sent=False) from None
        if not data:
            self._reader.close()
        events = self._reader.receive(data)
        for event in events:
            if isinstance(event, bytes):
                self._pieces.append(event)
            elif isinstance(event, ResponseEnd):
                self._connection.reusable = event.reusable
        return events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece of the body; ends only after the whole body was seen.

        Raises:
            HTTPError: The body was cut short or malformed.
            EgressError: The connection broke.
        """
        while not self._pieces:
            if self._reader.ended:
                raise StopAsyncIteration
            await self._more()
        return self._pieces.popleft()


def tls_context(ca_pem: str) -> ssl.SSLContext:
    """Return the only TLS settings that egress uses: TLS 1.2 or newer, pinned roots, host names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # what is sent would wait for what comes
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
        connection.reusable = False
        if call.connected is not None:
            call.connected(connection.leaf_sha256)
        try:
            async with asyncio.timeout(call.deadline_ms / 1000):
                await self._write(connection, call.request)
                reply = Reply(connection, call.max_body_bytes)
                await reply.begin()
                yield reply
        except TimeoutError:
            raise EgressError(
                f"{call.request.host}: no whole answer within {call.deadline_ms} ms",
                nothing_sent=False,
                code=ErrorCode.ERR_UPSTREAM_TIMEOUT,
            ) from None
        finally:
            self._put_back(call.request.host, connection)

    async def _write(self, connection: _Connection, request: HttpRequest) -> None:
        try:
            await connection.stream.send(request.to_bytes())
        except OSError:
            raise EgressError(f"{request.host}: the connection broke", nothing_sent=False) from None

    async def _connection(self, host: str) -> _Connection:
        if host not in self._hosts:
            raise EgressError(f"{host} is not on the measured list of hosts", nothing_sent=True)
        idle = self._idle.get(host, [])
        while idle:
            connection = idle.pop()
            if not (connection.stream.unread_bytes or connection.stream.has_ended):
                return connection
            connection.stream.abort()
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
                stream = TLSStream(tunnel, context, name)
                leaf = await stream.start()
            except OSError:  # an SSLError is one, too
                raise EgressError(
                    f"{host}: TLS failed under the pinned roots", nothing_sent=True
                ) from None
            check_window(host, leaf, self._clock.now_s())
            undo.pop_all()
        return _Connection(stream, hashlib.sha256(leaf).hexdigest())

    def _put_back(self, host: str, connection: _Connection) -> None:
        idle = self._idle.setdefault(host, [])
        if connection.reusable and len(idle) < EGRESS_IDLE_MAX_COUNT:
            idle.append(connection)
        else:
            connection.stream.abort()

    def close(self) -> None:
        """Cut every idle connection."""
        for idle in self._idle.values():
            for connection in idle:
                connection.stream.abort()
            idle.clear()
