from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from hashlib import sha384

import pytest

from latensgate.verify.errors import (
    BindingMismatch,
    ConfigurationError,
    ManifestExpired,
    ManifestInvalid,
    VerificationError,
)
from latensgate.verify.manifest import (
    VerifiedManifest,
    check_binding,
    renew_at,
    sealable_until,
    verify_sealable,
)
from latensgate_shared.errors import ErrorCode
from latensgate_shared.manifest import (
    Manifest,
    aci_keyset,
    aci_keyset_digest,
    build_user_data,
    encode_manifest,
)
from protocol_examples import NOT_BEFORE, X25519_KEY, manifest
from verified_examples import attested

MANIFEST = manifest()
DATA = encode_manifest(MANIFEST)
BINDING = attested(MANIFEST).binding
NONCE = bytes(range(32))
START = datetime.fromtimestamp(NOT_BEFORE, UTC)


@pytest.mark.parametrize("nonce", [None, NONCE])
def test_a_bound_manifest_is_returned(nonce: bytes | None) -> None:
    assert check_binding(build_user_data(DATA, nonce), nonce, DATA) == MANIFEST


def test_what_the_verifier_says_of_a_manifest() -> None:
    verified = attested(MANIFEST).binding
    assert verified.manifest == MANIFEST
    assert verified.manifest_bytes == DATA
    assert verified.keyset_digest == aci_keyset_digest(aci_keyset(MANIFEST))


def test_a_verified_manifest_is_made_by_the_verifier_only() -> None:
    for seal in (None, object()):
        with pytest.raises(TypeError, match="nothing else"):
            VerifiedManifest(manifest=MANIFEST, manifest_bytes=DATA, keyset_digest="", seal=seal)


def test_the_nonce_of_the_statement_is_the_nonce_of_the_document() -> None:
    for made, claimed in ((None, NONCE), (NONCE, None), (NONCE, bytes(32)), (NONCE, b"short")):
        with pytest.raises(BindingMismatch) as caught:
            check_binding(build_user_data(DATA, made), claimed, DATA)
        assert caught.value.step == 12


@pytest.mark.parametrize("length", [0, 111, 113])
def test_user_data_has_one_length(length: int) -> None:
    with pytest.raises(BindingMismatch, match="112 bytes"):
        check_binding(build_user_data(DATA, None).ljust(120, b"\0")[:length], None, DATA)


def test_every_change_of_one_bit_of_user_data_is_refused() -> None:
    good = build_user_data(DATA, None)
    for index in range(len(good)):
        changed = good[:index] + bytes([good[index] ^ 0x80]) + good[index + 1 :]
        with pytest.raises(BindingMismatch):
            check_binding(changed, None, DATA)


def test_every_change_of_one_byte_of_the_manifest_is_refused() -> None:
    data = encode_manifest(manifest((X25519_KEY,)))
    user_data = build_user_data(data, None)
    for index in range(len(data)):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        with pytest.raises(VerificationError):
            check_binding(user_data, None, changed)


def test_keys_of_another_manifest_are_refused() -> None:
    other = encode_manifest(replace(MANIFEST, receipt_public_key=bytes(31) + b"\x07"))
    with pytest.raises(BindingMismatch):
        check_binding(build_user_data(DATA, None), None, other)


def test_report_data_of_another_keyset_is_refused() -> None:
    """The manifest's hash alone does not satisfy verifiers of ACI."""
    other = encode_manifest(manifest((X25519_KEY,)))
    spliced = build_user_data(other, None)[:64] + sha384(DATA).digest()
    with pytest.raises(BindingMismatch, match="report data"):
        check_binding(spliced, None, DATA)


@pytest.mark.parametrize("data", [b"", b"{}", DATA + b" ", b"\xff"])
def test_signed_bytes_that_are_no_manifest(data: bytes) -> None:
    user_data = bytes(64) + sha384(data).digest()
    with pytest.raises(ManifestInvalid) as caught:
        check_binding(user_data, None, data)
    assert caught.value.step == 13


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_lifetime_of_a_client() -> None:
    assert renew_at(MANIFEST) == at(3_000)
    assert sealable_until(MANIFEST) == at(4_200)
    for seconds in (-60, 0, 4_199.999):
        assert verify_sealable(BINDING, at=at(seconds)) is BINDING


@pytest.mark.parametrize("seconds", [-60.001, -1e9, 4_200, 4_500, 1e9])
def test_outside_of_it_nothing_is_sealed(seconds: float) -> None:
    with pytest.raises(ManifestExpired) as caught:
        verify_sealable(BINDING, at=at(seconds))
    assert caught.value.code is ErrorCode.ERR_KEY_STALE


def test_a_short_manifest_ends_at_its_own_end() -> None:
    short = replace(MANIFEST, not_after=NOT_BEFORE + 10)
    assert sealable_until(short) == at(10)


def test_a_manifest_of_the_far_future_is_no_overflow() -> None:
    far: Manifest = replace(MANIFEST, not_before=2**53 - 5_000, not_after=2**53 - 1_000)
    with pytest.raises(ManifestExpired, match="future"):
        verify_sealable(attested(far).binding, at=START)


class ZoneWithoutOffset(tzinfo):
    def utcoffset(self, _moment: datetime | None, /) -> None:
        return None

    dst = utcoffset

    def tzname(self, _moment: datetime | None, /) -> str:
        return "none"


@pytest.mark.parametrize("zone", [None, ZoneWithoutOffset()], ids=["none", "no offset"])
def test_a_moment_without_time_zone_is_no_moment(zone: tzinfo | None) -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        verify_sealable(BINDING, at=at(0).replace(tzinfo=zone))


def test_a_moment_beyond_the_calendar_is_no_moment() -> None:
    last = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(ConfigurationError, match="calendar"):
        verify_sealable(BINDING, at=last)
