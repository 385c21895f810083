"""TLS over a socket of the event loop, without asyncio's own layers between it and its bytes.

asyncio's TLS is a transport on a protocol under a stream: some 40 Python calls for a piece that
comes and as many for one that goes (ADR 0058). Here OpenSSL gets what the socket gave, and what it
opens waits for one reader. What the reader does not take in time holds the other side back.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from latensgate_shared.limits import EGRESS_READ_BYTES

if TYPE_CHECKING:
    from asyncio import StreamWriter

_RECORD_BYTES: Final = 16 * 1024
"""RFC 8446, section 5.1: no record holds more, and one read of OpenSSL gives one record."""


class TLSStream(asyncio.BufferedProtocol):
    """One connection: made by `start`, read by one task at a time.

    Args:
        socket: Connected, in plaintext so far; kept, because one that is collected closes.
        context: Roots and versions.
        host: Whose certificate is expected.
    """

    def __init__(self, socket: StreamWriter, context: ssl.SSLContext, host: str) -> None:
        self._socket = socket
        self._transport = cast("asyncio.Transport", socket.transport)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._loop = asyncio.get_running_loop()
        self._received = memoryview(bytearray(EGRESS_READ_BYTES))
        self._is_open = False  # whether the handshake is over
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._holds_back = False
        self._failure: OSError | None = None
        self._eof = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    # --- what its user calls ---

    async def start(self) -> bytes:
        """Shake hands; return the certificate of the other side (DER).

        What the socket received before stays with its former reader: it was no TLS, and must not be
        read as the first bytes of an answer.

        Raises:
            OSError: The other side is not who it should be (an SSLError), or went away.
        """
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        self._advance()
        while not self._is_open:
            self._raise_ended()
            await self._change()
        return cast("bytes", self._tls.getpeercert(binary_form=True))

    async def send(self, data: bytes) -> None:
        """Send, as fast as the other side takes it.

        Raises:
            OSError: The connection is broken.
        """
        left = memoryview(data)
        while left:
            self._raise_ended()
            left = left[self._tls.write(left[:EGRESS_READ_BYTES]) :]
            self._transport.write(self._outgoing.read())
            while self._paused:
                await self._change()
                self._raise_ended()

    async def read(self) -> bytes:
        """Return what has come, at least a byte; nothing once the other side has ended.

        Raises:
            OSError: The connection is broken.
        """
        while not self._unread:
            if self._failure is not None:
                raise self._failure
            if self._eof:
                return b""
            await self._change()
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        if self._holds_back:
            self._holds_back = False
            self._transport.resume_reading()
        return data

    @property
    def unread_bytes(self) -> int:
        """What has come and was not read: what comes unasked must not answer the next request."""
        return self._unread_bytes

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can be sent or will come."""
        return self._eof or self._failure is not None or self._transport.is_closing()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def _raise_ended(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._eof or self._transport.is_closing():
            raise ConnectionResetError

    async def _change(self) -> None:
        """Wait until something has happened to the connection."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # --- what the loop calls ---

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to put what the socket gives."""
        del sizehint
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        """Open what the socket gave."""
        self._incoming.write(self._received[:nbytes])
        self._advance()

    def eof_received(self) -> bool:
        """Note the end; the socket is closed then. An answer that is cut HTTP notices."""
        self._eof = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, whoever ended it."""
        self._eof = True
        if self._failure is None and isinstance(exc, OSError):
            self._failure = exc
        self._wake()

    def pause_writing(self) -> None:
        """Hold `send` back."""
        self._paused = True

    def resume_writing(self) -> None:
        """Let `send` go on."""
        self._paused = False
        self._wake()

    def _advance(self) -> None:
        """Give OpenSSL what there is, take what it opens, send what it has to say."""
        try:
            if not self._is_open:
                self._tls.do_handshake()
                self._is_open = True
            self._take_records()
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self._failure = error
            self._transport.abort()
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
        if self._unread_bytes > EGRESS_READ_BYTES and not self._holds_back:
            self._holds_back = True
            self._transport.pause_reading()
        self._wake()

    def _take_records(self) -> None:
        while self._incoming.pending or self._tls.pending():
            data = self._tls.read(_RECORD_BYTES)
            if not data:  # the other side said that it ends
                self._eof = True
                return
            self._unread.append(data)
            self._unread_bytes += len(data)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
