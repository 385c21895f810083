"""Measurements of a release, in a form to commit: what was built, what it measures, how to rebuild.

    eif/measurements/<version>.json
    {"version": "0.1.0", "images": [{"flavour", "deployment_digest", "roots_sha256", "PCR0", …}]}

Whoever runs a release adds the digest of their own `deployment.toml`; PCR1 is the same for all.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import msgspec

from latensgate_eif.application import Flavour  # noqa: TC001  # msgspec reads annotations
from latensgate_eif.inputs import BuildError
from latensgate_eif.measure import measure_image

if TYPE_CHECKING:
    from latensgate_eif.assemble import Assembled, Recipe
    from latensgate_eif.inputs import Inputs


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image of a release.

    Attributes:
        deployment_digest: ``sha384:`` and hex, as the manifest and the KMS context state it.
        inputs_sha256: Of `inputs.lock`.
        kernel_sha256: Of the kernel.
        application_sha256: Of the second ramdisk, which holds our code.
        command: Rebuilds the image in a checkout of this release.
    """

    flavour: Flavour
    deployment_digest: str
    inputs_sha256: str
    kernel_sha256: str
    application_sha256: str
    command: str
    pcr0: str = msgspec.field(name="PCR0")
    pcr1: str = msgspec.field(name="PCR1")
    pcr2: str = msgspec.field(name="PCR2")


class ReleaseRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All measured images of a release."""

    version: str
    images: tuple[Measured, ...]


def measured(assembled: Assembled, recipe: Recipe, inputs: Inputs, command: str) -> Measured:
    """Return the record of an image just made."""
    image = assembled.image
    registers = measure_image(image)
    return Measured(
        flavour=recipe.flavour,
        deployment_digest="sha384:" + hashlib.sha384(recipe.deployment).hexdigest(),
        inputs_sha256=inputs.digest,
        kernel_sha256=hashlib.sha256(image.kernel).hexdigest(),
        application_sha256=hashlib.sha256(image.ramdisks[1]).hexdigest(),
        command=command,
        pcr0=registers.pcr0.hex(),
        pcr1=registers.pcr1.hex(),
        pcr2=registers.pcr2.hex(),
    )


def parse_record(raw: bytes) -> ReleaseRecord:
    """Read a release's record.

    Raises:
        BuildError: Not of this form.
    """
    try:
        return msgspec.json.decode(raw, type=ReleaseRecord, strict=True)
    except msgspec.DecodeError as error:
        raise BuildError(f"measurements: {error}") from None


def with_image(record: ReleaseRecord, image: Measured) -> ReleaseRecord:
    """Return the record with this image in the place of an earlier one of its kind."""
    others = (one for one in record.images if _kind(one) != _kind(image))
    return ReleaseRecord(record.version, tuple(sorted((*others, image), key=_kind)))


def _kind(image: Measured) -> tuple[str, str]:
    return image.flavour.value, image.deployment_digest


def record_text(record: ReleaseRecord) -> str:
    """Return the record as it is committed."""
    return json.dumps(msgspec.to_builtins(record), indent=1) + "\n"
