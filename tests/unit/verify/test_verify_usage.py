"""Usage totals: believed under the receipt key of a verified attestation only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate.verify.errors import ReceiptInvalid
from latensgate.verify.receipt import VerifiedUsageTotals, verify_usage_totals
from latensgate_shared.receipt_key import RECEIPT_LABEL
from latensgate_shared.usage import (
    TenantUsage,
    UsageTotals,
    encode_usage_totals,
    usage_signing_input,
)
from protocol_examples import RECEIPT_KEY, TENANT, manifest
from verified_examples import attested

ATTESTATION = attested()
TOTALS = UsageTotals(
    1_780_315_299, {TENANT: TenantUsage(requests=1, prompt_tokens=2, completion_tokens=3)}
)
BODY = encode_usage_totals(TOTALS)
SIGNATURE = RECEIPT_KEY.sign(usage_signing_input(BODY))


def test_good_totals_are_returned() -> None:
    verified = verify_usage_totals(BODY, SIGNATURE, attestation=ATTESTATION)
    assert verified.totals == TOTALS
    assert verified.receipt_public_key == RECEIPT_KEY.public_key().public_bytes_raw()
    assert verified.status == "simulated"


def test_any_document_of_the_enclave_will_do() -> None:
    later = attested(replace(manifest(), not_before=manifest().not_before + 3_600))
    assert verify_usage_totals(BODY, SIGNATURE, attestation=later).totals == TOTALS


@pytest.mark.parametrize(
    ("step", "body", "signature"),
    [
        (1, BODY + b"\n", SIGNATURE),
        (1, b"", SIGNATURE),
        (3, BODY.replace(b":3,", b":9,"), SIGNATURE),
        (3, BODY, SIGNATURE[:-1]),
        (3, BODY, RECEIPT_KEY.sign(BODY)),
        (3, BODY, RECEIPT_KEY.sign(RECEIPT_LABEL + BODY)),
        (3, BODY, Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(usage_signing_input(BODY))),
    ],
)
def test_the_step_that_refuses(step: int, body: bytes, signature: bytes) -> None:
    with pytest.raises(ReceiptInvalid) as caught:
        verify_usage_totals(body, signature, attestation=ATTESTATION)
    assert caught.value.step == step


def test_verified_totals_are_made_by_the_verifier_only() -> None:
    with pytest.raises(TypeError, match="nothing else"):
        VerifiedUsageTotals(
            status="verified", totals=TOTALS, receipt_public_key=bytes(32), seal=None
        )
    with pytest.raises(TypeError, match="verify_attestation"):
        verify_usage_totals(BODY, SIGNATURE, attestation=ATTESTATION.document)  # type: ignore[arg-type]  # the point
