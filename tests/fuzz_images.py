"""Fuzz targets for images and ramdisks: small ones that are read, written and described again."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict

from eif_examples import FIRST, example_image, signer
from latensgate_eif.describe import describe
from latensgate_eif.image import (
    HEADER_BYTES,
    Section,
    SectionType,
    encode_image,
    parse_image,
)
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk import encode_ramdisk
from latensgate_eif.ramdisk_reader import decode_ramdisk
from latensgate_eif.signature import sign_pcr0
from latensgate_shared.errors import LatensgateError

_CRC_AT = HEADER_BYTES - 4


def fuzz_image(data: bytes) -> None:
    """An image with its checksum put right: what parses is written again, and can be described."""
    if len(data) >= HEADER_BYTES:
        checksum = zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[:_CRC_AT]))
        data = data[:_CRC_AT] + struct.pack(">I", checksum) + data[HEADER_BYTES:]
    try:
        image = parse_image(data)
        if encode_image(image) != data:
            raise AssertionError("an image does not survive a round trip")
        facts = asdict(describe(image))
    except LatensgateError:
        return
    said = json.dumps(facts, ensure_ascii=False)
    if not said.isprintable():
        raise AssertionError("a description holds what a terminal obeys")


def image_seeds() -> tuple[bytes, ...]:
    """Return images of every kind of section."""
    pem, key = signer()
    image = example_image()
    signature = Section(SectionType.SIGNATURE, sign_pcr0(measure_image(image).pcr0, pem, key))
    return encode_image(image), encode_image(example_image(signature))


def fuzz_ramdisk(data: bytes) -> None:
    """A ramdisk: paths are relative and printable, and their content lies inside."""
    try:
        entries = decode_ramdisk(data)
    except LatensgateError:
        return
    for path, entry in entries.items():
        if path.startswith("/") or ".." in path.split("/") or not path.isprintable():
            raise AssertionError("a path leads outside")
        if entry.data not in data:
            raise AssertionError("content that is not in the archive")


def ramdisk_seeds() -> tuple[bytes, ...]:
    """Return archives of every kind of entry."""
    return (encode_ramdisk(FIRST),)
