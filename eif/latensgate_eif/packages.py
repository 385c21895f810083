"""Reads Debian packages and wheels into entries of a ramdisk, without dpkg and without unpacking.

A .deb is an `ar` archive (deb(5)) whose member ``data.tar.xz`` holds the files; a wheel is a ZIP
file. Both have been checked by hash before, so their content is what was locked; what is refused
here is a form that this reader would get wrong.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Final

from latensgate_eif.inputs import BuildError
from latensgate_eif.ramdisk import Entry, file_entry, folder_entry, link_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC: Final = b"!<arch>\n"
_HEAD_BYTES: Final = 60
_EXECUTABLE: Final = 0o111


def read_deb(name: str, raw: bytes) -> dict[str, Entry]:
    """Return the files of a Debian package by path, with the modes that an image gives them.

    Raises:
        BuildError: Not a package of the known form.
    """
    for member, content in _members(name, raw):
        if member == "data.tar.xz":
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:xz") as archive:
                return dict(_entries(name, archive))
    raise BuildError(f"{name}: a member data.tar.xz expected")


def _members(name: str, raw: bytes) -> Iterator[tuple[str, bytes]]:
    if not raw.startswith(_MAGIC):
        raise BuildError(f"{name}: an ar archive expected")
    at = len(_MAGIC)
    while at + _HEAD_BYTES <= len(raw):
        head = raw[at : at + _HEAD_BYTES]
        size = int(head[48:58])
        body = at + _HEAD_BYTES
        yield head[:16].decode().rstrip().removesuffix("/"), raw[body : body + size]
        at = body + size + size % 2


def _entries(name: str, archive: tarfile.TarFile) -> Iterator[tuple[str, Entry]]:
    for member in archive:
        path = member.name.removeprefix("./").removeprefix(".")
        if not path:
            continue
        if member.isdir():
            yield path, folder_entry()
        elif member.issym():
            yield path, link_entry(member.linkname)
        elif member.isfile():
            opened = archive.extractfile(member)
            assert opened is not None  # noqa: S101  # a regular file has content
            yield path, file_entry(opened.read(), executable=bool(member.mode & _EXECUTABLE))
        elif member.islnk():
            raise BuildError(f"{name}: {path} is a hard link")


def read_wheel(raw: bytes) -> dict[str, bytes]:
    """Return the files of a wheel by path below site-packages."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {one.filename: archive.read(one) for one in archive.infolist() if not one.is_dir()}
