"""A split virtqueue, the device's side (virtio 1.3, section 2.7).

Indexes of the rings are read and written through views of 16-bit numbers, each access one load or
store of the processor: written byte by byte, an index could be seen half new by the other side.
The order of stores is left to the processor, which is right on x86-64 and nowhere else.
"""

from __future__ import annotations

import os
import platform
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.memory import GuestMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE_MAX: Final = 1_024
"""QEMU's VIRTQUEUE_MAX_SIZE."""
_DESCRIPTOR: Final = struct.Struct("<QIHH")
_NEXT: Final = 1
_WRITE: Final = 2
_INDEX_MASK: Final = 0xFFFF
_FLAGS_MASK: Final = _NEXT | _WRITE


@dataclass(frozen=True, slots=True)
class Chain:
    """Buffers that the guest has put up together.

    Attributes:
        head: By which the guest knows it.
        readable: What the guest says.
        writable: Where the guest wants to be told.
    """

    head: int
    readable: tuple[memoryview, ...]
    writable: tuple[memoryview, ...]


@dataclass(frozen=True, slots=True)
class _Rings:
    descriptors: memoryview
    available: memoryview  # 16-bit: flags, index, ring
    used: memoryview  # 16-bit: flags, index
    used_ring: memoryview  # 32-bit: (flags and index), then head and length of each element


@dataclass(slots=True)
class Virtqueue:
    """One queue.

    Attributes:
        enabled: The front end lets the device use it.
        kick: eventfd by which the guest calls; -1: none yet.
        call: eventfd by which the guest is called; -1: none.
    """

    size: int = 0
    addresses: tuple[int, int, int] | None = None
    enabled: bool = False
    kick: int = -1
    call: int = -1
    next_available: int = 0
    _rings: _Rings | None = None
    _memory: GuestMemory = field(default_factory=GuestMemory)

    def place(self, memory: GuestMemory) -> None:
        """Take over another memory; rings are looked up again when they are used."""
        self._memory = memory
        self._rings = None

    def set_size(self, size: int) -> None:
        """Set how many descriptors there are.

        Raises:
            VhostError: No power of two up to ``SIZE_MAX``.
        """
        if not 1 <= size <= SIZE_MAX or size & (size - 1):
            raise VhostError(f"queue: a power of two up to {SIZE_MAX} expected, found {size}")
        self.size, self._rings = size, None

    def set_addresses(self, descriptors: int, used: int, available: int) -> None:
        """Set where the three parts lie, by QEMU's addresses."""
        self.addresses, self._rings = (descriptors, used, available), None

    @property
    def usable(self) -> bool:
        """Whether the guest may be served."""
        return self.enabled and self.size > 0 and self.addresses is not None

    def take(self) -> Chain | None:
        """Take the next chain; None when the guest has put up nothing more.

        Raises:
            VhostError: The guest's rings or descriptors are malformed.
        """
        rings = self._rings or self._look_up()
        waiting = (int(rings.available[1]) - self.next_available) & _INDEX_MASK
        if waiting == 0:
            return None
        if waiting > self.size:
            raise VhostError(f"queue: {waiting} chains put up, it holds {self.size}")
        head = int(rings.available[2 + self.next_available % self.size])
        chain = self._walk(rings, head)
        self.next_available = (self.next_available + 1) & _INDEX_MASK
        return chain

    def put_back(self) -> None:
        """Undo the last ``take``."""
        self.next_available = (self.next_available - 1) & _INDEX_MASK

    def finish(self, chain: Chain, written: int) -> None:
        """Return a chain to the guest with what was written, in bytes."""
        rings = self._rings or self._look_up()
        index = int(rings.used[1])
        at = 1 + 2 * (index % self.size)
        rings.used_ring[at], rings.used_ring[at + 1] = chain.head, written
        rings.used[1] = (index + 1) & _INDEX_MASK

    def notify(self) -> None:
        """Call the guest. One call too many is harmless, one too few hangs it."""
        if self.call >= 0:
            os.eventfd_write(self.call, 1)

    def close(self) -> None:
        """Give both eventfds back and forget the guest."""
        for descriptor in (self.kick, self.call):
            if descriptor >= 0:
                os.close(descriptor)
        self.kick = self.call = -1
        self.enabled, self.size, self.addresses = False, 0, None
        self.place(GuestMemory())

    def _look_up(self) -> _Rings:
        if self.addresses is None or not self.size:
            raise VhostError("queue: used before its size and addresses were set")
        descriptors, used, available = self.addresses
        if used % 4 or available % 2:
            raise VhostError("queue: rings must be aligned to their numbers")
        whole_used = self._memory.user(used, 4 + 8 * self.size)
        self._rings = _Rings(
            descriptors=self._memory.user(descriptors, _DESCRIPTOR.size * self.size),
            available=self._memory.user(available, 4 + 2 * self.size).cast("H"),
            used=whole_used[:4].cast("H"),
            used_ring=whole_used.cast("I"),
        )
        return self._rings

    def _walk(self, rings: _Rings, head: int) -> Chain:
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        at = head
        for _ in range(self.size):
            if at >= self.size:
                raise VhostError(f"queue: descriptor {at} of {self.size}")
            address, length, flags, following = _DESCRIPTOR.unpack_from(rings.descriptors, 16 * at)
            if flags & ~_FLAGS_MASK:
                raise VhostError(f"queue: descriptor flags {flags:#x} were not offered")
            (writable if flags & _WRITE else readable).append(self._memory.guest(address, length))
            if not flags & _NEXT:
                return Chain(head, tuple(readable), tuple(writable))
            at = following
        raise VhostError("queue: the chain of descriptors is a ring")


def total(buffers: Sequence[memoryview]) -> int:
    """Return how many bytes buffers hold together."""
    return sum(len(buffer) for buffer in buffers)


def check_machine() -> None:
    """See that this machine orders stores as this module needs it.

    Raises:
        VhostError: It is no x86-64.
    """
    if platform.machine() != "x86_64":
        raise VhostError(f"an x86-64 machine expected, this is {platform.machine()}")
