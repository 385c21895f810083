"""The rules of receipts and usage totals, over a manifest and a hash that somebody states.

Internal: nothing here asks whether the document behind the hash was verified, and nothing here
returns a ``Verified…`` value. The public functions demand a ``VerifiedAttestation`` and apply these
rules; the conformance program applies them to what a test case states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate.verify.errors import ReceiptInvalid
from latensgate_shared import formats
from latensgate_shared.ed25519 import SignatureError, verify_ed25519
from latensgate_shared.errors import MalformedError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import RECEIPT_MAX_DELAY_S
from latensgate_shared.messages import DRY_RUN
from latensgate_shared.receipts import (
    PublicPart,
    coarse_time,
    parse_public_part,
    parse_receipt,
    parse_signature,
    signing_input,
)
from latensgate_shared.sealed_request import HEADER_BYTES, KEY_ID_BYTES, request_hash
from latensgate_shared.usage import UsageTotals, parse_usage_totals, usage_signing_input

if TYPE_CHECKING:
    from latensgate_shared.answer_records import AnswerValues, FinalRecord
    from latensgate_shared.errors import ErrorCode
    from latensgate_shared.manifest import Manifest
    from latensgate_shared.messages import Outer
    from latensgate_shared.receipts import Receipt
    from latensgate_shared.strict_json import JSONObject, JSONValue


@dataclass(frozen=True, slots=True)
class Stated:
    """What receipts are judged by. Verified elsewhere, or merely stated.

    Attributes:
        attestation_hash: ``sha384:…`` of the published document.
        manifest: The manifest that this document binds.
    """

    attestation_hash: str
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRequest:
    """What a client knows of a request that it sealed and sent.

    Attributes:
        outer: The visible part.
        request_id: As sealed.
        key_id: 16 hex digits of the header: the key that it was sealed to.
        request_hash: ``sha384:…`` of the sealed bytes.

    Raises:
        JSONError: A member that is not of the form above.
    """

    outer: Outer
    request_id: str
    key_id: str
    request_hash: str

    def __post_init__(self) -> None:
        formats.uuid7(self.request_id, "request.request_id")
        formats.hex_text(self.key_id, "request.key_id", KEY_ID_BYTES)
        formats.sha384_digest(self.request_hash, "request.request_hash")

    @classmethod
    def of(cls, wire: bytes, *, outer: Outer, request_id: str) -> SentRequest:
        """Take key id and hash from the sealed bytes.

        Raises:
            JSONError: ``request_id`` is no UUID of version 7.
            MalformedError: Bytes that hold no header.
        """
        if len(wire) < HEADER_BYTES:
            raise MalformedError(f"request: {len(wire)} bytes hold no header")
        key_id = wire[1 : 1 + KEY_ID_BYTES].hex()
        return cls(
            outer=outer, request_id=request_id, key_id=key_id, request_hash=request_hash(wire)
        )


def check_receipt(
    receipt: JSONValue,
    stated: Stated,
    *,
    tenant_id: str,
    request_hash: str | None,
    response_hash: str | None,
) -> Receipt:
    """Steps 1 to 6 of docs/spec/receipts.md.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    try:
        parsed = parse_receipt(receipt)
    except MalformedError as error:
        raise ReceiptInvalid(error.detail, step=1) from error
    _check_signed(parsed.public, parsed.signature, stated)
    if parsed.private.digest != parsed.public.private_digest:
        raise ReceiptInvalid("receipt: private_digest is not that of the private part", step=4)
    _check_owner(parsed.public, tenant_id, request_hash, response_hash)
    _check_time(parsed.public, stated.manifest)
    return parsed


def check_public_part(public: JSONValue, signature: JSONValue, stated: Stated) -> PublicPart:
    """Steps 1, 2, 3 and 6.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    try:
        parsed = parse_public_part(public)
        raw = parse_signature(signature)
    except MalformedError as error:
        raise ReceiptInvalid(error.detail, step=1) from error
    _check_signed(parsed, raw, stated)
    _check_time(parsed, stated.manifest)
    return parsed


def _check_signed(public: PublicPart, signature: bytes, stated: Stated) -> None:
    """Steps 2 and 3."""
    if public.attestation_hash != stated.attestation_hash:
        raise ReceiptInvalid("receipt: attestation_hash names another document", step=2)
    if public.key_id not in {key.key_id for key in stated.manifest.hpke_keys}:
        raise ReceiptInvalid("receipt: key_id is no key of the manifest", step=2)
    _check_signature(stated, signing_input(public.canonical()), signature)


def _check_signature(stated: Stated, message: bytes, signature: bytes) -> None:
    try:
        verify_ed25519(stated.manifest.receipt_public_key, message, signature)
    except SignatureError as error:
        raise ReceiptInvalid(f"receipt key: {error.detail}", step=3) from error


def _check_owner(
    public: PublicPart, tenant_id: str, request_hash: str | None, response_hash: str | None
) -> None:
    """Step 5."""
    if public.tenant_id != tenant_id:
        raise ReceiptInvalid("receipt: of another tenant", step=5)
    if request_hash is not None and public.request_hash != request_hash:
        raise ReceiptInvalid("receipt: request_hash is not that of the request sent", step=5)
    if response_hash is not None and public.response_hash != response_hash:
        raise ReceiptInvalid("receipt: response_hash is not that of the answer received", step=5)


def _check_time(public: PublicPart, manifest: Manifest) -> None:
    """Step 6. The receipt's time is rounded down, so the manifest's beginning is too.

    A request opens until ``not_after``; it may be held and its answer may be long.
    """
    latest = manifest.not_after + RECEIPT_MAX_DELAY_S
    if not coarse_time(manifest.not_before) <= public.issued_at <= latest:
        raise ReceiptInvalid("receipt: issued_at is no time at which this key can answer", step=6)


def check_answer(
    final: FinalRecord,
    stated: Stated,
    *,
    request: SentRequest,
    response_hash: str,
    code: ErrorCode | None,
) -> Receipt:
    """Steps 1 to 6 and 8 to 10: receipt, request, content and values are of one exchange.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    if request.outer.attestation_hash != stated.attestation_hash:
        raise ReceiptInvalid("answer: the request was sealed under another document", step=2)
    receipt = check_receipt(
        final.receipt,
        stated,
        tenant_id=request.outer.tenant_id,
        request_hash=request.request_hash,
        response_hash=response_hash,
    )
    private = receipt.private.value
    _check_request(receipt.public, private, request)
    _check_ids(receipt.public, final.values)
    _check_agreement(private, final.values)
    if not _outcome_agrees(receipt.public.outcome, request.outer.operation, code):
        raise ReceiptInvalid("answer: the receipt's outcome is not that of the content", step=10)
    return receipt


def _outcome_agrees(outcome: str, operation: str, code: ErrorCode | None) -> bool:
    """Step 10: an answer is ``answered``, or of a dry run ``dry_run``; an error is neither."""
    if code is None:
        return outcome == ("dry_run" if operation == DRY_RUN else "answered")
    return outcome not in {"answered", "dry_run"}


def _check_request(public: PublicPart, private: JSONObject, request: SentRequest) -> None:
    """Step 8."""
    if public.key_id != request.key_id:
        raise ReceiptInvalid("answer: key_id is not the key that was sealed to", step=8)
    if private["request_id"] != request.request_id:
        raise ReceiptInvalid("answer: request_id is not the one that was sealed", step=8)
    if private["model_asked"] != request.outer.model:
        raise ReceiptInvalid("answer: model_asked is not the model of the request", step=8)


def _check_ids(public: PublicPart, values: AnswerValues) -> None:
    """Step 9."""
    if values.audit_receipt_id != public.receipt_id:
        raise ReceiptInvalid("answer: audit_receipt_id names another receipt", step=9)
    if values.attestation_hash != public.attestation_hash:
        raise ReceiptInvalid("answer: its attestation_hash names another document", step=9)


def _check_agreement(private: JSONObject, values: AnswerValues) -> None:
    """Step 10. Compared as JCS, in which true is not 1."""
    pii = private["pii"]
    if type(pii) is not dict or pii.get("detected") is not values.pii_detected:
        raise ReceiptInvalid("answer: pii_detected differs from the receipt's", step=10)
    try:
        told = canonicalize(values.usage or {})
    except MalformedError as error:
        raise ReceiptInvalid(f"answer: usage: {error.detail}", step=10) from error
    if told != canonicalize(private["usage"]):
        raise ReceiptInvalid("answer: usage differs from the receipt's", step=10)


def check_usage(body: bytes, signature: bytes, stated: Stated) -> UsageTotals:
    """Form and signature of usage totals.

    Raises:
        ReceiptInvalid: Step 1 (form) or 3 (signature).
    """
    try:
        totals = parse_usage_totals(body)
    except MalformedError as error:
        raise ReceiptInvalid(error.detail, step=1) from error
    _check_signature(stated, usage_signing_input(body), signature)
    return totals
