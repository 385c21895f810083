"""The other side of our virtual devices, for tests: QEMU's messages and a guest's drivers.

Everything runs in one thread: a test turns the device's reactor itself, so nothing depends on time.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from latensgate_sim.vhost.backend import Backend, Device
from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.reactor import Reactor
from latensgate_sim.vhost.vsock_packet import HEADER, STREAM, Operation, Packet
from latensgate_sim.vhost.wire import HEADER as MESSAGE
from latensgate_sim.vhost.wire import NEED_REPLY, VERSION, Request

MEMORY_BYTES = 16 * 1024**2
GUEST_BASE = 0x4000_0000
USER_BASE = 0x7F00_0000_0000
FILE_OFFSET = 4_096
QUEUE_SIZE = 128
QUEUE_BYTES = 0x4000
BUFFERS_AT = 0x40000
BUFFER_BYTES = 3_776
"""What Linux posts for the socket device."""
CID = 16


@dataclass
class Ring:
    """The driver's side of one queue; `base` is its place in the guest's memory."""

    memory: memoryview
    base: int
    size: int = QUEUE_SIZE
    free: list[int] = field(default_factory=list[int])
    used_seen: int = 0

    def __post_init__(self) -> None:
        self.free = list(range(self.size))

    @property
    def available(self) -> int:
        return self.base + 16 * self.size

    @property
    def used(self) -> int:
        return (self.available + 4 + 2 * self.size + 3) & ~3

    def number(self, at: int) -> int:
        return int(struct.unpack_from("<H", self.memory, at)[0])

    def describe(self, index: int, place: tuple[int, int], flags: int, after: int = 0) -> None:
        address, length = place
        struct.pack_into(
            "<QIHH", self.memory, self.base + 16 * index, address, length, flags, after
        )

    def put(self, readable: Sequence[tuple[int, int]], writable: Sequence[tuple[int, int]]) -> int:
        """Put up one chain of (guest address, length)."""
        places = [(place, 0) for place in readable] + [(place, 2) for place in writable]
        taken = [self.free.pop(0) for _ in places]
        for number, (place, flags) in enumerate(places):
            last = number == len(places) - 1
            after = 0 if last else taken[number + 1]
            self.describe(taken[number], place, flags | (0 if last else 1), after)
        self.offer(taken[0])
        return taken[0]

    def offer(self, head: int) -> None:
        index = self.number(self.available + 2)
        struct.pack_into("<H", self.memory, self.available + 4 + 2 * (index % self.size), head)
        struct.pack_into("<H", self.memory, self.available + 2, (index + 1) & 0xFFFF)

    def finished(self) -> list[tuple[int, int]]:
        """Return (head, bytes written) of what the device has given back since."""
        done: list[tuple[int, int]] = []
        while self.used_seen != self.number(self.used + 2):
            at = self.used + 4 + 8 * (self.used_seen % self.size)
            done.append(struct.unpack_from("<II", self.memory, at))
            self.used_seen = (self.used_seen + 1) & 0xFFFF
        return done

    def recycle(self, head: int) -> None:
        """Take the descriptors of a chain back."""
        while True:
            self.free.append(head)
            flags, after = struct.unpack_from("<HH", self.memory, self.base + 16 * head + 12)
            if not flags & 1:
                return
            head = after


class FrontEnd:
    """QEMU, as far as a device sees it."""

    def __init__(self, device: Device, reactor: Reactor) -> None:
        self.reactor = reactor
        self.ended: list[VhostError | None] = []
        self.backend = Backend(device, reactor, self.ended.append)
        self.peer, other = socket.socketpair()
        self.backend.serve(other)
        self.file = os.memfd_create("guest")
        os.ftruncate(self.file, FILE_OFFSET + MEMORY_BYTES)
        self.mapped = mmap.mmap(self.file, FILE_OFFSET + MEMORY_BYTES)
        self.memory = memoryview(self.mapped)[FILE_OFFSET:]
        self.rings = [Ring(self.memory, QUEUE_BYTES * n) for n in range(device.queue_count)]
        self.kicks: list[int] = []
        self.calls: list[int] = []

    def close(self) -> None:
        self.peer.close()
        self.turn(2)
        for descriptor in (*self.kicks, *self.calls, self.file):
            os.close(descriptor)
        self.reactor.close()

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.reactor.turn(0)

    def send(
        self, request: int, payload: bytes = b"", descriptors: Sequence[int] = (), flags: int = 0
    ) -> None:
        head = MESSAGE.pack(request, VERSION | flags, len(payload))
        socket.send_fds(self.peer, [head + payload], list(descriptors))
        self.turn()

    def receive(self) -> bytes:
        self.peer.settimeout(1)
        head = self.peer.recv(MESSAGE.size)
        return self.peer.recv(MESSAGE.unpack(head)[2])

    def ask(
        self, request: int, payload: bytes = b"", descriptors: Sequence[int] = (), flags: int = 0
    ) -> bytes:
        self.send(request, payload, descriptors, flags)
        return self.receive()

    def share_memory(self) -> None:
        region = struct.pack("<QQQQ", GUEST_BASE, MEMORY_BYTES, USER_BASE, FILE_OFFSET)
        answer = self.ask(
            Request.SET_MEM_TABLE, struct.pack("<II", 1, 0) + region, [self.file], NEED_REPLY
        )
        assert answer == bytes(8)

    def set_up(self, index: int) -> None:
        """Do what QEMU does for a queue, without enabling it."""
        ring = self.rings[index]
        kick, call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        self.kicks.append(kick)
        self.calls.append(call)
        self.send(Request.SET_VRING_NUM, struct.pack("<II", index, ring.size))
        self.send(Request.SET_VRING_BASE, struct.pack("<II", index, 0))
        places = (USER_BASE + ring.base, USER_BASE + ring.used, USER_BASE + ring.available)
        self.send(Request.SET_VRING_ADDR, struct.pack("<IIQQQQ", index, 0, *places, 0))
        self.send(Request.SET_VRING_KICK, struct.pack("<Q", index), [kick])
        self.send(Request.SET_VRING_CALL, struct.pack("<Q", index), [call])

    def enable(self, index: int) -> None:
        self.send(Request.SET_VRING_ENABLE, struct.pack("<II", index, 1))

    def begin(self) -> None:
        self.send(Request.SET_OWNER)
        self.share_memory()
        for index in range(len(self.rings)):
            self.set_up(index)
        for index in range(len(self.rings)):
            self.enable(index)

    def kick(self, index: int) -> None:
        os.eventfd_write(self.kicks[index], 1)
        self.turn()

    def called(self, index: int) -> bool:
        """Whether the guest has been called since."""
        try:
            return os.eventfd_read(self.calls[index]) > 0
        except BlockingIOError:
            return False


@dataclass
class Received:
    """A packet that the guest got."""

    packet: Packet
    data: bytes


class Guest:
    """A guest with a socket driver that does what a test tells it, right or wrong."""

    def __init__(self, front: FrontEnd, buffers: int = 32) -> None:
        self.front = front
        self.transmit_at = BUFFERS_AT + buffers * 4_096
        front.begin()
        self._places = dict[int, int]()
        for number in range(buffers):
            self._post(BUFFERS_AT + number * 4_096)
        front.kick(0)

    def _post(self, at: int) -> None:
        head = self.front.rings[0].put([], [(GUEST_BASE + at, BUFFER_BYTES)])
        self._places[head] = at

    def send(self, packet: Packet, data: bytes = b"", *, pieces: int = 2) -> None:
        """Put up a packet; in two descriptors (header, data) or in one."""
        ring, at = self.front.rings[1], self.transmit_at
        whole = packet.pack() + data
        self.front.memory[at : at + len(whole)] = whole
        places = [(GUEST_BASE + at, len(whole))]
        if pieces == 2 and data:
            places = [
                (GUEST_BASE + at, HEADER.size),
                (GUEST_BASE + at + HEADER.size, len(data)),
            ]
        ring.put(places, [])
        self.front.kick(1)
        for head, _ in ring.finished():
            ring.recycle(head)

    def receive(self, *, repost: bool = True) -> list[Received]:
        """Take all packets that the device has written."""
        self.front.turn(3)
        ring = self.front.rings[0]
        got: list[Received] = []
        places: list[int] = []
        for head, written in ring.finished():
            at = self._places.pop(head)
            ring.recycle(head)
            packet = Packet(*HEADER.unpack_from(self.front.memory, at))
            data = bytes(self.front.memory[at + HEADER.size : at + written])
            assert len(data) == packet.length
            got.append(Received(packet, data))
            places.append(at)
        if repost:
            for at in places:
                self._post(at)
            if places:
                self.front.kick(0)
        return got

    def one(self, operation: Operation) -> Received:
        """Expect exactly one packet."""
        (got,) = self.receive()
        assert got.packet.operation == operation, got
        return got


@dataclass
class GuestStream:
    """A guest's end of a connection."""

    guest: Guest
    port: int
    host_port: int
    host_cid: int = 3
    buffer_bytes: int = 1 << 18
    taken: int = 0

    def packet(self, operation: int, length: int = 0, flags: int = 0) -> Packet:
        return Packet(
            CID,
            self.host_cid,
            self.port,
            self.host_port,
            length,
            STREAM,
            operation,
            flags,
            self.buffer_bytes,
            self.taken,
        )

    def send(self, operation: int, data: bytes = b"", flags: int = 0, *, pieces: int = 2) -> None:
        self.guest.send(self.packet(operation, len(data), flags), data, pieces=pieces)

    def read_all(self, count: int) -> bytes:
        """Read until `count` bytes came, giving credit as Linux does."""
        got = b""
        for _ in range(100_000):
            for received in self.guest.receive():
                if received.packet.operation == Operation.RW:
                    got += received.data
                    self.taken = (self.taken + len(received.data)) & 0xFFFF_FFFF
            if len(got) >= count:
                return got
            self.send(Operation.CREDIT_UPDATE)
        raise AssertionError(f"{len(got)} of {count} bytes came")
