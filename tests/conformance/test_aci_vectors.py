"""ACI (aci/1): keyset digest, statement, report data and slot, and its JCS and Ed25519 receipt."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from latensgate_shared.ed25519 import SignatureError, verify_ed25519
from latensgate_shared.jcs import canonicalize
from latensgate_shared.manifest import aci_keyset_digest, aci_report_data, aci_statement
from latensgate_shared.strict_json import parse_json_object
from paths import published

LIMIT = 1 << 20
VALUES: dict[str, Any] = json.loads(published("aci", "values.json").read_bytes())
NONCE = bytes.fromhex(VALUES["nonce"])
DIGEST: str = VALUES["workload_keyset_digest"]
RECEIPT_KEY = bytes.fromhex(VALUES["keys"]["receipt-1"]["public_key"])


def load(name: str) -> dict[str, Any]:
    return parse_json_object(published("aci", name).read_bytes(), max_bytes=LIMIT)


def test_keyset_digest() -> None:
    keyset = load("keyset.jcs.json")
    assert canonicalize(keyset) == published("aci", "keyset.jcs.json").read_bytes()
    assert aci_keyset_digest(keyset) == DIGEST


@pytest.mark.parametrize(
    ("file", "nonce", "expected"),
    [
        ("statement-nonce.json", NONCE, "report_data_nonce"),
        ("statement-null.json", None, "report_data_null"),
    ],
)
def test_statement_and_report_data(file: str, nonce: bytes | None, expected: str) -> None:
    assert aci_statement(DIGEST, nonce) == published("aci", file).read_bytes()
    assert aci_report_data(DIGEST, nonce).hex() == VALUES[expected]


def test_slot_is_report_data_and_32_zeros() -> None:
    """The form in which it stands in front of our user_data."""
    assert (aci_report_data(DIGEST, NONCE) + bytes(32)).hex() == VALUES["report_data_slot_nonce"]


@pytest.mark.parametrize(
    "file", ["report-stub-aggregator.json", "report-stub-unknown-serving.json"]
)
def test_reports_bind_with_their_nonce_and_with_no_other(file: str) -> None:
    report = load(file)
    digest = aci_keyset_digest(report["attestation"]["workload_keyset"])
    assert digest == report["workload_keyset_digest"]
    nonce = bytes.fromhex("cd20088d763605cf78564e5b35524ad52715419624b76e029582a3652758708d")
    expected = report["attestation"]["report_data"]
    assert aci_report_data(digest, nonce).hex() == expected
    assert aci_report_data(digest, None).hex() != expected
    assert aci_report_data(digest, NONCE).hex() != expected


def test_receipt_signing_input_and_signature() -> None:
    receipt = load("receipt.json")
    signature = bytes.fromhex(receipt.pop("signature"))
    signed = canonicalize(receipt)
    assert signed == published("aci", "receipt.signing-input.json").read_bytes()
    assert hashlib.sha256(signed).hexdigest() == VALUES["receipt_signing_input_sha256"]
    verify_ed25519(RECEIPT_KEY, signed, signature)
    with pytest.raises(SignatureError):
        verify_ed25519(RECEIPT_KEY, signed + b" ", signature)


def test_session_id() -> None:
    assert (
        hashlib.sha256(canonicalize(load("session.jcs.json"))).hexdigest() == VALUES["session_id"]
    )
