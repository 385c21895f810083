"""The HTTP servers of the process: uvicorn, with what it leaves open closed.

It does not bound how long a client takes over a request's head or over reading its answer, how
large a head is, or how many connections there are, and it answers some requests by itself in plain
text.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from latensgate_parent.gathering import GatheringTransport
from latensgate_parent.http.errors import GatewayError, error_response
from latensgate_parent.http.exchange import CorrelationIds
from latensgate_parent.limits import (
    HTTP_FIELDS_MAX_COUNT,
    HTTP_HEAD_MAX_BYTES,
    HTTP_HEAD_TIMEOUT_S,
    HTTP_KEEP_ALIVE_S,
    MAX_CONNECTIONS,
    READ_MIN_BYTES,
    STREAM_SEND_TIMEOUT_S,
)
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator

    from latensgate_parent.http.asgi_types import ASGIApp
    from latensgate_parent.settings_forms import HostPort

_BACKLOG: Final = 1_024
_SHUTDOWN_MAX_S: Final = 5


class ListenError(LatensgateError):
    """An address cannot be listened on."""

    code = ErrorCode.ERR_CONFIGURATION


class BoundedHTTP(HttpToolsProtocol):
    """One connection of a client."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _unread_timer: asyncio.TimerHandle | None = None
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself narrows it
        """Begin to wait for a head."""
        super().connection_made(GatheringTransport.over(transport, self.loop))
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(GatewayError(ErrorCode.ERR_OVERLOADED, "Too many connections are open."))
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that does not end is refused.

        Most heads are whole in one piece, so that only what is left of one is timed.
        """
        self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if self._head_timer is None:
            self._await_head()
        if self._head_bytes > HTTP_HEAD_MAX_BYTES:
            self._refuse(
                GatewayError(
                    ErrorCode.ERR_TOO_LARGE,
                    f"A head of at most {HTTP_HEAD_MAX_BYTES} bytes expected.",
                )
            )

    def on_message_begin(self) -> None:
        """Notice the first byte of a request."""
        super().on_message_begin()
        if not self._in_head:
            self._in_head = True
            self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Stop waiting for the head."""
        self._forget_head()
        if len(self.headers) > HTTP_FIELDS_MAX_COUNT:  # each is looked through many times
            raise HttpParserError("too many fields")
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for anything."""
        self._forget_head()
        self._forget_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to watch whether the client reads."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """It has read."""
        self._forget_unread()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, also one whose client has not read its last answer."""
        self._end()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the envelope of every error."""
        del msg
        self._refuse(GatewayError(ErrorCode.ERR_REQUEST_INVALID, "Valid HTTP/1.1 expected."))

    def _await_head(self) -> None:
        self._in_head = True
        self._head_timer = self.loop.call_later(HTTP_HEAD_TIMEOUT_S, self._head_is_late)

    def _forget_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._end()

    def _await_reader(self) -> None:
        left_bytes = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(
            STREAM_SEND_TIMEOUT_S, self._look_at_reader, left_bytes
        )

    def _look_at_reader(self, before_bytes: int) -> None:
        """Cut the connection of a client that does not read: closing would wait for it for ever."""
        if before_bytes - self.transport.get_write_buffer_size() < READ_MIN_BYTES:
            self.transport.abort()
        else:
            self._await_reader()

    def _forget_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _end(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: GatewayError) -> None:
        self._forget_head()
        if self.transport.is_closing():
            return
        told = error_response(error, CorrelationIds().new())
        fields = b"".join(b"%s: %s\r\n" % each for each in told.headers)
        line = b"HTTP/1.1 %d \r\n" % told.status
        self.transport.write(line + fields + b"connection: close\r\n\r\n" + told.body)
        self.transport.close()


class QuietServer(uvicorn.Server):
    """A server that leaves signals to the process: there are two of them in one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield


def make_server(app: ASGIApp) -> QuietServer:
    """Return a server for an application; ``serve(sockets=[…])`` runs it."""
    served: Any = app  # uvicorn's own types of ASGI are stricter in their names only
    return QuietServer(
        uvicorn.Config(
            served,
            http=BoundedHTTP,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=HTTP_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_MAX_S,
        )
    )


def bind(address: HostPort) -> socket.socket:
    """Return a socket bound to an address.

    Raises:
        ListenError: It cannot be.
    """
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ListenError(f"{address}: {error.strerror or type(error).__name__}") from None
    listener.setblocking(False)  # noqa: FBT003 -- socket's own signature
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    return int(listener.getsockname()[1])
