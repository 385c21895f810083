"""Compare our measurements of images with those of AWS's own image library.

    python scripts/compare_aws.py [IMAGE...]

Without images it takes the published set of tests and, where it is there,
`build/latensgate-core.eif`; and in any case a signed image made here, and one that AWS's library
writes and ours reads. cargo builds the program from the registry of Rust crates. Where that is not
to be had, it says so and ends with 3: nothing was compared. A difference ends it with 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from latensgate_eif.image import (
    Architecture,
    Image,
    Section,
    SectionType,
    encode_image,
    parse_image,
)
from latensgate_eif.measure import measure_image
from latensgate_eif.signature import sign_pcr0
from latensgate_shared.errors import LatensgateError

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PROJECT: Final = REPOSITORY / "eif/aws-check"
BUILT: Final = REPOSITORY / "build/aws-check"
NOT_COMPARED: Final = 3
_SHOWN_LINES: Final = 6


class Said(msgspec.Struct):
    """What AWS's library says of an image; unknown members are left."""

    measurements: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    crc: bool = True
    signature: str | None = None
    refused: str | None = None


def build() -> Path:
    """Return the program that asks AWS's library, built if need be.

    Raises:
        SystemExit: cargo or the crate is not to be had; with its own words.
    """
    if shutil.which("cargo") is None:
        not_compared("cargo is not installed")
    shutil.copytree(PROJECT, BUILT, dirs_exist_ok=True)
    for step in (["fetch"], ["build", "--offline"]):
        command = ["cargo", *step, "--quiet", "--manifest-path", str(BUILT / "Cargo.toml")]
        done = subprocess.run(  # noqa: S603  # own arguments
            command, check=False, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}
        )
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            not_compared(f"cargo {step[0]}: " + "\n".join(words[-_SHOWN_LINES:]))
    return BUILT / "target/debug/aws-check"


def not_compared(reason: str) -> None:
    """Say that nothing was compared, and end."""
    print(f"NOT COMPARED with AWS's image library: {reason}", file=sys.stderr)
    sys.exit(NOT_COMPARED)


def ask(program: Path, *words: str | Path) -> list[Said]:
    """Run the program; each line it prints is an answer."""
    command = [str(program), *(str(word) for word in words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603  # own program
    return [msgspec.json.decode(line, type=Said) for line in done.stdout.splitlines()]


def ours(image: Path) -> dict[str, str] | None:
    """Return our measurements, or None for what we refuse."""
    try:
        return measure_image(parse_image(image.read_bytes())).hex()
    except LatensgateError:
        return None


def theirs(said: Said) -> dict[str, str] | None:
    """Return AWS's measurements, or None for what it refuses or finds damaged."""
    if said.refused is not None or not said.crc:
        return None
    return {name: value for name, value in said.measurements.items() if name.startswith("PCR")}


def compare(image: Path, said: Said) -> bool:
    """Say whether both agree on an image."""
    one, other = ours(image), theirs(said)
    told = "both refuse it" if one is None else f"PCR0 {one['PCR0'][:16]}… and the others"
    if said.signature is not None:
        told += f", signature {said.signature}"
    if one != other:
        told = f"ours {json.dumps(one)}, AWS's {json.dumps(other)} {said.refused or ''}"
    print(f"{'same' if one == other else 'DIFFERENT'}: {image.name}: {told}", flush=True)
    return one == other


def parts(folder: Path) -> list[Path]:
    """Write a kernel and two ramdisks that no machine would boot."""
    made = [folder / name for name in ("kernel", "first", "second")]
    for number, path in enumerate(made):
        path.write_bytes(bytes(range(256)) * (number + 3))
    return made


def signed_image(folder: Path) -> Path:
    """Make an image and sign it with a key of its own."""
    kernel, *ramdisks = (path.read_bytes() for path in parts(folder))
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image signer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA384())
    )
    sections = (
        Section(SectionType.KERNEL, kernel),
        Section(SectionType.COMMAND_LINE, b"console=ttyS0"),
        *(Section(SectionType.RAMDISK, ramdisk) for ramdisk in ramdisks),
    )
    pcr0 = measure_image(Image(Architecture.X86_64, 0, 0, sections)).pcr0
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    signature = Section(SectionType.SIGNATURE, sign_pcr0(pcr0, pem, key))
    path = folder / "signed-here.eif"
    path.write_bytes(encode_image(Image(Architecture.X86_64, 0, 0, (*sections, signature))))
    return path


def written_by_aws(program: Path, folder: Path) -> Path:
    """Have AWS's library write an image."""
    path = folder / "written-by-aws.eif"
    kernel, *ramdisks = parts(folder)
    ask(program, "write", path, kernel, "console=ttyS0", *ramdisks)
    return path


def given() -> list[Path]:
    """Return the images to compare."""
    if len(sys.argv) > 1:
        return [Path(word) for word in sys.argv[1:]]
    vectors = Path(os.environ.get("LATENSGATE_VECTORS", REPOSITORY / "../shared/vectors"))
    core = REPOSITORY / "build/latensgate-core.eif"
    images = sorted((vectors / "nitro/eif").glob("*.eif")) + [core] * core.is_file()
    if not core.is_file():
        print(f"no {core.relative_to(REPOSITORY)}: make image first to compare it, too")
    return images


def main() -> None:
    """Build, ask, compare."""
    program = build()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = [*given(), signed_image(folder), written_by_aws(program, folder)]
        said = ask(program, "read", *images)
        agreed = [compare(image, one) for image, one in zip(images, said, strict=True)]
    valid = said[-2].signature == "valid"
    print(f"{sum(agreed)} of {len(agreed)} the same; our signature is {said[-2].signature}")
    sys.exit(0 if all(agreed) and valid else 1)


if __name__ == "__main__":
    main()
