from __future__ import annotations

import copy
import re
from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest

import latensgate
from latensgate.verify.attestation import inspect_document, verify_attestation, verify_document
from latensgate.verify.chain import ChainCache
from latensgate.verify.errors import (
    BindingMismatch,
    ConfigurationError,
    DebugModeRefused,
    DocumentTimeInvalid,
    InvalidSignature,
    ManifestInvalid,
    MeasurementMismatch,
    NonceMismatch,
)
from latensgate.verify.policy import AppraisalPolicy, Measurements, Release
from latensgate.verify.results import (
    UnappraisedDocument,
    VerifiedAttestation,
    VerifiedDocument,
)
from latensgate_shared import limits
from latensgate_shared.manifest import (
    HPKEKey,
    Manifest,
    build_user_data,
    encode_manifest,
)
from latensgate_shared.sealed_request import SUITE_X25519
from nitro_factory import NOW, PCR0, PCR1, PCR2, Draft, root_sha256

IMAGE = Measurements(PCR0, PCR1, PCR2)
POLICY = AppraisalPolicy(measurements=(IMAGE,), unsafe_accept_simulated_root_sha256=root_sha256())
NONCE = bytes(range(32))
DIGEST = "sha384:" + "ab" * 48
SECOND = int(NOW.timestamp())
MANIFEST = Manifest(
    software_version="1.0.0",
    hpke_keys=(HPKEKey(SUITE_X25519, b"\x09" * 32),),
    receipt_public_key=b"\x07" * 32,
    policy_digest=DIGEST,
    deployment_digest=DIGEST,
    kms_key_arn="arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",
    kms_key_policy_digest=DIGEST,
    service_account="123456789012",
    region="eu-central-1",
    not_before=SECOND,
    not_after=SECOND + 4500,
)
MANIFEST_BYTES = encode_manifest(MANIFEST)
BOUND = Draft(user_data=build_user_data(MANIFEST_BYTES, None))


def test_what_is_returned() -> None:
    draft = Draft(nonce=NONCE, user_data=b"u", public_key=b"k")
    verified = verify_document(draft.sign(), policy=POLICY, at=NOW, nonce=NONCE)
    assert verified.status == "simulated"
    assert verified.module_id == draft.module_id
    assert verified.region == "eu-central-1"
    assert verified.timestamp == NOW
    assert verified.pcrs == draft.pcrs
    assert (verified.nonce, verified.user_data, verified.public_key) == (NONCE, b"u", b"k")
    assert verified.attestation_hash.startswith("sha384:")
    assert len(verified.certificates) == 4
    assert verified.match.measurements == IMAGE


def test_a_nonce_that_was_not_sent_is_not_looked_at() -> None:
    assert verify_document(Draft(nonce=NONCE).sign(), policy=POLICY, at=NOW).nonce == NONCE


@pytest.mark.parametrize("answer", [None, b"", bytes(32), NONCE[:31], NONCE + b"\x00"])
def test_another_answer_to_the_challenge(answer: bytes | None) -> None:
    with pytest.raises(NonceMismatch) as caught:
        verify_document(Draft(nonce=answer).sign(), policy=POLICY, at=NOW, nonce=NONCE)
    assert caught.value.step == 11


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_a_challenge_of_another_length_is_the_callers_mistake(nonce: bytes) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes expected"):
        verify_document(b"", policy=POLICY, at=NOW, nonce=nonce)


def test_a_time_without_zone_is_the_callers_mistake() -> None:
    naive = datetime(2026, 6, 1, 12, 30)  # noqa: DTZ001 -- the mistake
    with pytest.raises(ConfigurationError, match="time zone"):
        verify_document(Draft().sign(), policy=POLICY, at=naive)


class ZoneWithoutOffset(tzinfo):
    def utcoffset(self, _moment: datetime | None, /) -> None:
        return None

    dst = utcoffset

    def tzname(self, _moment: datetime | None, /) -> str:
        return "none"


@pytest.mark.parametrize(
    "at",
    [
        NOW.replace(tzinfo=ZoneWithoutOffset()),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
    ],
    ids=["no offset", "beyond the last day", "before the first day"],
)
def test_a_time_that_is_none_in_utc_is_the_callers_mistake(at: datetime) -> None:
    with pytest.raises(ConfigurationError, match="evaluation time"):
        verify_document(Draft().sign(), policy=POLICY, at=at)


def test_a_changed_document_is_refused() -> None:
    good = Draft().sign()
    mark = good.index(PCR2)
    changed = good[:mark] + b"\x00" + good[mark + 1 :]
    with pytest.raises(InvalidSignature, match="changed or forged"):
        verify_document(changed, policy=POLICY, at=NOW)


def test_debug_comes_before_any_comparison() -> None:
    pcrs = Draft().pcrs | dict.fromkeys((0, 1, 2), bytes(48))
    document = Draft(pcrs=pcrs).sign()
    with pytest.raises(DebugModeRefused, match="debug mode"):
        verify_document(document, policy=POLICY, at=NOW)
    with pytest.raises(DebugModeRefused):
        inspect_document(document, at=NOW, unsafe_accept_simulated_root_sha256=root_sha256())


def test_another_image_is_refused() -> None:
    pcrs = {**Draft().pcrs, 1: PCR0}
    with pytest.raises(MeasurementMismatch, match="PCR1 differ"):
        verify_document(Draft(pcrs=pcrs).sign(), policy=POLICY, at=NOW)


@pytest.mark.parametrize("ahead_s", [-1800, 0, limits.ATTESTATION_DOCUMENT_SKEW_S])
def test_times_that_pass(ahead_s: int) -> None:
    made = NOW + timedelta(seconds=ahead_s)
    document = Draft(timestamp_ms=int(made.timestamp() * 1000) + 999).sign()
    assert verify_document(document, policy=POLICY, at=NOW).status == "simulated"


@pytest.mark.parametrize(
    ("ahead_s", "reason"),
    [
        (limits.ATTESTATION_DOCUMENT_SKEW_S + 1, "after the evaluation time"),
        (-1801, "outside the leaf's window"),
        (9001, "outside the leaf's window"),
    ],
)
def test_times_that_do_not(ahead_s: int, reason: str) -> None:
    made = NOW + timedelta(seconds=ahead_s)
    document = Draft(timestamp_ms=int(made.timestamp() * 1000)).sign()
    with pytest.raises(DocumentTimeInvalid, match=reason) as caught:
        verify_document(document, policy=POLICY, at=NOW)
    assert caught.value.step == 8


def test_fractions_of_the_last_second_count() -> None:
    last = NOW + timedelta(hours=2, minutes=30, milliseconds=999)
    assert verify_document(Draft().sign(), policy=POLICY, at=last).timestamp == NOW


def test_memory_gives_the_same_answer() -> None:
    cache = ChainCache()
    document = Draft().sign()
    first = verify_document(document, policy=POLICY, at=NOW, cache=cache)
    assert verify_document(document, policy=POLICY, at=NOW, cache=cache) == first
    with pytest.raises(InvalidSignature):
        verify_document(
            document[:-1] + bytes([document[-1] ^ 1]), policy=POLICY, at=NOW, cache=cache
        )


# --- the manifest ---


def test_keys_come_from_the_signed_manifest() -> None:
    verified = verify_attestation(BOUND.sign(), MANIFEST_BYTES, policy=POLICY, at=NOW)
    assert verified.manifest == MANIFEST
    assert verified.status == "simulated"
    assert verified.attestation_hash == verified.document.attestation_hash
    assert verified.manifest.hpke_keys[0].public_key == b"\x09" * 32


def test_a_freshness_proof_over_the_same_manifest() -> None:
    document = Draft(nonce=NONCE, user_data=build_user_data(MANIFEST_BYTES, NONCE)).sign()
    verified = verify_attestation(document, MANIFEST_BYTES, policy=POLICY, at=NOW, nonce=NONCE)
    assert verified.manifest == MANIFEST


def test_another_manifest_is_refused() -> None:
    other = encode_manifest(replace(MANIFEST, software_version="1.0.1"))
    with pytest.raises(BindingMismatch) as caught:
        verify_attestation(BOUND.sign(), other, policy=POLICY, at=NOW)
    assert caught.value.step == 12


def test_a_document_that_binds_nothing_is_refused() -> None:
    for user_data in (None, b"", bytes(112)):
        with pytest.raises(BindingMismatch):
            verify_attestation(
                Draft(user_data=user_data).sign(), MANIFEST_BYTES, policy=POLICY, at=NOW
            )


def test_the_binding_of_another_nonce_is_refused() -> None:
    document = Draft(nonce=NONCE, user_data=build_user_data(MANIFEST_BYTES, None)).sign()
    with pytest.raises(BindingMismatch):
        verify_attestation(document, MANIFEST_BYTES, policy=POLICY, at=NOW)


def test_release_and_manifest_must_speak_of_one_deployment() -> None:
    entry = Release(version="1.0.0", flavour="core", deployment_digest=DIGEST, measurements=IMAGE)
    policy = replace(POLICY, measurements=(), releases=(entry,))
    verified = verify_attestation(BOUND.sign(), MANIFEST_BYTES, policy=policy, at=NOW)
    assert verified.document.match.release == entry
    other = replace(entry, deployment_digest="sha384:" + "cd" * 48)
    policy = replace(POLICY, measurements=(), releases=(other,))
    with pytest.raises(ManifestInvalid, match="deployment_digest") as caught:
        verify_attestation(BOUND.sign(), MANIFEST_BYTES, policy=policy, at=NOW)
    assert caught.value.step == 13


# --- results cannot be made by hand ---


def test_looking_is_not_verifying() -> None:
    looked = inspect_document(
        Draft().sign(), at=NOW, unsafe_accept_simulated_root_sha256=root_sha256()
    )
    assert type(looked) is UnappraisedDocument
    assert not issubclass(UnappraisedDocument, VerifiedDocument)
    assert not hasattr(looked, "status")
    assert looked.root == "simulated"
    assert looked.document.module_id == Draft().module_id


def test_verified_values_are_made_by_the_verifier_only() -> None:
    verified = verify_attestation(BOUND.sign(), MANIFEST_BYTES, policy=POLICY, at=NOW)
    document = verified.document
    names = [name for name in VerifiedDocument.__slots__ if name != "seal"]
    content = {name: getattr(document, name) for name in names}
    with pytest.raises(TypeError):
        VerifiedDocument(**content)
    for seal in (None, object()):
        with pytest.raises(TypeError, match="nothing else"):
            VerifiedDocument(**content, seal=seal)
        with pytest.raises(TypeError, match="nothing else"):
            VerifiedAttestation(document=document, binding=verified.binding, seal=seal)
    with pytest.raises((TypeError, ValueError)):
        replace(document, status="verified")  # type: ignore[call-arg]  # the point
    with pytest.raises(FrozenInstanceError):
        document.status = "verified"  # type: ignore[misc]  # the point
    assert copy.copy(document) == document


def test_only_the_verifier_uses_the_seal() -> None:
    package = Path(latensgate.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "VERIFIER_ONLY" in path.read_text()
    }
    makers = {"attestation", "manifest", "receipt"}
    assert users == {"verify/results.py", *(f"verify/{name}.py" for name in makers)}


def test_only_the_verifier_and_the_test_program_use_what_takes_a_statement_for_a_proof() -> None:
    """``receipt_rules`` and ``check_binding`` ask nobody whether a document was verified."""
    package = Path(latensgate.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\bcheck_binding\b|\bStated\b", path.read_text())
    }
    rules = {"verify/receipt_rules.py", "verify/manifest.py"}
    assert users == {*rules, "verify/receipt.py", "conformance/documents.py"}
