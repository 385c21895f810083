"""Verification of receipts, numbered as in docs/spec/receipts.md."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Protocol

from latensgate.verify.errors import ReceiptInvalid
from latensgate_shared.ed25519 import SignatureError, verify_ed25519
from latensgate_shared.errors import MalformedError
from latensgate_shared.receipts import (
    PublicPart,
    coarse_time,
    parse_public_part,
    parse_receipt,
    parse_signature,
    private_digest,
    receipt_hash,
    signing_input,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_shared.manifest import Manifest
    from latensgate_shared.strict_json import JSONObject, JSONValue


class Attested(Protocol):
    """What a receipt is judged by; ``VerifiedAttestation`` is one."""

    @property
    def attestation_hash(self) -> str:
        """``sha384:…`` of the verified document."""
        ...

    @property
    def manifest(self) -> Manifest:
        """The manifest that this document binds."""
        ...


@dataclass(frozen=True, slots=True)
class VerifiedPublicPart:
    """A public part under a signature that was verified.

    Attributes:
        public: What the enclave states.
        receipt_public_key: Raw Ed25519 key, 32 bytes: with the tenant it names the chain.
    """

    public: PublicPart
    receipt_public_key: bytes


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt that passed every step.

    Attributes:
        signed: The public part and the key that signed it.
        private: The private part, as the public one commits to it.
    """

    signed: VerifiedPublicPart
    private: JSONObject


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """Receipts of one enclave and tenant without a gap.

    Attributes:
        receipt_public_key: Of the enclave.
        tenant_id: Of the tenant.
        first_sequence: 0 if the chain is whole.
        last_sequence: Of the newest receipt.
        last_hash: ``receipt_hash`` of the newest: remember it, the next one must name it.
    """

    receipt_public_key: bytes
    tenant_id: str
    first_sequence: int
    last_sequence: int
    last_hash: str


def verify_receipt(
    receipt: JSONValue,
    *,
    attestation: Attested,
    tenant_id: str,
    request_hash: str | None = None,
    response_hash: str | None = None,
) -> VerifiedReceipt:
    """Verify both parts of a receipt.

    1. forms; 2. the attestation is the one named and holds the key; 3. signature; 4. the private
    part is the one committed to; 5. request, response and tenant are yours; 6. the time lies
    within the manifest's life.

    Args:
        receipt: The object of the final chunk, or of a file read with ``parse_json_object``.
        attestation: The document behind the receipt, verified under the caller's own policy.
        tenant_id: Of the caller.
        request_hash: Of the bytes that were sent; None only where they were not kept.
        response_hash: Of the bytes that were received; None only where they were not kept.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    try:
        parsed = parse_receipt(receipt)
        digest = private_digest(parsed.private)
    except MalformedError as error:
        raise ReceiptInvalid(error.detail, step=1) from error
    signed = _verify_signed(parsed.public, parsed.signature, attestation)
    if digest != parsed.public.private_digest:
        raise ReceiptInvalid("receipt: private_digest is not that of the private part", step=4)
    _check_owner(parsed.public, tenant_id, request_hash, response_hash)
    _check_time(parsed.public, attestation.manifest)
    return VerifiedReceipt(signed, parsed.private)


def verify_public_part(
    public: JSONValue, signature: JSONValue, *, attestation: Attested
) -> VerifiedPublicPart:
    """Verify what the parent stores: steps 1, 2, 3 and 6, without the private part.

    Args:
        public: As ``GET /api/audit`` lists it.
        signature: 128 hex digits.
        attestation: The document behind the receipt, verified under the caller's own policy.

    Raises:
        ReceiptInvalid: With the number of the step that refused.
    """
    try:
        parsed = parse_public_part(public)
        raw = parse_signature(signature)
    except MalformedError as error:
        raise ReceiptInvalid(error.detail, step=1) from error
    signed = _verify_signed(parsed, raw, attestation)
    _check_time(parsed, attestation.manifest)
    return signed


def _verify_signed(
    public: PublicPart, signature: bytes, attestation: Attested
) -> VerifiedPublicPart:
    """Steps 2 and 3."""
    manifest = attestation.manifest
    if public.attestation_hash != attestation.attestation_hash:
        raise ReceiptInvalid("receipt: attestation_hash names another document", step=2)
    if public.key_id not in {key.key_id for key in manifest.hpke_keys}:
        raise ReceiptInvalid("receipt: key_id is no key of the manifest", step=2)
    try:
        verify_ed25519(manifest.receipt_public_key, signing_input(public.canonical()), signature)
    except SignatureError as error:
        raise ReceiptInvalid(f"receipt: {error.detail}", step=3) from error
    return VerifiedPublicPart(public, manifest.receipt_public_key)


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
    """Step 6. The receipt's time is rounded down, so the manifest's beginning is too."""
    if not coarse_time(manifest.not_before) <= public.issued_at <= manifest.not_after:
        raise ReceiptInvalid("receipt: issued_at lies outside the manifest's life", step=6)


def verify_receipt_chain(receipts: Iterable[VerifiedPublicPart]) -> tuple[VerifiedChain, ...]:
    """Check that nothing is missing between the first and the last receipt of each chain.

    A chain belongs to one enclave (its receipt key) and one tenant. The order given does not
    matter. What lies before the first and after the last receipt given cannot be seen here.

    Raises:
        ReceiptInvalid: Step 7: a gap, a link to another receipt, or two receipts in one place.
    """
    ordered = sorted(receipts, key=_place)
    chains = groupby(ordered, key=lambda item: _place(item)[:2])
    return tuple(_verify_chain(list(members)) for _, members in chains)


def _place(item: VerifiedPublicPart) -> tuple[bytes, str, int]:
    return item.receipt_public_key, item.public.tenant_id, item.public.sequence


def _verify_chain(members: list[VerifiedPublicPart]) -> VerifiedChain:
    for before, after in pairwise(members):
        if after.public.sequence != before.public.sequence + 1:
            raise ReceiptInvalid(
                f"receipts: sequence {before.public.sequence + 1} expected, "
                f"found {after.public.sequence}",
                step=7,
            )
        if after.public.previous_receipt_hash != receipt_hash(before.public):
            raise ReceiptInvalid(
                f"receipts: {after.public.sequence} does not name the one before it", step=7
            )
    first, last = members[0], members[-1]
    return VerifiedChain(
        last.receipt_public_key,
        last.public.tenant_id,
        first.public.sequence,
        last.public.sequence,
        receipt_hash(last.public),
    )
