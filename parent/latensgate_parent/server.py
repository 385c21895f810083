"""The HTTP servers of the process: uvicorn, with what it leaves open closed.

It does not bound how long a client takes over a request's head, how large that is, or how many
connections there are, and it answers some requests by itself in plain text.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from latensgate_parent.http.errors import GatewayError, error_response
from latensgate_parent.http.exchange import CorrelationIds
from latensgate_parent.limits import (
    HTTP_HEAD_MAX_BYTES,
    HTTP_HEAD_TIMEOUT_S,
    HTTP_KEEP_ALIVE_S,
    MAX_CONNECTIONS,
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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself narrows it
        """Begin to wait for a head."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(GatewayError(ErrorCode.ERR_OVERLOADED, "Too many connections are open."))
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that does not end is refused."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > HTTP_HEAD_MAX_BYTES:
            self._refuse(
                GatewayError(
                    ErrorCode.ERR_TOO_LARGE,
                    f"A head of at most {HTTP_HEAD_MAX_BYTES} bytes expected.",
                )
            )

    def on_message_begin(self) -> None:
        """Notice the first byte of a request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Stop waiting for the head."""
        self._forget_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for anything."""
        self._forget_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the envelope of every error."""
        del msg
        self._refuse(GatewayError(ErrorCode.ERR_REQUEST_INVALID, "Valid HTTP/1.1 expected."))

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HTTP_HEAD_TIMEOUT_S, self._head_is_late)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
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
