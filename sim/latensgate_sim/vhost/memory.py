"""The guest's memory, as QEMU shares it.

A guest decides every address in its rings and descriptors, so each is looked up and checked whole.
Two kinds of address name the same bytes: the guest's own (in descriptors) and QEMU's (for rings).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.wire import DESCRIPTORS_MAX_COUNT

if TYPE_CHECKING:
    from latensgate_sim.vhost.wire import Message

_COUNT: Final = struct.Struct("<II")
_REGION: Final = struct.Struct("<QQQQ")


@dataclass(frozen=True, slots=True)
class _Region:
    guest: int
    size: int
    user: int
    view: memoryview


@dataclass(frozen=True, slots=True)
class GuestMemory:
    """All regions. Views stay valid as long as somebody holds them."""

    regions: tuple[_Region, ...] = field(default=())

    @classmethod
    def map(cls, message: Message) -> GuestMemory:
        """Map what SET_MEM_TABLE names; its descriptors stay the caller's.

        Raises:
            VhostError: The table is malformed, or cannot be mapped.
        """
        count, _ = message.unpack(_COUNT)
        if not 1 <= count <= DESCRIPTORS_MAX_COUNT or count != len(message.descriptors):
            raise VhostError(f"memory: a descriptor for each region expected, found {count}")
        if len(message.payload) < _COUNT.size + count * _REGION.size:
            raise VhostError(f"memory: {count} regions expected in the payload")
        regions: list[_Region] = []
        for number, descriptor in enumerate(message.descriptors):
            at = _COUNT.size + number * _REGION.size
            guest, size, user, offset = _REGION.unpack_from(message.payload, at)
            regions.append(_Region(guest, size, user, _map(descriptor, offset, size)))
        return cls(tuple(regions))

    def guest(self, address: int, length: int) -> memoryview:
        """Return bytes by the guest's address.

        Raises:
            VhostError: They do not lie within one region.
        """
        for region in self.regions:
            at = address - region.guest
            if at >= 0 and at + length <= region.size:
                return region.view[at : at + length]
        raise VhostError(f"memory: {length} bytes at guest address {address:#x} are not there")

    def user(self, address: int, length: int) -> memoryview:
        """Return bytes by QEMU's address.

        Raises:
            VhostError: They do not lie within one region.
        """
        for region in self.regions:
            at = address - region.user
            if at >= 0 and at + length <= region.size:
                return region.view[at : at + length]
        raise VhostError(f"memory: {length} bytes at user address {address:#x} are not there")


def _map(descriptor: int, offset: int, size: int) -> memoryview:
    try:
        whole = memoryview(mmap.mmap(descriptor, offset + size))
    except (OSError, ValueError, OverflowError) as error:
        raise VhostError(f"memory: cannot be mapped: {error}") from None
    return whole[offset : offset + size]
