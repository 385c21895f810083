from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from latensgate.verify.anchors import (
    AWS_ANCHOR,
    AWS_ANCHOR_SHA256,
    AWS_NITRO_ROOT_G1_SHA256,
    TrustAnchor,
    select_anchor,
)
from latensgate.verify.errors import ConfigurationError, MeasurementMismatch, ReleaseRevoked
from latensgate.verify.policy import AppraisalPolicy, Measurements, Release
from latensgate.verify.releases import parse_release_list
from latensgate_shared.errors import ErrorCode

A, B, C, D = (bytes([number]) * 48 for number in (1, 2, 3, 4))
IMAGE = Measurements(A, B, C)
PCRS = {0: A, 1: B, 2: C, 8: D}
AT = datetime(2026, 6, 1, tzinfo=UTC)
DIGEST = "sha384:" + "ab" * 48


def release(
    version: str = "1.0.0", *, not_after: int | None = None, revoked: bool = False
) -> Release:
    return Release(
        version=version,
        flavour="core",
        deployment_digest=DIGEST,
        measurements=IMAGE,
        not_after=not_after,
        revoked=revoked,
    )


def test_an_empty_policy_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="name at least one") as caught:
        AppraisalPolicy()
    assert caught.value.code is ErrorCode.ERR_CONFIGURATION
    with pytest.raises(ConfigurationError):
        AppraisalPolicy(unsafe_accept_simulated_root_sha256="ab" * 32)


def test_the_aws_root_is_the_default() -> None:
    policy = AppraisalPolicy(measurements=(IMAGE,))
    assert policy.anchor is AWS_ANCHOR
    assert policy.anchor.status == "verified"
    assert policy.anchor.sha256.hex() == AWS_NITRO_ROOT_G1_SHA256
    with pytest.raises(FrozenInstanceError):
        policy.anchor = TrustAnchor(A[:32], "simulated")  # type: ignore[misc]  # the point


def test_a_simulated_root_is_never_called_verified() -> None:
    policy = AppraisalPolicy(measurements=(IMAGE,), unsafe_accept_simulated_root_sha256="ab" * 32)
    assert policy.anchor == TrustAnchor(b"\xab" * 32, "simulated")
    with pytest.raises(ConfigurationError, match="AWS root"):
        TrustAnchor(b"\xab" * 32, "verified")
    with pytest.raises(ConfigurationError, match="every other one"):
        TrustAnchor(AWS_ANCHOR_SHA256, "simulated")


@pytest.mark.parametrize("root", ["", "AB" * 32, "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 32 + "\n"])
def test_unfit_simulated_roots(root: str) -> None:
    with pytest.raises(ConfigurationError, match="64 lower-case hex"):
        select_anchor(root)


def test_the_aws_root_is_no_simulation() -> None:
    with pytest.raises(ConfigurationError, match="leave the option out"):
        select_anchor(AWS_NITRO_ROOT_G1_SHA256)


def test_measurements_from_hex() -> None:
    found = Measurements.from_hex(A.hex(), B.hex(), C.hex(), {8: D.hex()})
    assert found == Measurements(A, B, C, {8: D})
    assert found.registers() == PCRS


@pytest.mark.parametrize("text", ["", "AB" * 48, "ab" * 47, "ab" * 49, "0x" + "ab" * 47, "zz" * 48])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="PCR1 is not 96 lower-case hex digits"):
        Measurements.from_hex(A.hex(), text, C.hex())


@pytest.mark.parametrize("index", [0, 1, 2])
def test_zeros_are_refused_in_every_register(index: int) -> None:
    values = [A, B, C]
    values[index] = bytes(48)
    with pytest.raises(ConfigurationError, match=f"PCR{index} is all zeros"):
        Measurements(values[0], values[1], values[2])


def test_other_lengths_and_registers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="32 bytes, 48 expected"):
        Measurements(A, B[:32], C)
    for index in (0, 2, -1, 32):
        with pytest.raises(ConfigurationError, match=f"PCR{index} is not one of"):
            Measurements(A, B, C, {index: D})
    with pytest.raises(ConfigurationError, match="PCR8 is all zeros"):
        Measurements(A, B, C, {8: bytes(48)})


def test_others_cannot_be_changed_later() -> None:
    others = {8: D}
    found = Measurements(A, B, C, others)
    others[8] = A
    assert found.others[8] == D


def test_all_three_registers_must_hold() -> None:
    policy = AppraisalPolicy(measurements=(IMAGE,))
    assert policy.appraise(PCRS, at=AT).measurements == IMAGE
    for index in (0, 1, 2):
        with pytest.raises(MeasurementMismatch, match=f"PCR{index} differ"):
            policy.appraise({**PCRS, index: D}, at=AT)
        missing = {key: value for key, value in PCRS.items() if key != index}
        with pytest.raises(MeasurementMismatch, match=f"PCR{index} differ"):
            policy.appraise(missing, at=AT)


def test_further_registers_must_hold_where_they_are_named() -> None:
    policy = AppraisalPolicy(measurements=(Measurements(A, B, C, {8: D}),))
    assert policy.appraise(PCRS, at=AT).release is None
    with pytest.raises(MeasurementMismatch, match="PCR8"):
        policy.appraise({0: A, 1: B, 2: C}, at=AT)


def test_registers_of_two_accepted_images_do_not_mix() -> None:
    policy = AppraisalPolicy(measurements=(IMAGE, Measurements(D, D, D)))
    with pytest.raises(MeasurementMismatch, match="nearest of 2 accepted: PCR1 differ"):
        policy.appraise({0: A, 1: D, 2: C}, at=AT)


def test_a_release_accepts_until_its_last_second() -> None:
    last = int(AT.timestamp())
    policy = AppraisalPolicy(releases=(release(not_after=last),))
    match = policy.appraise(PCRS, at=AT)
    assert match.release is not None
    assert match.release.version == "1.0.0"
    with pytest.raises(ReleaseRevoked, match=f"until second {last}"):
        policy.appraise(PCRS, at=datetime(2026, 6, 1, 0, 0, 1, tzinfo=UTC))


def test_a_revoked_release_refuses_even_beside_explicit_values() -> None:
    policy = AppraisalPolicy(measurements=(IMAGE,), releases=(release(revoked=True),))
    with pytest.raises(ReleaseRevoked, match=r"1\.0\.0 is revoked"):
        policy.appraise(PCRS, at=AT)
    with pytest.raises(MeasurementMismatch):
        policy.appraise({**PCRS, 0: D}, at=AT)


def test_explicit_values_outlive_a_release_and_name_a_current_one() -> None:
    old = AppraisalPolicy(measurements=(IMAGE,), releases=(release(not_after=1),))
    assert old.appraise(PCRS, at=AT).release is None
    new = AppraisalPolicy(measurements=(IMAGE,), releases=(release(),))
    assert new.appraise(PCRS, at=AT).release == release()


ENTRY: dict[str, object] = {
    "version": "1.2.0",
    "flavour": "core",
    "deployment_digest": DIGEST,
    "pcr0": A.hex(),
    "pcr1": B.hex(),
    "pcr2": C.hex(),
}


def written(*entries: object) -> bytes:
    return json.dumps({"releases": list(entries)}).encode()


def test_a_release_list_is_read() -> None:
    first, second = parse_release_list(written(ENTRY, {**ENTRY, "not_after": 9, "revoked": True}))
    assert first.measurements == IMAGE
    assert (first.not_after, first.revoked) == (None, False)
    assert (second.not_after, second.revoked) == (9, True)
    assert AppraisalPolicy(releases=(first,)).appraise(PCRS, at=AT).release == first


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "release list: JSON"),
        (b"[]", "release list"),
        (b"{}", "one member 'releases'"),
        (b'{"releases": {}}', "an array"),
        (b'{"releases": [], "more": 1}', "one member"),
        (b'{"releases": []}', "no release in it"),
        (written(1), "entry 0: not an object"),
        (written(ENTRY, {}), "entry 1: members"),
        (written({**ENTRY, "pcr3": A.hex()}), "entry 0: members"),
        (written({**ENTRY, "revoked": 0}), "neither true nor false"),
        (written({**ENTRY, "version": ""}), "'version' is not text"),
        (written({**ENTRY, "version": 1}), "'version' is not text"),
        (written({**ENTRY, "flavour": "a b"}), "'flavour' is not text"),
        (written({**ENTRY, "deployment_digest": "ab"}), "'deployment_digest' is not"),
        (written({**ENTRY, "pcr1": 5}), "a PCR is not text"),
        (written({**ENTRY, "pcr1": "AB" * 48}), "entry 0: measurements: PCR1"),
        (written({**ENTRY, "pcr2": "00" * 48}), "entry 0: measurements: PCR2 is all zeros"),
        (written({**ENTRY, "not_after": True}), "'not_after'"),
        (written({**ENTRY, "not_after": "9"}), "'not_after'"),
        (written({**ENTRY, "not_after": 0}), "'not_after'"),
        (written({**ENTRY, "not_after": 1.5}), "'not_after'"),
        (written({**ENTRY, "not_after": None}), "'not_after'"),
    ],
)
def test_other_release_lists_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        parse_release_list(data)
