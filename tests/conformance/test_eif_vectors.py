"""Images of the published set: layout, checksum and measurements."""

from __future__ import annotations

import json
from typing import TypedDict, cast

import pytest

from latensgate_eif.image import ImageError, encode_image, parse_image
from latensgate_eif.measure import measure_image, register
from latensgate_eif.signature import parse_signature, verify_signature
from paths import published

VECTORS = published("nitro", "eif", "expected.json")
EXPECTED = json.loads(VECTORS.read_text())


class Expected(TypedDict):
    file: str
    measurements: dict[str, str]


IMAGES = cast("list[Expected]", EXPECTED["images"])
GOOD = [one for one in IMAGES if "bad-crc" not in one["file"]]


def read(name: str) -> bytes:
    return published("nitro", name).read_bytes()


def test_all_are_there() -> None:
    assert len(IMAGES) == 8
    assert len(GOOD) == 7


@pytest.mark.parametrize("one", GOOD, ids=lambda one: one["file"])
def test_measurements_agree(one: Expected) -> None:
    measured = measure_image(parse_image(read(one["file"]))).hex()
    assert measured == one["measurements"]


@pytest.mark.parametrize("one", GOOD, ids=lambda one: one["file"])
def test_writer_makes_the_same_bytes(one: Expected) -> None:
    raw = read(one["file"])
    assert encode_image(parse_image(raw)) == raw


def test_wrong_checksum_is_refused() -> None:
    with pytest.raises(ImageError, match="CRC-32"):
        parse_image(read("eif/synthetic-bad-crc.eif"))


def test_empty_input() -> None:
    assert register(()).hex() == EXPECTED["empty_input_measurement"]


def test_signature_of_the_signed_image() -> None:
    image = parse_image(read("eif/synthetic-signed.eif"))
    assert image.signature is not None
    parsed = parse_signature(image.signature)
    certificate = verify_signature(parsed, measure_image(image).pcr0)
    assert certificate.subject.rfc4514_string() == "CN=synthetic EIF signer"
    with pytest.raises(ImageError, match="another register or value"):
        verify_signature(parsed, bytes(48))
