"""The receipt of an answer, as an application keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats

if TYPE_CHECKING:
    from latensgate.attested import Evidence
    from latensgate.verify import VerifiedAnswer
    from latensgate.verify.anchors import Status
    from latensgate_shared.receipts import PublicPart
    from latensgate_shared.strict_json import JSONObject

EXPORT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReceipt:
    """A receipt that was verified together with its answer.

    Attributes:
        status: ``verified`` under the AWS root, ``simulated`` under any other.
        audit_receipt_id: ``aud_`` and 16 hex digits.
        attestation_hash: ``sha384:…``: the document behind it; verifiable at ``/verify``.
        tenant_id: ``tnt_`` and 8 hex digits.
        outcome: ``answered``, or how the request ended.
        request_hash: ``sha384:…`` of the sealed bytes that were sent.
        response_hash: ``sha384:…`` of the sealed bytes that came back.
        pii_detected: Whether the scan found personal data.
        latency_ms: In the enclave.
        usage: Token counts; empty where no model ran.
        public: What the enclave signed.
        private: What only the caller has; ``public.private_digest`` commits to it.
        signature: Ed25519 over the public part, 128 hex digits.
        document: The published attestation document, so that it can be verified later.
        manifest: The manifest that the document commits to.
    """

    status: Status
    audit_receipt_id: str
    attestation_hash: str
    tenant_id: str
    outcome: str
    request_hash: str
    response_hash: str
    pii_detected: bool
    latency_ms: int
    usage: JSONObject
    public: PublicPart
    private: JSONObject = field(repr=False)
    signature: str = field(repr=False)
    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)

    @classmethod
    def of(cls, answer: VerifiedAnswer, receipt: JSONObject, evidence: Evidence) -> AnswerReceipt:
        """Take together what was verified together.

        Args:
            answer: What ``verify_answer`` returned.
            receipt: The receipt as it stood in the final record.
            evidence: The attestation's bytes.
        """
        public, values = answer.receipt.signed.public, answer.values
        return cls(
            status=answer.status,
            audit_receipt_id=public.receipt_id,
            attestation_hash=public.attestation_hash,
            tenant_id=public.tenant_id,
            outcome=public.outcome,
            request_hash=public.request_hash,
            response_hash=public.response_hash,
            pii_detected=values.pii_detected,
            latency_ms=values.latency_ms,
            usage=values.usage or {},
            public=public,
            private=answer.receipt.private,
            signature=str(receipt["signature"]),
            document=evidence.document,
            manifest=evidence.manifest,
        )

    @property
    def pii(self) -> JSONObject:
        """Verdict of the scan: policy digest, what was detected, counts by category."""
        verdict = self.private["pii"]
        return verdict if isinstance(verdict, dict) else {}

    def export(self) -> JSONObject:
        """Return everything that ``latensgate verify`` needs, offline and years later.

        The private part holds no content, only salted hashes of it, but says what was found: keep
        the export as carefully as the conversation.
        """
        return {
            "version": EXPORT_VERSION,
            "receipt": {
                "public": self.public.to_json(),
                "private": self.private,
                "signature": self.signature,
            },
            "tenant_id": self.tenant_id,
            "request_hash": self.request_hash,
            "response_hash": self.response_hash,
            "attestation_hash": self.attestation_hash,
            "document": formats.to_base64(self.document),
            "manifest": formats.to_base64(self.manifest),
        }

    def to_json(self) -> str:
        """Return the export as JSON text."""
        return json.dumps(self.export(), ensure_ascii=False, indent=2, sort_keys=True)
