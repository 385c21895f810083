from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest

from eif_examples import FIRST, example_image, signer
from latensgate_eif import limits
from latensgate_eif.image import (
    HEADER_BYTES,
    SECTION_HEADER_BYTES,
    Architecture,
    Image,
    ImageError,
    Section,
    SectionType,
    encode_image,
    parse_image,
)
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk import encode_ramdisk
from latensgate_eif.signature import parse_signature, sign_pcr0, verify_signature
from latensgate_shared import cbor
from latensgate_shared.errors import MalformedError, TooLargeError

GOOD = encode_image(example_image())
COUNT_AT, OFFSETS_AT, SIZES_AT, CRC_AT = 26, 28, 284, 544
FIRST_SECTION, SECOND_SECTION = HEADER_BYTES, HEADER_BYTES + SECTION_HEADER_BYTES + 8
SECTIONS = 5


def with_checksum(raw: bytes | bytearray) -> bytes:
    body = bytes(raw)
    crc = zlib.crc32(body[HEADER_BYTES:], zlib.crc32(body[:CRC_AT]))
    return body[:CRC_AT] + crc.to_bytes(4, "big") + body[HEADER_BYTES:]


def put(form: str, at: int, value: int) -> Callable[[bytearray], None]:
    return lambda raw: struct.pack_into(form, raw, at, value)


def exchange(at: int) -> Callable[[bytearray], None]:
    """Let two neighbours of a table change their places."""

    def edit(raw: bytearray) -> None:
        raw[at : at + 16] = raw[at + 8 : at + 16] + raw[at : at + 8]

    return edit


MUTATIONS: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "magic": (put(">B", 0, 0), "at its start"),
    "version": (put(">H", 4, 5), "version 4 expected, found 5"),
    "flags": (put(">H", 6, 2), "flags 0 or 1"),
    "reserved": (put(">H", 24, 1), "reserved"),
    "unused": (put(">I", 540, 1), "reserved"),
    "no sections": (put(">H", COUNT_AT, 0), "1 to 32 sections"),
    "one section more": (put(">H", COUNT_AT, SECTIONS + 1), "offset"),
    "one section fewer": (put(">H", COUNT_AT, SECTIONS - 1), "unused places"),
    "too many sections": (put(">H", COUNT_AT, 33), "1 to 32 sections"),
    "largest count": (put(">H", COUNT_AT, 0xFFFF), "1 to 32 sections"),
    "offset into the header": (put(">Q", OFFSETS_AT, 0), "offset 548 expected"),
    "offset beyond the end": (put(">Q", OFFSETS_AT + 8, 2**64 - 1), "offset"),
    "overlap": (put(">Q", OFFSETS_AT + 8, FIRST_SECTION), "offset"),
    "gap": (put(">Q", OFFSETS_AT + 8, SECOND_SECTION + 4), "offset"),
    "offsets exchanged": (exchange(OFFSETS_AT), "offset"),
    "sizes exchanged": (exchange(SIZES_AT), "its own size"),
    "largest size": (put(">Q", SIZES_AT, 2**64 - 1), "the image ends before"),
    "size beyond the end": (put(">Q", SIZES_AT + 32, 2**32), "the image ends before"),
    "size one less": (put(">Q", SIZES_AT, 7), "its own size is 8"),
    "unused offset": (put(">Q", OFFSETS_AT + 8 * 31, 1), "unused places"),
    "unused size": (put(">Q", SIZES_AT + 8 * 31, 1), "unused places"),
    "unknown type": (put(">H", FIRST_SECTION, 6), "type 1 to 5 expected, found 6"),
    "type 0": (put(">H", FIRST_SECTION, 0), "type 1 to 5 expected, found 0"),
    "section flags": (put(">H", FIRST_SECTION + 2, 1), "flags 0 expected"),
    "its own size": (put(">Q", FIRST_SECTION + 4, 9), "its own size is 9"),
    "no kernel": (put(">H", FIRST_SECTION, 3), "kernel and command line"),
    "two kernels": (put(">H", SECOND_SECTION, 1), "kernel and command line"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_are_refused_with_a_reason(name: str) -> None:
    edit, reason = MUTATIONS[name]
    raw = bytearray(GOOD)
    edit(raw)
    assert raw != GOOD
    with pytest.raises(MalformedError, match=reason):
        parse_image(with_checksum(raw))


@pytest.mark.parametrize("bit", [0x01, 0x10, 0x80])
def test_every_byte_counts(bit: int) -> None:
    """Header, checksum, section headers and contents: no byte is free."""
    for at in range(len(GOOD)):
        raw = bytearray(GOOD)
        raw[at] ^= bit
        with pytest.raises(MalformedError):
            parse_image(bytes(raw))


@pytest.mark.parametrize("at", range(CRC_AT, HEADER_BYTES))
def test_checksum_itself(at: int) -> None:
    raw = bytearray(GOOD)
    raw[at] ^= 1
    with pytest.raises(ImageError, match="CRC-32"):
        parse_image(bytes(raw))


@pytest.mark.parametrize("length", [0, 4, HEADER_BYTES - 1, HEADER_BYTES, len(GOOD) - 1])
def test_cut_images_are_refused(length: int) -> None:
    with pytest.raises(ImageError):
        parse_image(GOOD[:length])


def test_what_stands_behind_the_last_section_is_refused() -> None:
    with pytest.raises(ImageError, match="3 bytes after the last section"):
        parse_image(with_checksum(GOOD + b"abc"))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAGE_MAX_BYTES", len(GOOD) - 1)
    with pytest.raises(TooLargeError):
        parse_image(GOOD)


def test_round_trip_keeps_everything() -> None:
    image = parse_image(GOOD)
    assert image == example_image()
    assert image.kernel == b"a kernel"
    assert image.command_line == b"console=ttyS0"
    assert image.metadata == b'{"ImageName":"example"}'
    assert image.ramdisks[0] == encode_ramdisk(FIRST)
    assert image.signature is None
    assert (image.default_memory_bytes, image.default_cpus) == (512 * 1024**2, 2)


def sections(*kinds: SectionType) -> tuple[Section, ...]:
    return tuple(Section(kind, b"x") for kind in kinds)


K, C, R = SectionType.KERNEL, SectionType.COMMAND_LINE, SectionType.RAMDISK
S, M = SectionType.SIGNATURE, SectionType.METADATA


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ((), "kernel and command line"),
        ((C, K, R), "kernel and command line"),
        ((K, C), "at least one ramdisk"),
        ((K, C, R, C), "at most one COMMAND_LINE"),
        ((K, C, M, R, M), "at most one METADATA"),
        ((K, C, S, R), "the last section"),
        ((K, C, R, S, S), "at most one SIGNATURE"),
        ((K, C, *[R] * 31), "at most 32"),
    ],
)
def test_orders_that_no_image_has(kinds: tuple[SectionType, ...], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        Image(Architecture.X86_64, 0, 0, sections(*kinds))


def test_command_line_that_linux_would_cut() -> None:
    long = (Section(K, b""), Section(C, bytes(limits.COMMAND_LINE_MAX_BYTES + 1)), Section(R, b""))
    with pytest.raises(TooLargeError, match="COMMAND_LINE"):
        Image(Architecture.X86_64, 0, 0, long)


def test_registers_cover_what_they_should() -> None:
    base = measure_image(example_image())
    other = measure_image(example_image(second={"etc/other": b"x"}))
    assert base.pcr1 == other.pcr1
    assert base.pcr0 != other.pcr0
    assert base.pcr2 != other.pcr2
    assert base.pcr8 is None


def test_signing_is_deterministic_and_binds_pcr0() -> None:
    pem, key = signer()
    pcr0 = measure_image(example_image()).pcr0
    section = sign_pcr0(pcr0, pem, key)
    assert section == sign_pcr0(pcr0, pem, key)
    signed = example_image(Section(S, section))
    measured = measure_image(parse_image(encode_image(signed)))
    assert measured.pcr0 == pcr0
    assert measured.pcr8 is not None
    assert set(measured.hex()) == {"PCR0", "PCR1", "PCR2", "PCR8"}
    verify_signature(parse_signature(section), pcr0)


def test_signature_by_another_key_is_wrong() -> None:
    pem, key = signer()
    other_pem, _ = signer()
    pcr0 = measure_image(example_image()).pcr0
    value = cbor.decode(sign_pcr0(pcr0, pem, key), max_bytes=limits.SIGNATURE_MAX_BYTES)
    assert isinstance(value, list)
    assert isinstance(value[0], dict)
    value[0]["signing_certificate"] = list(other_pem)
    forged = parse_signature(cbor.encode(value))
    with pytest.raises(ImageError, match="wrong for this certificate"):
        verify_signature(forged, pcr0)


def test_key_that_is_not_the_certificates() -> None:
    pem, _ = signer()
    with pytest.raises(ImageError, match="P-384 key of the certificate"):
        sign_pcr0(bytes(48), pem, signer()[1])


@pytest.mark.parametrize(
    "section",
    [
        b"",
        b"\x80",
        cbor.encode([1]),
        cbor.encode([{"signature": [], "other": []}]),
        cbor.encode([{"signature": [], "signing_certificate": b"bytes"}]),
        cbor.encode([{"signature": [], "signing_certificate": [256]}]),
        cbor.encode([{"signature": [], "signing_certificate": [True]}]),
        cbor.encode([{"signature": [], "signing_certificate": list(b"no PEM")}]),
        cbor.encode([{"signature": [], "signing_certificate": [0x41] * 9_000}]),
    ],
)
def test_malformed_signature_sections(section: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_signature(section)
