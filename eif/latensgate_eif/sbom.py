"""The bill of materials of an image, as CycloneDX 1.6 (ECMA-424), without time and chance."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from latensgate_eif.inputs import Inputs, Package, Wheel

if TYPE_CHECKING:
    from latensgate_eif.image import Image

_OWN: Final = ("latensgate-shared", "latensgate-enclave", "latensgate-init")


def bill_of_materials(
    inputs: Inputs, image: Image, name: str, version: str, *, names: bool = False
) -> str:
    """Return the bill as JSON.

    Args:
        inputs: What went in.
        image: What came out; named by the SHA-256 of its measured sections.
        name: Of the image, such as ``latensgate-core``.
        version: Of the release.
        names: Whether the image finds names, and has what that needs.
    """
    measured = hashlib.sha256(b"".join((image.kernel, image.command_line, *image.ramdisks)))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "firmware",
                "name": name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": measured.hexdigest()}],
            },
            "tools": {
                "components": [
                    {"type": "application", "name": "gcc", "version": inputs.toolchain.gcc},
                    {"type": "application", "name": "ld", "version": inputs.toolchain.ld},
                ]
            },
        },
        "components": [
            *({"type": "library", "name": own, "version": version} for own in _OWN),
            *(_component(one) for one in (inputs.all if names else inputs.core)),
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _component(one: Package | Wheel) -> dict[str, object]:
    if isinstance(one, Package):
        kind = "operating-system" if one.use == "kernel" else "library"
        version = quote(one.version, safe="")
        purl = f"pkg:deb/debian/{one.name}@{version}?arch={one.architecture}"
    else:
        kind, purl = "library", f"pkg:pypi/{one.name}@{one.version}"
    return {
        "type": kind,
        "name": one.name,
        "version": one.version,
        "purl": purl,
        "bom-ref": purl,
        "hashes": [{"alg": "SHA-256", "content": one.sha256}],
    }
