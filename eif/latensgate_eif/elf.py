"""Which shared libraries an ELF file asks for: enough to see that an image has them all.

Source: System V ABI, chapters 4 and 5; 64 bits, little-endian.
"""

from __future__ import annotations

import struct
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"
_HEADER: Final = struct.Struct("<32xQ14xHH")  # e_phoff, e_phentsize, e_phnum
_PROGRAM: Final = struct.Struct("<IIQQQQ")  # p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz
_DYNAMIC: Final = struct.Struct("<QQ")
_LOAD: Final = 1
_DYNAMIC_SEGMENT: Final = 2
_NEEDED: Final = 1
_STRING_TABLE: Final = 5


def is_elf(data: bytes) -> bool:
    """Whether this is an ELF file that this module reads."""
    return data.startswith(_MAGIC)


def needed_libraries(data: bytes) -> list[str]:
    """Return the names of the libraries that an ELF file needs, none for a static one."""
    offset, size, count = _HEADER.unpack_from(data)
    heads = [_PROGRAM.unpack_from(data, offset + size * number) for number in range(count)]
    loads = [(head[3], head[2], head[5]) for head in heads if head[0] == _LOAD]
    entries = [
        _DYNAMIC.unpack_from(data, at)
        for head in heads
        if head[0] == _DYNAMIC_SEGMENT
        for at in range(head[2], head[2] + head[5], _DYNAMIC.size)
    ]
    addresses = [value for tag, value in entries if tag == _STRING_TABLE]
    if not addresses:
        return []
    (strings,) = [
        place + addresses[0] - start
        for start, place, length in loads
        if start <= addresses[0] < start + length
    ]
    return [_text(data, strings + value) for tag, value in entries if tag == _NEEDED]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
