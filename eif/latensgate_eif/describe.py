"""What is to be seen of an image, as plain values: for people and for programs.

Nothing in here believes the image. Texts of unknown origin are shown with every character escaped
that a terminal could obey, and metadata is called what it is: unmeasured words of whoever wrote it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from latensgate_eif.image import Image, ImageError, Section, SectionType
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk_reader import decode_ramdisk
from latensgate_eif.signature import parse_signature, verify_signature
from latensgate_shared.errors import LatensgateError

_SHOWN_CHARACTERS: Final = 4_096


@dataclass(frozen=True, slots=True)
class SectionFacts:
    """One section; ``entries`` is None where it is no archive that can be read file by file."""

    number: int
    type: str
    bytes: int
    sha256: str
    entries: int | None


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """A signature; ``reason`` says what is wrong with it, None if its key did sign this PCR0."""

    certificate_sha256: str
    subject: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Description:
    """What an image holds, for people and programs.

    Attributes:
        measurements: Registers by name, hex.
        command_line: Of the kernel, escaped.
        signature: None for an unsigned image.
        metadata_unmeasured: Words of whoever wrote the file, escaped.
    """

    architecture: str
    default_memory_bytes: int
    default_cpus: int
    measurements: dict[str, str]
    command_line: str
    sections: tuple[SectionFacts, ...]
    signature: SignatureFacts | None
    metadata_unmeasured: str | None


def describe(image: Image) -> Description:
    """Return what an image holds.

    Raises:
        MalformedError: Its signature section is of another form, so it has no PCR8.
    """
    registers = measure_image(image)
    return Description(
        architecture=image.architecture.name.lower(),
        default_memory_bytes=image.default_memory_bytes,
        default_cpus=image.default_cpus,
        measurements=registers.hex(),
        command_line=shown(image.command_line),
        sections=tuple(_section(number, one) for number, one in enumerate(image.sections)),
        signature=_signature(image, registers.pcr0),
        metadata_unmeasured=None if image.metadata is None else shown(image.metadata),
    )


def shown(data: bytes) -> str:
    """Return bytes as text without anything that a terminal obeys, at most 4,096 characters."""
    text = data.decode("utf-8", "backslashreplace")[:_SHOWN_CHARACTERS]
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _section(number: int, section: Section) -> SectionFacts:
    entries = None
    if section.type is SectionType.RAMDISK:
        with suppress(ImageError):
            entries = len(decode_ramdisk(section.data))
    digest = hashlib.sha256(section.data).hexdigest()
    return SectionFacts(number, section.type.name.lower(), len(section.data), digest, entries)


def _signature(image: Image, pcr0: bytes) -> SignatureFacts | None:
    if image.signature is None:
        return None
    parsed = parse_signature(image.signature)
    digest = hashlib.sha256(parsed.certificate_der).hexdigest()
    try:
        certificate = verify_signature(parsed, pcr0)
        subject = certificate.subject.rfc4514_string()
    except LatensgateError as error:
        return SignatureFacts(digest, "", error.detail)
    except ValueError:  # a certificate may parse and its names not
        return SignatureFacts(digest, "", "certificate: its subject is malformed")
    return SignatureFacts(digest, shown(subject.encode("utf-8", "backslashreplace")), None)
