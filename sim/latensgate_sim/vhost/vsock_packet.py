"""Packets of the socket device (virtio 1.3, section 5.10.6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

from latensgate_sim.vhost.errors import VhostError

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER: Final = struct.Struct("<QQIIIHHIII")
STREAM: Final = 1


class Operation(IntEnum):
    """What a packet is for."""

    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


class Shutdown(IntFlag):
    """What the sender of a SHUTDOWN will not do any more."""

    NONE = 0
    RECEIVE = 1
    SEND = 2
    BOTH = 3


@dataclass(frozen=True, slots=True)
class Packet:
    """A header; data stand behind it.

    Attributes:
        length: Bytes of data.
        kind: STREAM; there are others.
        operation: One of ``Operation``, or what this device does not know.
        flags: Of a SHUTDOWN.
        buffer_bytes: How much the sender holds for its reader.
        forwarded: How much its reader has taken so far, modulo 2**32.
    """

    source_cid: int
    destination_cid: int
    source_port: int
    destination_port: int
    length: int
    kind: int
    operation: int
    flags: int = 0
    buffer_bytes: int = 0
    forwarded: int = 0

    def pack(self) -> bytes:
        """Return the 44 bytes of the header."""
        return HEADER.pack(
            self.source_cid,
            self.destination_cid,
            self.source_port,
            self.destination_port,
            self.length,
            self.kind,
            self.operation,
            self.flags,
            self.buffer_bytes,
            self.forwarded,
        )

    def refusal(self) -> Packet:
        """Return the reset that answers it."""
        return Packet(
            self.destination_cid,
            self.source_cid,
            self.destination_port,
            self.source_port,
            0,
            self.kind,
            Operation.RST,
        )


def split(buffers: Sequence[memoryview]) -> tuple[Packet, list[memoryview]]:
    """Read a packet's header off its buffers; what follows are its data, exactly as many as said.

    Raises:
        VhostError: There are fewer or more bytes than the header says.
    """
    if buffers and len(buffers[0]) >= HEADER.size:
        packet = Packet(*HEADER.unpack_from(buffers[0]))
    else:
        head = b"".join(bytes(buffer[: HEADER.size]) for buffer in buffers)[: HEADER.size]
        if len(head) < HEADER.size:
            raise VhostError(f"vsock: a header of {HEADER.size} bytes expected, found {len(head)}")
        packet = Packet(*HEADER.unpack(head))
    data = behind_header(buffers)
    found = sum(len(piece) for piece in data)
    if found != packet.length:
        raise VhostError(f"vsock: {packet.length} bytes of data expected, found {found}")
    return packet, data


def behind_header(buffers: Sequence[memoryview]) -> list[memoryview]:
    """Return what buffers hold after the header."""
    rest: list[memoryview] = []
    skip = HEADER.size
    for buffer in buffers:
        if skip < len(buffer):
            rest.append(buffer[skip:])
        skip = max(0, skip - len(buffer))
    return rest


def write_header(buffers: Sequence[memoryview], packet: Packet) -> None:
    """Write a header into the beginning of buffers, which hold at least as much."""
    head = packet.pack()
    for buffer in buffers:
        size = min(len(buffer), len(head))
        buffer[:size], head = head[:size], head[size:]
        if not head:
            return
    raise VhostError(f"vsock: buffers of at least {HEADER.size} bytes expected")


def shortened(buffers: Sequence[memoryview], most: int) -> list[memoryview]:
    """Return buffers of at most so many bytes together."""
    kept: list[memoryview] = []
    for buffer in buffers:
        if most <= 0:
            break
        kept.append(buffer[:most])
        most -= len(kept[-1])
    return kept
