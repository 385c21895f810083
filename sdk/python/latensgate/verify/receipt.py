"""Verification of receipts, numbered as in docs/spec/receipts.md."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from latensgate.verify.errors import ConfigurationError, ReceiptInvalid
from latensgate.verify.receipt_rules import (
    SentRequest,
    Stated,
    check_answer,
    check_public_part,
    check_receipt,
    check_usage,
)
from latensgate.verify.results import VERIFIER_ONLY, VerifiedAttestation, demand_verifier
from latensgate_shared.receipts import PublicPart, receipt_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate.verify.anchors import Status
    from latensgate_shared.answer_records import AnswerValues, FinalRecord
    from latensgate_shared.errors import ErrorCode
    from latensgate_shared.strict_json import JSONObject, JSONValue
    from latensgate_shared.usage import UsageTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPublicPart:
    """A public part under a signature that was verified.

    Attributes:
        status: ``verified`` under the AWS root, ``simulated`` under any other.
        public: What the enclave states.
        receipt_public_key: Raw Ed25519 key, 32 bytes: with the tenant it names the chain.
    """

    status: Status
    public: PublicPart
    receipt_public_key: bytes
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReceipt:
    """A receipt that passed every step.

    Attributes:
        signed: The public part and the key that signed it.
        private: The private part, as the public one commits to it.
    """

    signed: VerifiedPublicPart
    private: JSONObject
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)

    @property
    def status(self) -> Status:
        """``verified`` under the AWS root, ``simulated`` under any other."""
        return self.signed.status


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAnswer:
    """An answer whose receipt, request and values were found to be of one exchange.

    Attributes:
        receipt: Its receipt.
        values: The authoritative values.
    """

    receipt: VerifiedReceipt
    values: AnswerValues
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)

    @property
    def status(self) -> Status:
        """``verified`` under the AWS root, ``simulated`` under any other."""
        return self.receipt.status


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedUsageTotals:
    """Usage totals under a signature that was verified.

    Attributes:
        status: ``verified`` under the AWS root, ``simulated`` under any other.
        totals: What the enclave states, counted from its start.
        receipt_public_key: Of the enclave: of its statements the newest counts.
    """

    status: Status
    totals: UsageTotals
    receipt_public_key: bytes
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChain:
    """Receipts of one enclave and tenant without a gap.

    Attributes:
        status: ``verified`` under the AWS root, ``simulated`` under any other.
        receipt_public_key: Of the enclave.
        tenant_id: Of the tenant.
        first_sequence: 0 if the chain is whole.
        last_sequence: Of the newest receipt.
        last_hash: ``receipt_hash`` of the newest: remember it, the next one must name it.
    """

    status: Status
    receipt_public_key: bytes
    tenant_id: str
    first_sequence: int
    last_sequence: int
    last_hash: str
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)


def verify_receipt(
    receipt: JSONValue,
    *,
    attestation: VerifiedAttestation,
    tenant_id: str,
    request_hash: str | None = None,
    response_hash: str | None = None,
) -> VerifiedReceipt:
    """Verify both parts of a receipt.

    1. forms; 2. the attestation is the one named and holds the key; 3. signature; 4. the private
    part is the one committed to; 5. request, response and tenant are yours; 6. the time is one at
    which this key can answer.

    For an answer that has just been opened use ``verify_answer``, which compares everything.

    Args:
        receipt: The object of the final chunk, or of a file read with ``parse_json_object``.
        attestation: The document behind the receipt, verified under the caller's own policy.
        tenant_id: Of the caller.
        request_hash: Of the bytes that were sent; None only where they were not kept.
        response_hash: Of the bytes that were received; None only where they were not kept.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    checked = check_receipt(
        receipt,
        _stated(attestation),
        tenant_id=tenant_id,
        request_hash=request_hash,
        response_hash=response_hash,
    )
    signed = _signed(checked.public, attestation)
    return VerifiedReceipt(signed=signed, private=checked.private.value, seal=VERIFIER_ONLY)


def verify_answer(
    final: FinalRecord,
    *,
    request: SentRequest,
    response_hash: str,
    code: ErrorCode | None,
    attestation: VerifiedAttestation,
) -> VerifiedAnswer:
    """Verify that an opened answer, its receipt and the request that was sent belong together.

    Steps 1 to 6 as in ``verify_receipt``; 8. the receipt is of this request; 9. the values name
    this receipt and this document; 10. values and content say what the receipt says.

    Args:
        final: The final record of the answer.
        request: What was sent.
        response_hash: ``AnswerOpener.response_hash`` after ``finish``.
        code: Of the last content record if it tells an error; None for an answer.
        attestation: The document that the request was sealed under, verified under the caller's
            own policy.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    stated = _stated(attestation)
    checked = check_answer(final, stated, request=request, response_hash=response_hash, code=code)
    signed = _signed(checked.public, attestation)
    receipt = VerifiedReceipt(signed=signed, private=checked.private.value, seal=VERIFIER_ONLY)
    return VerifiedAnswer(receipt=receipt, values=final.values, seal=VERIFIER_ONLY)


def verify_public_part(
    public: JSONValue, signature: JSONValue, *, attestation: VerifiedAttestation
) -> VerifiedPublicPart:
    """Verify what the parent stores: steps 1, 2, 3 and 6, without the private part.

    Args:
        public: As ``GET /api/audit`` lists it.
        signature: 128 hex digits.
        attestation: The document behind the receipt, verified under the caller's own policy.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    return _signed(check_public_part(public, signature, _stated(attestation)), attestation)


def verify_usage_totals(
    body: bytes, signature: bytes, *, attestation: VerifiedAttestation
) -> VerifiedUsageTotals:
    """Verify usage totals of one enclave.

    Args:
        body: Exactly as the enclave answered.
        signature: 64 bytes.
        attestation: Any document of that enclave, verified under the caller's own policy.

    Raises:
        ReceiptInvalid: Step 1 (form) or 3 (signature).
    """
    return VerifiedUsageTotals(
        status=attestation.status,
        totals=check_usage(body, signature, _stated(attestation)),
        receipt_public_key=attestation.manifest.receipt_public_key,
        seal=VERIFIER_ONLY,
    )


def _stated(attestation: VerifiedAttestation) -> Stated:
    """Leave the verified world for the rules; only a real verification gets here."""
    if type(attestation) is not VerifiedAttestation:
        raise TypeError("receipts are judged by what verify_attestation returned, and nothing else")
    return Stated(attestation.attestation_hash, attestation.manifest)


def _signed(public: PublicPart, attestation: VerifiedAttestation) -> VerifiedPublicPart:
    return VerifiedPublicPart(
        status=attestation.status,
        public=public,
        receipt_public_key=attestation.manifest.receipt_public_key,
        seal=VERIFIER_ONLY,
    )


def verify_receipt_chain(receipts: Iterable[VerifiedPublicPart]) -> tuple[VerifiedChain, ...]:
    """Check that nothing is missing between the first and the last receipt of each chain.

    A chain belongs to one enclave (its receipt key) and one tenant. The order given does not
    matter. What lies before the first and after the last receipt given cannot be seen here.

    Raises:
        ConfigurationError: No receipts: nothing would be shown.
        ReceiptInvalid: Step 7: a gap, a link to another receipt, two receipts in one place or of
            one id, or time that runs backwards.
    """
    ordered = sorted(receipts, key=_place)
    if not ordered:
        raise ConfigurationError("receipts: at least one expected; an empty chain shows nothing")
    chains = groupby(ordered, key=lambda item: _place(item)[:3])
    return tuple(_verify_chain(list(members)) for _, members in chains)


def _place(item: VerifiedPublicPart) -> tuple[str, bytes, str, int]:
    return item.status, item.receipt_public_key, item.public.tenant_id, item.public.sequence


def _verify_chain(members: list[VerifiedPublicPart]) -> VerifiedChain:
    for before, after in pairwise(members):
        _check_link(before.public, after.public)
    if len({item.public.receipt_id for item in members}) != len(members):
        raise ReceiptInvalid("receipts: two of one chain have the same receipt_id", step=7)
    first, last = members[0], members[-1]
    return VerifiedChain(
        status=last.status,
        receipt_public_key=last.receipt_public_key,
        tenant_id=last.public.tenant_id,
        first_sequence=first.public.sequence,
        last_sequence=last.public.sequence,
        last_hash=receipt_hash(last.public),
        seal=VERIFIER_ONLY,
    )


def _check_link(before: PublicPart, after: PublicPart) -> None:
    if after.sequence != before.sequence + 1:
        raise ReceiptInvalid(
            f"receipts: sequence {before.sequence + 1} expected, found {after.sequence}", step=7
        )
    if after.previous_receipt_hash != receipt_hash(before):
        raise ReceiptInvalid(f"receipts: {after.sequence} does not name the one before it", step=7)
    if after.issued_at < before.issued_at:
        raise ReceiptInvalid(
            f"receipts: {after.sequence} was issued before the one before it", step=7
        )
