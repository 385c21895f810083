from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import (
    AlgorithmRefused,
    MalformedDocument,
    NotAnEnclave,
    UnsignedDocument,
    VerificationError,
)
from latensgate_shared.cbor import encode
from nitro_factory import INSTANCE, MODULE_ID, NOW, Draft, sign

if TYPE_CHECKING:
    from latensgate_shared.cbor import CBOREncodable

GOOD = Draft(nonce=b"n", user_data=b"", public_key=bytes(1024))


def refusal(document: bytes) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        parse_untrusted_document(document)
    return caught.value


def with_member(name: str, value: CBOREncodable) -> bytes:
    return sign(encode({**GOOD.members(), name: value}))


def test_what_a_document_says() -> None:
    said = parse_untrusted_document(GOOD.sign())
    assert said.module_id == MODULE_ID
    assert said.instance_id == INSTANCE
    assert said.timestamp == NOW
    assert said.pcrs == GOOD.pcrs
    assert (said.nonce, said.user_data, said.public_key) == (b"n", b"", bytes(1024))
    assert len(said.attestation_hash) == len("sha384:") + 96
    assert not said.debug


def test_registers_cannot_be_changed() -> None:
    pcrs = parse_untrusted_document(GOOD.sign()).pcrs
    with pytest.raises(TypeError):
        pcrs[0] = b""  # type: ignore[index]  # the point


def test_the_last_moment_of_the_calendar_is_held() -> None:
    end_ms = 253_402_300_799_999
    said = parse_untrusted_document(Draft(timestamp_ms=end_ms).sign())
    assert said.timestamp == datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
    assert refusal(Draft(timestamp_ms=end_ms + 1).sign()).kind == "malformed-document"


@pytest.mark.parametrize("zeroed", [(), (0,), (1, 2), (0, 1, 2)])
def test_debug_means_all_three_zero(zeroed: tuple[int, ...]) -> None:
    pcrs = GOOD.pcrs | dict.fromkeys(zeroed, bytes(48))
    said = parse_untrusted_document(Draft(pcrs=pcrs).sign())
    assert said.debug is (len(zeroed) == 3)


def test_a_missing_register_is_not_zero() -> None:
    pcrs = {0: bytes(48), 1: bytes(48)}
    assert not parse_untrusted_document(Draft(pcrs=pcrs).sign()).debug


def test_the_document_of_qemu_is_named_as_what_it_is() -> None:
    members = {**GOOD.members(), "certificate": bytes(64), "cabundle": [bytes(64)]}
    document = encode([encode({1: -1}), {}, encode(members), bytes(64)])
    error = refusal(document)
    assert isinstance(error, UnsignedDocument)
    assert error.step == 2
    assert "emulated device" in error.detail
    assert "QEMU" in error.detail


@pytest.mark.parametrize(
    ("name", "value"), [("certificate", bytes(64)), ("cabundle", [b"x", bytes(64)])]
)
def test_zeros_for_certificates_are_named_too(name: str, value: CBOREncodable) -> None:
    error = refusal(with_member(name, value))
    assert isinstance(error, UnsignedDocument)
    assert error.step == 3


def test_an_unprotected_header_is_refused() -> None:
    error = refusal(encode([bytes.fromhex("a1013822"), {4: b"k"}, b"\xa0", bytes(96)]))
    assert isinstance(error, AlgorithmRefused)
    assert "found 1 members" in error.detail


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("digest", "SHA512", "digest"),
        ("timestamp", True, "timestamp"),
        ("timestamp", 0, "timestamp"),
        ("pcrs", {}, "1 to 32"),
        ("pcrs", [], "1 to 32"),
        ("pcrs", dict.fromkeys(range(33), bytes(48)), "1 to 32"),
        ("pcrs", {32: bytes(48)}, "index"),
        ("pcrs", {"0": bytes(48)}, "index"),
        ("pcrs", {0: bytes(32)}, "PCR0"),
        ("pcrs", {0: "0" * 48}, "PCR0"),
        ("certificate", b"", "1 to 1024"),
        ("certificate", b"x" * 1025, "1 to 1024"),
        ("certificate", None, "1 to 1024"),
        ("cabundle", [], "1 to 8"),
        ("cabundle", [b"x"] * 9, "1 to 8"),
        ("cabundle", None, "1 to 8"),
        ("cabundle", [None], r"cabundle\[0\]"),
        ("nonce", bytes(1025), "nonce"),
        ("user_data", "text", "user_data"),
        ("public_key", False, "public_key"),
        ("module_id", "", "module_id"),
        ("module_id", 5, "module_id"),
        ("surplus", 1, "AWS does not specify"),
    ],
)
def test_fields_of_another_kind_or_size(name: str, value: CBOREncodable, reason: str) -> None:
    with pytest.raises(MalformedDocument, match=reason) as caught:
        parse_untrusted_document(with_member(name, value))
    assert caught.value.step == 3


@pytest.mark.parametrize("name", ["module_id", "digest", "timestamp", "pcrs", "certificate"])
def test_missing_fields(name: str) -> None:
    members = {key: value for key, value in GOOD.members().items() if key != name}
    with pytest.raises(MalformedDocument, match=name):
        parse_untrusted_document(sign(encode(members)))


def test_a_tpm_of_an_instance_is_not_an_enclave() -> None:
    by_field = refusal(with_member("nitrotpm_pcrs", {0: bytes(48)}))
    by_name = refusal(with_member("module_id", f"{INSTANCE}-tpm0000000000000000"))
    assert isinstance(by_field, NotAnEnclave)
    assert isinstance(by_name, NotAnEnclave)


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xa0\x00", b"\xbf", b"\xff"])
def test_payloads_that_are_no_map(payload: bytes) -> None:
    error = refusal(sign(payload))
    assert (error.kind, error.step) == ("malformed-document", 3)


def test_too_large_is_refused_before_reading() -> None:
    error = refusal(bytes(32 * 1024 + 1))
    assert (error.kind, error.step) == ("malformed-document", 1)


def test_times_are_whole_milliseconds() -> None:
    said = parse_untrusted_document(Draft(timestamp_ms=1_001).sign())
    assert said.timestamp == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1.001)
