"""The NSM behind a path: the character device of Nitro, or a socket that speaks its messages.

Which one it is, is read off the file itself. A socket stands in for the device where there is none
(simulator, QEMU without one); its documents come from another root, so no verifier that was not
told to accept that root believes them. The path comes from the measured command line.
"""

from __future__ import annotations

import os
import socket
import stat
from functools import partial
from typing import TYPE_CHECKING, Final

from latensgate_enclave.nitro.nsm import NSMError, exchange
from latensgate_shared.limits import NSM_RESPONSE_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PREFIX_BYTES: Final = 4
_TIMEOUT_S: Final = 120
"""As the Linux driver: it gives a call up after 120 s."""


def open_nsm(path: Path) -> Callable[[bytes], bytes]:
    """Return the function that sends one request to the NSM at `path` and returns its answer.

    Raises:
        NSMError: There is neither a character device nor a socket.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode):
            return partial(exchange, os.open(path, os.O_RDWR | os.O_CLOEXEC))
        if stat.S_ISSOCK(mode):
            return partial(exchange_over_socket, path)
    except OSError as error:
        raise NSMError(f"cannot be opened, errno {error.errno}") from None
    raise NSMError("a character device or a socket expected")


def exchange_over_socket(path: Path, request: bytes) -> bytes:
    """Send one request over a connection of its own: u32 length and CBOR, both ways.

    Raises:
        NSMError: The peer is gone or answers with more than the device can.
    """
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(_TIMEOUT_S)
            peer.connect(str(path))
            peer.sendall(len(request).to_bytes(_PREFIX_BYTES, "big") + request)
            length = int.from_bytes(_receive(peer, _PREFIX_BYTES), "big")
            if length > NSM_RESPONSE_MAX_BYTES:
                raise NSMError(f"an answer of {length} bytes")
            return _receive(peer, length)
    except OSError as error:
        raise NSMError(f"no answer, errno {error.errno}") from None


def _receive(peer: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = peer.recv(count - len(received))
        if not piece:
            raise NSMError("the answer was cut short")
        received += piece
    return received
