"""The security module as a device: hands the guest driver's requests to a simulated module.

Linux puts up two chains for one call: the request, then room for the answer (``drivers/misc/nsm.c``
of Linux). Virtio id 33, one queue, no configuration space. Which documents come out is not decided
here: the module with its measurements is the simulator's.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.virtqueue import total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from latensgate_sim.vhost.virtqueue import Chain, Virtqueue

VIRTIO_ID: Final = 33
REQUEST_MAX_BYTES: Final = 0x1000
ANSWER_MAX_BYTES: Final = 0x3000
_LENGTH_BYTES: Final = 4
_TIMEOUT_S: Final = 120.0
"""The guest's driver gives up then."""


class NSMDevice:
    """A security module for one guest.

    Args:
        answer: Answers one CBOR request; an error is an answer, too.
    """

    queue_count = 1
    config = b""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._queue: Virtqueue | None = None
        self._request: Chain | None = None

    def attach(self, queues: Sequence[Virtqueue]) -> None:
        """Learn the only queue."""
        (self._queue,) = queues

    def reset(self) -> None:
        """Forget a call whose second half never came."""
        self._request = None

    def kicked(self, index: int) -> None:
        """Answer what was put up.

        Raises:
            VhostError: It is not what the driver puts up, or the module is gone.
        """
        queue = self._queue
        if queue is None or index:
            return
        while (chain := queue.take()) is not None:
            if self._request is None:
                self._request = chain
                continue
            request, self._request = self._request, None
            said = self._exchange(request, chain)
            queue.finish(request, 0)
            queue.finish(chain, said)
            queue.notify()

    def _exchange(self, request: Chain, room: Chain) -> int:
        asked = b"".join(request.readable)
        if not asked or request.writable or room.readable or len(asked) > REQUEST_MAX_BYTES:
            raise VhostError("NSM: a request, then room for its answer, expected")
        answer = self._answer(asked)
        if len(answer) > min(ANSWER_MAX_BYTES, total(room.writable)):
            raise VhostError(f"NSM: an answer of {len(answer)} bytes has no room")
        rest = answer
        for buffer in room.writable:
            size = min(len(buffer), len(rest))
            buffer[:size], rest = rest[:size], rest[size:]
        return len(answer)


def over_socket(path: Path) -> Callable[[bytes], bytes]:
    """Return what asks a simulated module at its socket: u32 length and CBOR, both ways."""

    def answer(request: bytes) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(_TIMEOUT_S)
                peer.connect(str(path))
                peer.sendall(len(request).to_bytes(_LENGTH_BYTES, "big") + request)
                length = int.from_bytes(_receive(peer, _LENGTH_BYTES), "big")
                return _receive(peer, length)
        except OSError as error:
            raise VhostError(f"NSM: no answer from {path}: {error}") from None

    return answer


def _receive(peer: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = peer.recv(count - len(received))
        if not piece:
            raise VhostError("NSM: the answer was cut short")
        received += piece
    return received
