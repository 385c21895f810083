"""Commands for any image: build, measure, inspect, sign, diff."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from latensgate_eif import limits
from latensgate_eif.compare import Change, Difference, compare_images
from latensgate_eif.describe import describe, shown
from latensgate_eif.exits import EPILOG, Exit
from latensgate_eif.files import READABLE, read_bounded, read_image, write_whole
from latensgate_eif.image import (
    Architecture,
    Image,
    ImageError,
    Section,
    SectionType,
    encode_image,
)
from latensgate_eif.measure import measure_image
from latensgate_eif.record import parse_record
from latensgate_eif.signature import sign_pcr0
from latensgate_eif.views import show_description, show_difference, show_measurements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from latensgate_eif.measure import ImageMeasurements

as_json = click.option("--json", "as_json", is_flag=True, help="Print the same for programs.")
out = click.option("--out", type=READABLE, required=True, help="Where the image is written.")


@click.command(epilog=EPILOG)
@click.option("--kernel", type=READABLE, required=True, help="bzImage or ELF.")
@click.option("--command-line", required=True, help="The kernel's command line.")
@click.option(
    "--ramdisk", "ramdisks", type=READABLE, required=True, multiple=True, help="In order."
)
@click.option("--metadata", type=READABLE, help="JSON for tools of AWS; never measured.")
@click.option(
    "--architecture", type=click.Choice(["x86_64", "aarch64"]), default="x86_64", show_default=True
)
@click.option("--memory-bytes", type=click.IntRange(0, 2**63), default=512 * 1024**2)
@click.option("--cpus", type=click.IntRange(0, 4096), default=2)
@out
@as_json
def build(  # noqa: PLR0913  # click names one argument an option
    *,
    kernel: Path,
    command_line: str,
    ramdisks: Sequence[Path],
    metadata: Path | None,
    architecture: str,
    memory_bytes: int,
    cpus: int,
    out: Path,
    as_json: bool,
) -> int:
    """Join a kernel, a command line and ramdisks of your own into an image.

    Latensgate's own image is made by: assemble.
    """
    sections = [
        Section(SectionType.KERNEL, read_bounded(kernel)),
        Section(SectionType.COMMAND_LINE, command_line.encode()),
    ]
    if metadata is not None:
        text = read_bounded(metadata, limits.METADATA_MAX_BYTES)
        sections.append(Section(SectionType.METADATA, text))
    sections += [Section(SectionType.RAMDISK, read_bounded(ramdisk)) for ramdisk in ramdisks]
    image = Image(Architecture[architecture.upper()], memory_bytes, cpus, tuple(sections))
    write_whole(out, encode_image(image))
    show_measurements(measure_image(image), as_json=as_json)
    return Exit.DONE


@click.command(epilog=EPILOG)
@click.argument("image", type=READABLE)
@click.option("--pcr0", metavar="HEX", help="Expected PCR0, with --pcr1 and --pcr2.")
@click.option("--pcr1", metavar="HEX")
@click.option("--pcr2", metavar="HEX")
@click.option("--record", type=READABLE, help="Expected in it: eif/measurements/<version>.json.")
@as_json
def measure(  # noqa: PLR0913  # click names one argument an option
    *,
    image: Path,
    pcr0: str | None,
    pcr1: str | None,
    pcr2: str | None,
    record: Path | None,
    as_json: bool,
) -> int:
    """Compute the registers that NSM and KMS will state of an enclave started from IMAGE.

    Of a debug enclave they state zeros. PCR0 alone says too little: bytes may move from one section
    to the next without changing it.
    """
    given = [value.lower() for value in (pcr0, pcr1, pcr2) if value is not None]
    if len(given) not in {0, 3}:
        raise click.UsageError("--pcr0, --pcr1 and --pcr2 go together: one alone proves too little")
    measured = measure_image(read_image(image))
    accepted = [tuple(given)] if given else []
    if record is not None:
        release = parse_record(read_bounded(record, limits.METADATA_MAX_BYTES))
        accepted += [(one.pcr0, one.pcr1, one.pcr2) for one in release.images]
    show_measurements(measured, as_json=as_json)
    if (given or record is not None) and _registers(measured) not in accepted:
        click.echo("Error: these are not the measurements that you expect", err=True)
        return Exit.MEASUREMENTS
    return Exit.DONE


def _registers(measured: ImageMeasurements) -> tuple[str, str, str]:
    return measured.pcr0.hex(), measured.pcr1.hex(), measured.pcr2.hex()


@click.command(epilog=EPILOG)
@click.argument("image", type=READABLE)
@as_json
def inspect(*, image: Path, as_json: bool) -> int:
    """Show what IMAGE holds. Safe for images of unknown origin; nothing in it is executed.

    Metadata is shown, and never believed: no register covers it.
    """
    facts = describe(read_image(image))
    if as_json:
        click.echo(json.dumps(asdict(facts), indent=1))
    else:
        show_description(facts)
    wrong = facts.signature is not None and facts.signature.reason is not None
    return Exit.UNTRUSTED if wrong else Exit.DONE


@click.command(epilog=EPILOG)
@click.argument("image", type=READABLE)
@click.option("--certificate", type=READABLE, required=True, help="PEM; PCR8 is made of it.")
@click.option("--key", type=READABLE, required=True, help="Its P-384 key, PEM, not encrypted.")
@out
@as_json
def sign(*, image: Path, certificate: Path, key: Path, out: Path, as_json: bool) -> int:
    """Sign PCR0 of IMAGE; a signature that is there is replaced.

    The same key and image give the same bytes (RFC 6979).
    """
    unsigned = read_image(image)
    pem = read_bounded(certificate, limits.CERTIFICATE_MAX_BYTES)
    private = _private_key(read_bounded(key, limits.CERTIFICATE_MAX_BYTES))
    section = sign_pcr0(measure_unsigned(unsigned).pcr0, pem, private)
    kept = [one for one in unsigned.sections if one.type is not SectionType.SIGNATURE]
    signed = Image(
        unsigned.architecture,
        unsigned.default_memory_bytes,
        unsigned.default_cpus,
        (*kept, Section(SectionType.SIGNATURE, section)),
    )
    write_whole(out, encode_image(signed))
    show_measurements(measure_image(signed), as_json=as_json)
    return Exit.DONE


def measure_unsigned(image: Image) -> ImageMeasurements:
    """Measure an image without looking at its signature, which is about to be replaced."""
    kept = tuple(one for one in image.sections if one.type is not SectionType.SIGNATURE)
    return measure_image(
        Image(image.architecture, image.default_memory_bytes, image.default_cpus, kept)
    )


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ImageError("signing key: a P-384 key in PEM, not encrypted, expected") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ImageError("signing key: a P-384 key in PEM, not encrypted, expected")
    return key


@click.command(epilog=EPILOG)
@click.argument("old", type=READABLE)
@click.argument("new", type=READABLE)
@as_json
def diff(*, old: Path, new: Path, as_json: bool) -> int:
    """Compare two images: registers, sections, and each file of their ramdisks."""
    difference = compare_images(read_image(old), read_image(new))
    if as_json:
        click.echo(json.dumps(asdict(difference), indent=1))
    else:
        show_difference(_safe(difference))
    return Exit.DONE if difference.nothing else Exit.DIFFERENT


def _safe(difference: Difference) -> Difference:
    """Return the same with paths that a terminal cannot obey."""
    files = (Change(shown(one.what.encode()), one.old, one.new) for one in difference.files)
    return replace(difference, files=tuple(files))
