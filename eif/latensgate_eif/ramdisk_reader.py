"""Reads a ramdisk back: what an image of unknown origin holds, file by file.

Strict where the writer is: newc headers, entries in a row, one trailer at the end. The kernel is
more lenient (it takes compressed archives and skips what it does not know), so an archive that this
reader refuses may still boot; then its measurements are all that can be said of it.
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Final

from latensgate_eif import limits
from latensgate_eif.image import ImageError
from latensgate_eif.ramdisk import MAGIC, TRAILER, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD_BYTES: Final = 110
_HEX: Final = re.compile(rb"070701((?:[0-9A-Fa-f]{8}){13})")
_ALIGN: Final = 4
_KINDS: Final = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR})
_MODE_MAX: Final = 0xFFFF


def decode_ramdisk(data: bytes) -> dict[str, Entry]:
    """Return the entries of an archive by path.

    Raises:
        ImageError: Not an archive of the form that our writer makes; says where.
    """
    entries: dict[str, Entry] = {}
    for path, entry in _walk(data):
        if path in entries:
            raise ImageError(f"ramdisk: {path!r} stands twice")
        if len(entries) >= limits.RAMDISK_ENTRIES_MAX_COUNT:
            raise ImageError(f"ramdisk: more than {limits.RAMDISK_ENTRIES_MAX_COUNT} entries")
        entries[path] = entry
    return entries


def _walk(data: bytes) -> Iterator[tuple[str, Entry]]:
    at = 0
    while True:
        fields = _fields(data, at)
        _inode, mode, user, group, _links, time, size, _, _, major, minor, name_size, check = fields
        name_at = at + _HEAD_BYTES
        body = _aligned(name_at + name_size)
        if not 1 < name_size <= limits.RAMDISK_NAME_MAX_BYTES or body + size > len(data):
            raise ImageError(f"ramdisk: entry at {at}: its name or content ends beyond the archive")
        name = data[name_at : name_at + name_size]
        path = _text(name, at)
        content = data[body : body + size]
        if path == TRAILER:
            if any(data[body:]):
                raise ImageError(f"ramdisk: content behind the trailer at {at}")
            return
        if user or group or time or check:
            raise ImageError(f"ramdisk: {path!r}: owner 0 and time 0 expected")
        if mode > _MODE_MAX or stat.S_IFMT(mode) not in _KINDS:
            raise ImageError(f"ramdisk: {path!r}: file, folder, link or character device expected")
        yield path, Entry(mode, content, (major, minor))
        at = _aligned(body + size)


def _fields(data: bytes, at: int) -> list[int]:
    match = _HEX.match(data, at)
    if match is None:
        raise ImageError(f"ramdisk: {MAGIC.decode()} and 13 hex numbers expected at {at}")
    digits = match[1]
    return [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]


def _text(name: bytes, at: int) -> str:
    try:
        path = name[:-1].decode()
    except UnicodeDecodeError:
        raise ImageError(f"ramdisk: entry at {at}: a name in UTF-8 expected") from None
    parts = path.split("/")
    if name[-1] or not path.isprintable() or not parts[0] or {"", ".", ".."} & set(parts):
        raise ImageError(f"ramdisk: entry at {at}: a relative path in its shortest form expected")
    return path


def _aligned(at: int) -> int:
    return at + -at % _ALIGN
