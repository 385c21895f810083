"""Addresses and sockets between enclave and parent: AF_VSOCK on Nitro, UNIX elsewhere.

An address is text, chosen in the composition root: ``vsock:<cid>:<port>`` or ``unix:<path>``. The
parent is CID 3 as seen from the enclave. A CID authenticates nobody: any process of the parent
instance may stand behind it, so what comes in here is untrusted whatever the kind of socket.
"""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError

PARENT_CID: Final = 3
CID_ANY: Final = 0xFFFF_FFFF
_MAX_U32: Final = 0xFFFF_FFFF
_UNIX_PATH_MAX_BYTES: Final = 107
"""sockaddr_un has 108 bytes with the closing zero."""
_VSOCK: Final = re.compile(r"vsock:(0|[1-9][0-9]{0,9}|any):(0|[1-9][0-9]{0,9})")
_UNIX: Final = re.compile(r"unix:(/[!-~]+)")


class AddressError(MalformedError):
    """Text that is no address of a socket between enclave and parent."""


class SocketError(LatensgateError):
    """A socket could not be opened, bound or connected."""

    code = ErrorCode.ERR_ENCLAVE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """``cid`` 2**32 - 1 is any, for listening."""

    cid: int
    port: int


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """An absolute path of at most 107 bytes."""

    path: str


Address: TypeAlias = VsockAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Read ``vsock:<cid or any>:<port>`` or ``unix:<absolute path>``.

    Raises:
        AddressError: Anything else, or a number or path beyond what the kernel takes.
    """
    if match := _UNIX.fullmatch(text):
        if len(match[1]) > _UNIX_PATH_MAX_BYTES:
            raise AddressError(f"address: a path of at most {_UNIX_PATH_MAX_BYTES} bytes expected")
        return UnixAddress(match[1])
    match = _VSOCK.fullmatch(text)
    if not match:
        raise AddressError("address: vsock:<cid>:<port> or unix:<absolute path> expected")
    cid = CID_ANY if match[1] == "any" else int(match[1])
    port = int(match[2])
    if max(cid, port) > _MAX_U32:
        raise AddressError("address: cid and port are numbers of 32 bits")
    return VsockAddress(cid, port)


def _open(address: Address) -> tuple[socket.socket, str | tuple[int, int]]:
    if isinstance(address, UnixAddress):
        return _socket(socket.AF_UNIX), address.path
    return _socket(socket.AF_VSOCK), (address.cid, address.port)


def _socket(family: int) -> socket.socket:
    try:
        opened = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise SocketError(f"socket: cannot be opened, errno {error.errno}") from None
    opened.settimeout(0)  # non-blocking
    return opened


def listen(address: Address, *, backlog: int) -> socket.socket:
    """Return a non-blocking listening socket.

    Args:
        address: Where; a socket file left over from an earlier process is removed.
        backlog: Connections that may wait to be accepted.

    Raises:
        SocketError: The kernel refused.
    """
    listener, target = _open(address)
    try:
        if isinstance(address, UnixAddress):
            with suppress(FileNotFoundError):
                Path(address.path).unlink()
        listener.bind(target)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise SocketError(f"socket: cannot listen, errno {error.errno}") from None
    return listener


async def connect(address: Address, *, timeout_ms: int) -> socket.socket:
    """Return a connected non-blocking socket.

    Args:
        address: Whom to dial.
        timeout_ms: How long to try; the kernel itself gives a vsock connection up after 2,000 ms.

    Raises:
        SocketError: Refused, or not in time.
    """
    dialler, target = _open(address)
    with ExitStack() as undo:  # also when the caller cancels
        undo.callback(dialler.close)
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await asyncio.get_running_loop().sock_connect(dialler, target)
        except TimeoutError:
            raise SocketError(f"socket: no connection within {timeout_ms} ms") from None
        except OSError as error:
            raise SocketError(f"socket: cannot connect, errno {error.errno}") from None
        undo.pop_all()
    return dialler
