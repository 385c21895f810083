"""Credentials of upstreams: read by one enclave alone, believed from one operator alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate_shared.errors import LatensgateError, MalformedError
from latensgate_shared.limits import UPSTREAM_CREDENTIAL_MAX_CHARS
from latensgate_shared.sealed import (
    SUITE_X25519,
    SUITE_XWING,
    KeyStaleError,
    OpenFailedError,
    OpeningKey,
    open_request,
    seal_request,
)
from latensgate_shared.sealed_request import UPSTREAM_CREDENTIAL_LABEL
from latensgate_shared.upstream_credential import (
    CredentialRefusedError,
    OpenedCredential,
    UpstreamCredential,
    confirm,
    open_credential,
    seal_credential,
    verify_confirmation,
)

HASH = "sha384:" + "ab" * 48
OPERATOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = [OpeningKey(SUITE_XWING, bytes(range(32))), OpeningKey(SUITE_X25519, bytes(range(1, 33)))]
SECRET = "sk-test-0123456789"  # noqa: S105  # of nobody
CREDENTIAL = UpstreamCredential(HASH, "house", 1_800_000_000_000, SECRET)


def opened(sealed: bytes, **changes: object) -> OpenedCredential:
    given: dict[str, object] = {
        "attestation_hash": HASH,
        "upstream": "house",
        "operator_key": OPERATOR.public_key().public_bytes_raw(),
        **changes,
    }
    keys = {key.key_id: key for key in KEYS}
    return open_credential(keys, sealed=sealed, **given)  # type: ignore[arg-type]  # texts and bytes


@pytest.mark.parametrize("key", KEYS, ids=["xwing", "x25519"])
def test_a_credential_opens_as_it_was_sealed_and_is_confirmed(key: OpeningKey) -> None:
    sealed = seal_credential(CREDENTIAL, key.sealing_key, OPERATOR.sign)
    assert SECRET.encode() not in sealed.wire
    found = opened(sealed.wire)
    assert (found.credential, found.key_id) == (CREDENTIAL, key.key_id)
    verify_confirmation(sealed.answer_secret, confirm(found.answer_secret))


def test_nobody_else_can_confirm() -> None:
    first, second = (
        seal_credential(CREDENTIAL, KEYS[0].sealing_key, OPERATOR.sign) for _ in range(2)
    )
    confirmation = confirm(opened(first.wire).answer_secret)
    with pytest.raises(LatensgateError):
        verify_confirmation(second.answer_secret, confirmation)
    with pytest.raises(LatensgateError):
        verify_confirmation(first.answer_secret, confirmation[:-1])


def test_a_credential_of_anybody_elses_is_refused() -> None:
    foreign = Ed25519PrivateKey.generate()
    sealed = seal_credential(CREDENTIAL, KEYS[0].sealing_key, foreign.sign)
    with pytest.raises(CredentialRefusedError):
        opened(sealed.wire)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"upstream": "shed"}, OpenFailedError),
        ({"attestation_hash": "sha384:" + "cd" * 48}, OpenFailedError),
    ],
)
def test_what_stands_outside_is_bound(change: dict[str, str], error: type[Exception]) -> None:
    sealed = seal_credential(CREDENTIAL, KEYS[0].sealing_key, OPERATOR.sign)
    with pytest.raises(error):
        opened(sealed.wire, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"upstream": "shed"},
        {"attestation_hash": "sha384:" + "cd" * 48},
        {"issued_at_ms": 1},
        {"secret": "another"},
    ],
)
def test_a_signature_is_good_for_nothing_else(change: dict[str, object]) -> None:
    def other(_message: bytes) -> bytes:
        return OPERATOR.sign(replace(CREDENTIAL, **change).signing_input())  # type: ignore[arg-type]

    sealed = seal_credential(CREDENTIAL, KEYS[0].sealing_key, other)
    with pytest.raises(CredentialRefusedError):
        opened(sealed.wire)


def test_a_request_is_no_credential_and_the_other_way_round() -> None:
    key = KEYS[0]
    credential = seal_credential(CREDENTIAL, key.sealing_key, OPERATOR.sign)
    with pytest.raises(OpenFailedError):
        open_request({key.key_id: key}, CREDENTIAL.outer, credential.wire)
    request = seal_request(key.sealing_key, CREDENTIAL.outer, b"{}")
    with pytest.raises(OpenFailedError):
        opened(request.wire)


def test_another_enclave_cannot_open_it() -> None:
    sealed = seal_credential(CREDENTIAL, KEYS[0].sealing_key, OPERATOR.sign)
    with pytest.raises(KeyStaleError):
        open_credential(
            {}, attestation_hash=HASH, upstream="house", sealed=sealed.wire, operator_key=b""
        )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"issued_at_ms":1,"secret":"x","signature":"00","pad":""}',
        b'{"issued_at_ms":-1,"secret":"x","signature":"%s","pad":""}' % (b"00" * 64),
        b'{"issued_at_ms":1,"secret":"x y","signature":"%s","pad":""}' % (b"00" * 64),
        b'{"issued_at_ms":1,"secret":"","signature":"%s","pad":""}' % (b"00" * 64),
        b'{"issued_at_ms":1,"secret":"x","signature":"%s","pad":"x"}' % (b"00" * 64),
    ],
)
def test_another_form_is_refused(body: bytes) -> None:
    key = KEYS[0].sealing_key
    sealed = seal_request(key, CREDENTIAL.outer, body, label=UPSTREAM_CREDENTIAL_LABEL)
    with pytest.raises(MalformedError):
        opened(sealed.wire)


@pytest.mark.parametrize(
    "secret", ["", "a b", "a\n", "ü", "x" * (UPSTREAM_CREDENTIAL_MAX_CHARS + 1)]
)
def test_a_secret_is_one_field_value(secret: str) -> None:
    with pytest.raises(MalformedError):
        replace(CREDENTIAL, secret=secret)


def test_nothing_shows_the_secret_and_its_length_is_padded() -> None:
    assert SECRET not in repr(CREDENTIAL)
    sealed = seal_credential(CREDENTIAL, KEYS[0].sealing_key, OPERATOR.sign)
    assert SECRET not in repr(opened(sealed.wire))
    longer = replace(CREDENTIAL, secret=SECRET + "x")
    other = seal_credential(longer, KEYS[0].sealing_key, OPERATOR.sign)
    assert len(other.wire) == len(sealed.wire)
    assert json.loads(CREDENTIAL.outer) == {"attestation_hash": HASH, "upstream": "house"}
