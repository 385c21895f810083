"""Messages between QEMU and a back end: a header of three numbers, a payload, descriptors.

Source: QEMU ``docs/interop/vhost-user.rst``. Numbers are little-endian here; the protocol says the
machine's own order, and shared memory makes it one machine.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from latensgate_sim.vhost.errors import VhostError

HEADER: Final = struct.Struct("<III")
"""Request, flags, bytes of payload."""
VERSION: Final = 1
REPLY: Final = 1 << 2
NEED_REPLY: Final = 1 << 3
_VERSION_MASK: Final = 0b11
PAYLOAD_MAX_BYTES: Final = 4_096
"""Far above the longest that a back end of these features gets (8 memory regions: 264 bytes)."""
DESCRIPTORS_MAX_COUNT: Final = 8
"""VHOST_MEMORY_BASELINE_NREGIONS: one for each memory region."""
_RECEIVE_TIMEOUT_S: Final = 10.0
"""A message that has begun comes at once; QEMU sends it in one piece."""


class Request(IntEnum):
    """What a front end asks for."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24
    SET_CONFIG = 25


@dataclass(frozen=True, slots=True)
class Message:
    """One message; whoever takes it owns its descriptors."""

    request: int
    flags: int
    payload: bytes
    descriptors: tuple[int, ...] = ()

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        """Read the payload's beginning.

        Raises:
            VhostError: It is shorter.
        """
        if len(self.payload) < form.size:
            raise VhostError(f"request {self.request}: {form.size} bytes of payload expected")
        return form.unpack_from(self.payload)


def close_all(descriptors: tuple[int, ...]) -> None:
    """Close descriptors that nobody has taken."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def receive(peer: socket.socket) -> Message | None:
    """Wait for a message; None when the front end has gone between two.

    Raises:
        VhostError: What came is no message, or ended in the middle of one.
    """
    peer.settimeout(_RECEIVE_TIMEOUT_S)
    descriptors: tuple[int, ...] = ()
    try:
        head, descriptors = _receive_head(peer)
        if not head:
            return None
        head += _receive(peer, HEADER.size - len(head))
        request, flags, length = _parse_head(head)
        return Message(request, flags, _receive(peer, length), descriptors)
    except (OSError, VhostError) as error:
        close_all(descriptors)
        raise VhostError(str(error)) from None


def _receive_head(peer: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    numbers = array.array("i")
    space = socket.CMSG_SPACE(DESCRIPTORS_MAX_COUNT * numbers.itemsize)
    head, ancillary, flags, _ = peer.recvmsg(HEADER.size, space)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    if flags & socket.MSG_CTRUNC:
        close_all(tuple(numbers))
        raise VhostError(f"at most {DESCRIPTORS_MAX_COUNT} descriptors expected")
    return head, tuple(numbers)


def _parse_head(head: bytes) -> tuple[int, int, int]:
    request, flags, length = HEADER.unpack(head)
    if flags & _VERSION_MASK != VERSION:
        raise VhostError(f"version {VERSION} expected, found flags {flags:#x}")
    if length > PAYLOAD_MAX_BYTES:
        raise VhostError(f"a payload of at most {PAYLOAD_MAX_BYTES} bytes expected")
    return request, flags, length


def _receive(peer: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = peer.recv(count - len(received))
        if not piece:
            raise VhostError("the front end left in the middle of a message")
        received += piece
    return received


def reply(peer: socket.socket, request: int, payload: bytes) -> None:
    """Answer a request.

    Raises:
        VhostError: The front end is gone.
    """
    try:
        peer.sendall(HEADER.pack(request, VERSION | REPLY, len(payload)) + payload)
    except OSError as error:
        raise VhostError(str(error)) from None
