"""Ramdisks: a cpio archive in the newc form, the same bytes for the same content.

Names sorted, owner 0, no times, inode numbers by position: nothing of the builder's machine gets
in. Uncompressed, since decompression is the slowest part of a boot under emulation and no faster
on hardware than reading. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from latensgate_eif import limits
from latensgate_eif.image import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAGIC: Final = b"070701"
TRAILER: Final = "TRAILER!!!"
_ALIGN_FIELD_BYTES: Final = 4
_ALIGN_ARCHIVE_BYTES: Final = 512
_FOLDER_MODE: Final = stat.S_IFDIR | 0o755


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder, link or device.

    Attributes:
        mode: Type and permission bits, as in ``st_mode``.
        data: Content of a file, target of a link.
        device: Major and minor number of a device.
    """

    mode: int
    data: bytes = field(default=b"", repr=False)
    device: tuple[int, int] = (0, 0)


def file_entry(data: bytes, *, executable: bool = False) -> Entry:
    """Return a file that anyone may read and nobody may write."""
    return Entry(stat.S_IFREG | (0o555 if executable else 0o444), data)


def folder_entry() -> Entry:
    """Return an empty folder."""
    return Entry(_FOLDER_MODE)


def link_entry(target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(stat.S_IFLNK | 0o777, target.encode())


def device_entry(major: int, minor: int) -> Entry:
    """Return a character device that root alone may use."""
    return Entry(stat.S_IFCHR | 0o600, device=(major, minor))


def encode_ramdisk(entries: Mapping[str, Entry]) -> bytes:
    """Return the archive of these entries and of the folders above them.

    Args:
        entries: By path, relative, without ``.`` and ``..``.

    Raises:
        ImageError: A path of another form, or a file that is too large.
    """
    whole = {**_folders(entries), **entries}
    out = bytearray()
    for inode, path in enumerate(sorted(whole), 1):
        _append(out, inode, path, whole[path])
    _append(out, 0, TRAILER, Entry(0))
    out += bytes(-len(out) % _ALIGN_ARCHIVE_BYTES)
    return bytes(out)


def _folders(paths: Iterable[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path != "/".join(parts) or ".." in parts or parts[0] == "/":
            raise ImageError(f"ramdisk: {path!r} is no relative path in its shortest form")
        for depth in range(1, len(parts)):
            found["/".join(parts[:depth])] = folder_entry()
    return found


def _append(out: bytearray, inode: int, path: str, entry: Entry) -> None:
    if len(entry.data) > limits.RAMDISK_FILE_MAX_BYTES:
        raise ImageError(f"ramdisk: {path}: at most {limits.RAMDISK_FILE_MAX_BYTES} bytes expected")
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    size = len(entry.data)
    fields = (inode, entry.mode, 0, 0, links, 0, size, 0, 0, *entry.device, len(name), 0)
    out += MAGIC + b"".join(b"%08X" % value for value in fields) + name
    out += bytes(-len(out) % _ALIGN_FIELD_BYTES)
    out += entry.data
    out += bytes(-len(out) % _ALIGN_FIELD_BYTES)
