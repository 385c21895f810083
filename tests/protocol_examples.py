"""Good protocol objects that several tests begin from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate_shared.manifest import HPKEKey, Manifest
from latensgate_shared.receipts import (
    PrivatePart,
    PublicPart,
    Receipt,
    salted_hash,
    sign_receipt,
)
from latensgate_shared.sealed import SUITE_X25519, SUITE_XWING

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject

RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DIGEST = "sha384:" + "ab" * 48
TENANT = "tnt_a3f9c42b"
REQUEST_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
NOT_BEFORE = 1_780_315_230
X25519_KEY = HPKEKey(SUITE_X25519, bytes(range(32)))
XWING_KEY = HPKEKey(SUITE_XWING, bytes(1_216))


def manifest(hpke_keys: tuple[HPKEKey, ...] = (XWING_KEY, X25519_KEY)) -> Manifest:
    return Manifest(
        software_version="1.2.3+abc",
        hpke_keys=hpke_keys,
        receipt_public_key=RECEIPT_KEY.public_key().public_bytes_raw(),
        policy_digest=DIGEST,
        deployment_digest=DIGEST,
        kms_key_arn=(
            "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        ),
        kms_key_policy_digest=DIGEST,
        service_account="111122223333",
        region="eu-central-1",
        not_before=NOT_BEFORE,
        not_after=NOT_BEFORE + 4_500,
    )


def private_part() -> JSONObject:
    return {
        "request_id": REQUEST_ID,
        "opened": salted_hash(bytes(32), b"opened"),
        "forwarded": None,
        "returned": None,
        "model_asked": "claude",
        "model_served": None,
        "upstream": None,
        "fields_dropped": ["logit_bias"],
        "pii": {"detected": False},
        "usage": {"total_tokens": 3},
        "timings_ms": {"open": 1},
    }


def public_members() -> JSONObject:
    return {
        "version": 1,
        "receipt_id": "aud_8f9e1a0d56e9bb6a",
        "tenant_id": TENANT,
        "key_id": XWING_KEY.key_id,
        "sequence": 0,
        "previous_receipt_hash": None,
        "issued_at": 1_780_315_260,
        "outcome": "answered",
        "request_hash": DIGEST,
        "response_hash": DIGEST,
        "attestation_hash": DIGEST,
        "private_digest": PrivatePart(private_part()).digest,
    }


def sign(public: PublicPart) -> Receipt:
    return sign_receipt(public, PrivatePart(private_part()), RECEIPT_KEY.sign)
