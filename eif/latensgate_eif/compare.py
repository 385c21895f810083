"""The difference of two images: registers, sections, and file by file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from latensgate_eif.image import ImageError, SectionType
from latensgate_eif.manifest import changed_lines
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk_reader import decode_ramdisk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_eif.image import Image
    from latensgate_eif.ramdisk import Entry


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; None where one of the two images does not have it."""

    what: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs; all empty for equal images.

    Attributes:
        registers: PCRs.
        header: Architecture and defaults; not measured.
        sections: Everything but the ramdisks.
        files: Entries of ramdisks, ``ramdisk N: path``.
    """

    registers: tuple[Change, ...]
    header: tuple[Change, ...]
    sections: tuple[Change, ...]
    files: tuple[Change, ...]

    @property
    def nothing(self) -> bool:
        """Whether the two images are the same."""
        return not (self.registers or self.header or self.sections or self.files)


def compare_images(old: Image, new: Image) -> Difference:
    """Compare two images.

    A ramdisk that cannot be read file by file is compared as a whole.

    Raises:
        ImageError: A signature section is malformed.
    """
    before, after = measure_image(old).hex(), measure_image(new).hex()
    names = sorted({*before, *after})
    return Difference(
        registers=_changes((name, before.get(name), after.get(name)) for name in names),
        header=_changes(
            (
                ("architecture", old.architecture.name, new.architecture.name),
                ("default memory", str(old.default_memory_bytes), str(new.default_memory_bytes)),
                ("default CPUs", str(old.default_cpus), str(new.default_cpus)),
            )
        ),
        sections=_changes(
            (kind.name.lower().replace("_", " "), _whole(old, kind), _whole(new, kind))
            for kind in SectionType
            if kind is not SectionType.RAMDISK
        ),
        files=_files(old, new),
    )


def _changes(rows: Iterable[tuple[str, str | None, str | None]]) -> tuple[Change, ...]:
    return tuple(Change(*row) for row in rows if row[1] != row[2])


def _whole(image: Image, kind: SectionType) -> str | None:
    found = [section.data for section in image.sections if section.type is kind]
    return digest_text(found[0]) if found else None


def digest_text(data: bytes) -> str:
    """Return size and SHA-256 of a section."""
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()}"


def _files(old: Image, new: Image) -> tuple[Change, ...]:
    found: list[Change] = []
    for number, pair in enumerate(zip_longest(old.ramdisks, new.ramdisks)):
        if pair[0] == pair[1]:
            continue
        label = f"ramdisk {number}"
        try:
            sides = [_entries(side) for side in pair]
        except ImageError:
            wholes = (None if side is None else digest_text(side) for side in pair)
            found.append(Change(f"{label} (not readable as files)", *wholes))
            continue
        rows = [Change(f"{label}: {path}", *facts) for path, *facts in changed_lines(*sides)]
        # Equal files in other bytes: the archive itself is written differently.
        found += rows or [Change(label, *(digest_text(side or b"") for side in pair))]
    return tuple(found)


def _entries(ramdisk: bytes | None) -> dict[str, Entry]:
    return {} if ramdisk is None else decode_ramdisk(ramdisk)
