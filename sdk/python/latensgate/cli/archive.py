"""Documents behind receipts: fetched from somewhere, judged here, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from latensgate.verify import (
    VerificationError,
    parse_untrusted_document,
    verify_attestation,
    verify_public_part,
)
from latensgate.verify.errors import BindingMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate.gateway import AuditEntry, GatewayClient
    from latensgate.verify import AppraisalPolicy, VerifiedAttestation, VerifiedPublicPart


@dataclass(frozen=True, slots=True)
class Evidence:
    """A document and its manifest, not verified."""

    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)


class Archive:
    """Verified attestations by hash, under one policy.

    A document is judged at its own second: its leaf certificate lives for hours, the archive for
    years. That shows what ran then.
    """

    def __init__(self, fetch: Callable[[str], Evidence], policy: AppraisalPolicy) -> None:
        self._fetch = fetch
        self._policy = policy
        self._judged: dict[str, VerifiedAttestation | VerificationError] = {}
        self.evidence: dict[str, Evidence] = {}

    def attestation(self, attestation_hash: str) -> VerifiedAttestation:
        """Return the verified attestation of this name.

        Raises:
            VerificationError: It was judged, and refused.
            LatensgateError: It could not be fetched.
        """
        if attestation_hash not in self._judged:
            evidence = self.evidence[attestation_hash] = self._fetch(attestation_hash)
            self._judged[attestation_hash] = _judge(evidence, attestation_hash, self._policy)
        judged = self._judged[attestation_hash]
        if isinstance(judged, VerificationError):
            raise judged
        return judged

    def verified(self, entry: AuditEntry) -> VerifiedPublicPart:
        """Verify the public part of an entry under the document that it names.

        Raises:
            VerificationError: Document or receipt was refused.
            LatensgateError: The document could not be fetched.
        """
        attestation = self.attestation(entry.public.attestation_hash)
        return verify_public_part(entry.public.to_json(), entry.signature, attestation=attestation)


def from_gateway(gateway: GatewayClient) -> Callable[[str], Evidence]:
    """Return what fetches evidence from a gateway."""

    def fetch(attestation_hash: str) -> Evidence:
        archived = gateway.attest(attestation_hash)
        return Evidence(archived.document, archived.manifest)

    return fetch


def _judge(
    evidence: Evidence, attestation_hash: str, policy: AppraisalPolicy
) -> VerifiedAttestation | VerificationError:
    try:
        at = parse_untrusted_document(evidence.document).timestamp
        verified = verify_attestation(evidence.document, evidence.manifest, policy=policy, at=at)
    except VerificationError as error:
        return error
    if verified.attestation_hash != attestation_hash:
        return BindingMismatch("document: it is not the one of this attestation_hash")
    return verified
