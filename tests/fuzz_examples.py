"""Good documents and receipts under keys of our own, from which fuzz scripts begin."""

from __future__ import annotations

import hashlib
import json
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fuzz_forms import Node
from latensgate.verify.attestation import verify_attestation
from latensgate.verify.policy import AppraisalPolicy, Measurements
from latensgate_shared.manifest import HPKEKey, Manifest, build_user_data, encode_manifest
from latensgate_shared.sealed import SUITE_X25519
from nitro_factory import NOW, PCR0, PCR1, PCR2, Draft, root_sha256

DIGEST = "sha384:" + "ab" * 48
TENANT = "tnt_a3f9c42b"
REQUEST_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
SECOND = int(NOW.timestamp())
RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HPKE_KEY = HPKEKey(SUITE_X25519, b"\x09" * 32)
MANIFEST_BYTES = encode_manifest(
    Manifest(
        software_version="1.0.0",
        hpke_keys=(HPKE_KEY,),
        receipt_public_key=RECEIPT_KEY.public_key().public_bytes_raw(),
        policy_digest=DIGEST,
        deployment_digest=DIGEST,
        kms_key_arn="arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",
        kms_key_policy_digest=DIGEST,
        service_account="123456789012",
        region="eu-central-1",
        not_before=SECOND,
        not_after=SECOND + 4500,
    )
)
MANIFEST_MEMBERS = cast("Node", json.loads(MANIFEST_BYTES))
IMAGE = Measurements(PCR0, PCR1, PCR2)
BOUND = Draft(user_data=build_user_data(MANIFEST_BYTES, None))
ATTESTATION = verify_attestation(
    BOUND.sign(),
    MANIFEST_BYTES,
    policy=AppraisalPolicy(
        measurements=(IMAGE,), unsafe_accept_simulated_root_sha256=root_sha256()
    ),
    at=NOW,
)


def text_of(value: Node) -> bytes:
    """JSON text of anything, however unfit; escapes keep what UTF-8 cannot hold."""
    return json.dumps(value, separators=(",", ":")).encode()


PRIVATE_PART: dict[object, Node] = {
    "request_id": REQUEST_ID,
    "opened": {"salt": "00" * 32, "hash": DIGEST},
    "forwarded": None,
    "returned": None,
    "model_asked": "claude",
    "model_served": "served",
    "upstream": {"host": "h"},
    "fields_dropped": ["user"],
    "pii": {"detected": False},
    "usage": {"total_tokens": 3},
    "timings_ms": {"open": 1},
}


def sorted_text(value: Node) -> bytes:
    """What JCS would give for these ASCII examples."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


PUBLIC_PART: dict[object, Node] = {
    "version": 1,
    "receipt_id": "aud_8f9e1a0d56e9bb6a",
    "tenant_id": TENANT,
    "key_id": HPKE_KEY.key_id,
    "sequence": 0,
    "previous_receipt_hash": None,
    "issued_at": SECOND // 60 * 60,
    "outcome": "answered",
    "request_hash": DIGEST,
    "response_hash": DIGEST,
    "attestation_hash": ATTESTATION.attestation_hash,
    "private_digest": "sha384:" + hashlib.sha384(sorted_text(PRIVATE_PART)).hexdigest(),
}
RECEIPT_LABEL = b"latensgate/1 receipt\x00"
RECEIPT: dict[object, Node] = {
    "public": PUBLIC_PART,
    "private": PRIVATE_PART,
    "signature": RECEIPT_KEY.sign(RECEIPT_LABEL + sorted_text(PUBLIC_PART)).hex(),
}
