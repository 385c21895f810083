"""The registers of an image: what NSM and KMS will say of an enclave that was started from it.

Source: aws-nitro-enclaves-image-format, `src/utils/eif_hasher.rs` and `src/utils/mod.rs`.
``PCRn = SHA-384(48 zero bytes || SHA-384(input))``. No length and no type is hashed, so bytes may
move over the border of kernel and command line, or of ramdisks, without changing PCR0: demand
PCR0, PCR1 and PCR2 together.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from latensgate_eif.signature import parse_signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_eif.image import Image

_ZERO: Final = bytes(48)


@dataclass(frozen=True, slots=True)
class ImageMeasurements:
    """48 bytes each.

    Attributes:
        pcr0: Kernel, command line, all ramdisks.
        pcr1: Kernel, command line, first ramdisk.
        pcr2: The ramdisks after the first.
        pcr8: The certificate that signed; None for an unsigned image.
    """

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes
    pcr8: bytes | None = None

    def hex(self) -> dict[str, str]:
        """Return the registers by name, in lower hex."""
        named = {"PCR0": self.pcr0, "PCR1": self.pcr1, "PCR2": self.pcr2}
        if self.pcr8 is not None:
            named["PCR8"] = self.pcr8
        return {name: value.hex() for name, value in named.items()}


def register(pieces: Iterable[bytes]) -> bytes:
    """Return what a register holds that was extended once, from zero, with these bytes' digest."""
    digest = sha384()
    for piece in pieces:
        digest.update(piece)
    return sha384(_ZERO + digest.digest()).digest()


def measure_image(image: Image) -> ImageMeasurements:
    """Return the registers of an image.

    Raises:
        ImageError: Its signature section is not what nitro-cli writes.
    """
    base = (image.kernel, image.command_line)
    first, *others = image.ramdisks
    signature = image.signature
    return ImageMeasurements(
        pcr0=register((*base, first, *others)),
        pcr1=register((*base, first)),
        pcr2=register(others),
        pcr8=None if signature is None else register((parse_signature(signature).certificate_der,)),
    )
