"""Sockets between parent and enclaves, so that any event loop can carry them.

uvloop knows IP and UNIX sockets only: it would look an AF_VSOCK address up in the DNS, and set
TCP_NODELAY on the socket. Therefore sockets are connected and accepted here, by the kernel's own
calls, and then handed to the loop as if they were UNIX ones: on a stream socket that is connected
a loop calls nothing that depends on the family.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from latensgate_parent.link.address import UnixAddress
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_parent.link.address import Address

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.Protocol)
_Target: TypeAlias = "str | tuple[int, int]"
_CID_ANY: Final = 0xFFFF_FFFF
_OWNER_ONLY: Final = 0o600


class SocketError(LatensgateError):
    """A socket could not be opened, bound or connected."""

    code = ErrorCode.ERR_ENCLAVE_UNAVAILABLE


class _StreamSocket(socket.socket):
    """A connected stream socket that says it is a UNIX one, whatever it is."""

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_UNIX


async def attach(
    connected: socket.socket, make: Callable[[], _ProtocolT]
) -> tuple[asyncio.Transport, _ProtocolT]:
    """Give a connected socket to the running loop; it is closed if that fails."""
    stream = _StreamSocket(fileno=connected.detach())
    with ExitStack() as undo:
        undo.callback(stream.close)
        stream.settimeout(0)  # non-blocking
        made = await asyncio.get_running_loop().create_unix_connection(make, sock=stream)
        undo.pop_all()
    return made


def _open(address: Address) -> tuple[socket.socket, _Target]:
    target: _Target
    if isinstance(address, UnixAddress):
        family, target = socket.AF_UNIX, address.path
    else:
        cid = _CID_ANY if address.cid is None else address.cid
        family, target = socket.AF_VSOCK, (cid, address.port)
    try:
        opened = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise SocketError(f"{address}: no such socket here, errno {error.errno}") from None
    opened.settimeout(0)  # non-blocking
    return opened, target


async def connect(address: Address, *, timeout_ms: int) -> socket.socket:
    """Return a connected non-blocking socket.

    Args:
        address: Whom to dial.
        timeout_ms: How long to try.

    Raises:
        SocketError: Refused, or not in time.
    """
    dialler, target = _open(address)
    with ExitStack() as undo:  # also when the caller cancels
        undo.callback(dialler.close)
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await _connect(dialler, target)
        except TimeoutError:
            raise SocketError(f"{address}: no connection within {timeout_ms} ms") from None
        except OSError as error:
            raise SocketError(f"{address}: cannot connect, errno {error.errno}") from None
        undo.pop_all()
    return dialler


async def _connect(dialler: socket.socket, target: _Target) -> None:
    number = dialler.connect_ex(target)
    if number == errno.EINPROGRESS:
        await _writable(dialler)
        number = dialler.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


async def _writable(waiting: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(waiting.fileno(), _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(waiting.fileno())


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def listen(address: Address, *, backlog: int) -> socket.socket:
    """Return a non-blocking listening socket; a UNIX one is for this user only.

    Args:
        address: Where. A socket file that nobody listens at any more is replaced.
        backlog: Connections that may wait to be accepted.

    Raises:
        SocketError: Another process listens there, another kind of file is there, or the kernel
            refused.
    """
    listener, target = _open(address)
    with ExitStack() as undo:
        undo.callback(listener.close)
        try:
            if isinstance(address, UnixAddress):
                _remove_left_over(address)
            listener.bind(target)
            if isinstance(address, UnixAddress):
                Path(address.path).chmod(_OWNER_ONLY)  # nobody can connect before `listen`
            listener.listen(backlog)
        except OSError as error:
            raise SocketError(f"{address}: cannot listen, errno {error.errno}") from None
        undo.pop_all()
    return listener


def unlisten(listener: socket.socket, address: Address) -> None:
    """Close a listener, and remove its socket file."""
    listener.close()
    if isinstance(address, UnixAddress):
        Path(address.path).unlink(missing_ok=True)


def _remove_left_over(address: UnixAddress) -> None:
    path = Path(address.path)
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketError(f"{address}: a file that is no socket is there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0)  # non-blocking
            number = probe.connect_ex(address.path)
        if number not in {errno.ECONNREFUSED, errno.ENOENT}:
            raise SocketError(f"{address}: another process listens there")
        path.unlink()
