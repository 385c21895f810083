"""The layout of an image: sections, header, checksum; a strict reader and a writer.

Source: aws-nitro-enclaves-image-format, `src/defs/mod.rs` and `src/utils/eif_reader.rs`. All
numbers are big-endian.

    header, 548 bytes: ".eif", u16 version, u16 flags, u64 memory, u64 CPUs, u16 reserved,
                       u16 section count, u64[32] offsets, u64[32] sizes, u32 unused, u32 CRC-32
    section:           u16 type, u16 flags, u64 size, then the data

The reader takes exactly what the writer makes: sections in a row without gaps, tables that agree
with the section headers, nothing behind the last one. Two readers of one image then see the same
sections, which the measurements alone do not ensure: they hash neither lengths nor types.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final

from latensgate_eif import limits
from latensgate_shared.errors import MalformedError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b".eif"
VERSION: Final = 4
HEADER_BYTES: Final = 548
SECTION_HEADER_BYTES: Final = 12
_TABLES: Final = limits.SECTIONS_MAX_COUNT
_HEADER: Final = struct.Struct(f">4sHHQQHH{_TABLES}Q{_TABLES}QII")
_SECTION: Final = struct.Struct(">HHQ")
_CRC_AT: Final = HEADER_BYTES - 4


class ImageError(MalformedError):
    """Bytes that are no image as this page describes it."""


class Architecture(Enum):
    """The machine that an image is for; the value is the header's flags."""

    X86_64 = 0
    AARCH64 = 1


class SectionType(IntEnum):
    """What a section holds."""

    KERNEL = 1
    COMMAND_LINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


@dataclass(frozen=True, slots=True)
class Section:
    """One section."""

    type: SectionType
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Image:
    """What an image holds. Nothing says yet who made it.

    Attributes:
        architecture: From the header's flags.
        default_memory_bytes: What a launcher takes without a wish; not measured.
        default_cpus: The same.
        sections: In the order in which they stand.
    """

    architecture: Architecture
    default_memory_bytes: int
    default_cpus: int
    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        _check_sections(self.sections)

    @property
    def kernel(self) -> bytes:
        """The kernel."""
        return self._only(SectionType.KERNEL)

    @property
    def command_line(self) -> bytes:
        """The kernel's command line."""
        return self._only(SectionType.COMMAND_LINE)

    @property
    def ramdisks(self) -> tuple[bytes, ...]:
        """The ramdisks, in order; the kernel gets them joined."""
        return tuple(s.data for s in self.sections if s.type is SectionType.RAMDISK)

    @property
    def metadata(self) -> bytes | None:
        """JSON about the build; not measured, so never to be believed."""
        return self._at_most_one(SectionType.METADATA)

    @property
    def signature(self) -> bytes | None:
        """The signature section."""
        return self._at_most_one(SectionType.SIGNATURE)

    def _only(self, wanted: SectionType) -> bytes:
        return next(s.data for s in self.sections if s.type is wanted)

    def _at_most_one(self, wanted: SectionType) -> bytes | None:
        return next((s.data for s in self.sections if s.type is wanted), None)


_SIZE_LIMITS: Final = {
    SectionType.COMMAND_LINE: limits.COMMAND_LINE_MAX_BYTES,
    SectionType.METADATA: limits.METADATA_MAX_BYTES,
    SectionType.SIGNATURE: limits.SIGNATURE_MAX_BYTES,
}


def _check_sections(sections: Sequence[Section]) -> None:
    kinds = [section.type for section in sections]
    if kinds[:2] != [SectionType.KERNEL, SectionType.COMMAND_LINE]:
        raise ImageError("image: kernel and command line expected as the first two sections")
    for kind in SectionType:
        if kind is not SectionType.RAMDISK and kinds.count(kind) > 1:
            raise ImageError(f"image: at most one {kind.name} expected, found {kinds.count(kind)}")
    if SectionType.RAMDISK not in kinds:
        raise ImageError("image: at least one ramdisk expected, found none")
    if SectionType.SIGNATURE in kinds[:-1]:
        raise ImageError("image: the signature expected as the last section")
    if len(kinds) > limits.SECTIONS_MAX_COUNT:
        raise ImageError(f"image: at most {limits.SECTIONS_MAX_COUNT} sections expected")
    for section in sections:
        limit = _SIZE_LIMITS.get(section.type)
        if limit is not None and len(section.data) > limit:
            raise TooLargeError(f"image: {section.type.name} of at most {limit} bytes expected")


def encode_image(image: Image) -> bytes:
    """Return the bytes of an image: the same for the same value, anywhere."""
    offsets = [0] * _TABLES
    sizes = [0] * _TABLES
    at = HEADER_BYTES
    body = bytearray()
    for number, section in enumerate(image.sections):
        offsets[number], sizes[number] = at, len(section.data)
        body += _SECTION.pack(section.type, 0, len(section.data)) + section.data
        at += SECTION_HEADER_BYTES + len(section.data)
    head = _HEADER.pack(
        MAGIC,
        VERSION,
        image.architecture.value,
        image.default_memory_bytes,
        image.default_cpus,
        0,
        len(image.sections),
        *offsets,
        *sizes,
        0,
        0,
    )[:_CRC_AT]
    checksum = zlib.crc32(body, zlib.crc32(head))
    return head + struct.pack(">I", checksum) + bytes(body)


@dataclass(frozen=True, slots=True)
class _Header:
    architecture: Architecture
    memory_bytes: int
    cpus: int
    places: tuple[tuple[int, int], ...]
    checksum: int


def parse_image(data: bytes) -> Image:
    """Read an image, whole or not at all.

    Args:
        data: At most ``IMAGE_MAX_BYTES`` bytes.

    Raises:
        TooLargeError: A length above its limit.
        ImageError: Anything else that is not the layout; the text says what and where.
    """
    if len(data) > limits.IMAGE_MAX_BYTES:
        raise TooLargeError(f"image: at most {limits.IMAGE_MAX_BYTES} bytes expected")
    header = _parse_header(data)
    sections, end = _parse_sections(data, header)
    if end != len(data):
        raise ImageError(f"image: {len(data) - end} bytes after the last section")
    found = zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[:_CRC_AT]))
    if found != header.checksum:
        raise ImageError(f"image: CRC-32 is {found:08x}, the header says {header.checksum:08x}")
    return Image(header.architecture, header.memory_bytes, header.cpus, sections)


def _parse_header(data: bytes) -> _Header:
    if len(data) < HEADER_BYTES:
        raise ImageError(f"header: {HEADER_BYTES} bytes expected, found {len(data)}")
    magic, version, flags, memory, cpus, reserved, count, *rest = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ImageError('header: ".eif" expected at its start')
    if version != VERSION:
        raise ImageError(f"header: version {VERSION} expected, found {version}")
    if flags not in {architecture.value for architecture in Architecture}:
        raise ImageError(f"header: flags 0 or 1 expected, found {flags}")
    if reserved or rest[-2]:
        raise ImageError("header: zero expected in its reserved fields")
    if not 1 <= count <= limits.SECTIONS_MAX_COUNT:
        raise ImageError(f"header: 1 to {limits.SECTIONS_MAX_COUNT} sections expected, not {count}")
    places = tuple(zip(rest[:_TABLES], rest[_TABLES : 2 * _TABLES], strict=True))
    if any(offset or size for offset, size in places[count:]):
        raise ImageError("header: zero expected in the unused places of its tables")
    return _Header(Architecture(flags), memory, cpus, places[:count], rest[-1])


def _parse_sections(data: bytes, header: _Header) -> tuple[tuple[Section, ...], int]:
    sections: list[Section] = []
    at = HEADER_BYTES
    for number, (offset, size) in enumerate(header.places):
        where = f"section {number}"
        if offset != at:
            raise ImageError(f"{where}: offset {at} expected, the header says {offset}")
        body = at + SECTION_HEADER_BYTES
        if body > len(data) or size > len(data) - body:
            raise ImageError(f"{where}: {size} bytes expected, the image ends before")
        sections.append(_parse_section(data, at, size, where))
        at = body + size
    return tuple(sections), at


def _parse_section(data: bytes, at: int, size: int, where: str) -> Section:
    kind, flags, told = _SECTION.unpack_from(data, at)
    if kind not in {known.value for known in SectionType}:
        raise ImageError(f"{where}: type 1 to 5 expected, found {kind}")
    if flags:
        raise ImageError(f"{where}: flags 0 expected, found {flags}")
    if told != size:
        raise ImageError(f"{where}: its own size is {told}, the header says {size}")
    body = at + SECTION_HEADER_BYTES
    return Section(SectionType(kind), data[body : body + size])
