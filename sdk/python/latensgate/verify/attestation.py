"""The one verifier of attestation documents.

It follows AWS's own steps; ``errors.STEPS`` holds the same list, and every error names its step.
Nothing here reads a clock, a file or a socket, and no argument leaves a step out.

1. Read the document as strict CBOR and COSE_Sign1.
2. Demand ES384 in the protected header, nothing in the unprotected one.
3. Read the fields and hold them to their types and sizes.
4. Find the pinned root first in the certificate bundle.
5. Build the certificate chain at the evaluation time.
6. Hold the chain to the Nitro profile and to the module id.
7. Check the signature with the leaf's key.
8. Check the document's own time.
9. Refuse debug mode.
10. Compare PCR0, PCR1 and PCR2 with the accepted measurements.
11. Compare the nonce.
12. Compare ``user_data`` with the manifest.
13. Take the keys from the signed manifest.

**Evaluation time.** ``at`` is the time at which the certificates are judged. Leaves live for three
hours, so an archived document is judged at its own second,
``parse_untrusted_document(document).timestamp``; whether a client may still seal to its keys is
bounded by the manifest's ``not_after``. Fresh evidence is judged at the verifier's own time.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature as _BadSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384

from latensgate.verify.anchors import select_anchor
from latensgate.verify.chain import ChainCache, CheckedChain, check_chain
from latensgate.verify.document import SIGNATURE_BYTES, parse_untrusted_document
from latensgate.verify.errors import (
    ConfigurationError,
    DebugModeRefused,
    DocumentTimeInvalid,
    InvalidSignature,
    ManifestInvalid,
    NonceMismatch,
)
from latensgate.verify.manifest import verify_manifest_binding
from latensgate.verify.moments import in_utc
from latensgate.verify.profile import check_module
from latensgate.verify.results import (
    VERIFIER_ONLY,
    UnappraisedDocument,
    VerifiedAttestation,
    VerifiedDocument,
)
from latensgate_shared import limits

if TYPE_CHECKING:
    from latensgate.verify.anchors import TrustAnchor
    from latensgate.verify.document import UntrustedDocument
    from latensgate.verify.policy import AppraisalPolicy, Release
    from latensgate_shared.manifest import Manifest


def verify_document(
    document: bytes,
    *,
    policy: AppraisalPolicy,
    at: datetime,
    nonce: bytes | None = None,
    cache: ChainCache | None = None,
) -> VerifiedDocument:
    """Verify an attestation document (steps 1 to 11).

    Args:
        document: COSE_Sign1, at most ``limits.ATTESTATION_DOCUMENT_MAX_BYTES``.
        policy: What is accepted. It cannot be empty.
        at: Evaluation time, with a time zone; see the module's text.
        nonce: The challenge that the document must answer, ``limits.NONCE_BYTES`` long. None: no
            challenge was sent; the document then proves no freshness beyond its own time.
        cache: Chains found good before; the same answer, sooner.

    Raises:
        ConfigurationError: ``at`` without time zone, or a nonce of another length.
        VerificationError: One of ``errors.VERDICTS``, with its step.
    """
    _check_nonce_argument(nonce)
    genuine = _authenticate(document, anchor=policy.anchor, at=at, cache=cache)
    said = genuine.said
    # Step 10: measurements.
    match = policy.appraise(said.pcrs, at=at)
    # Step 11: nonce.
    if nonce is not None and not hmac.compare_digest(said.nonce or b"", nonce):
        raise NonceMismatch("nonce: the document does not answer the challenge that was sent")
    return VerifiedDocument(
        status=policy.anchor.status,
        module_id=said.module_id,
        region=genuine.region,
        timestamp=said.timestamp,
        pcrs=said.pcrs,
        attestation_hash=said.attestation_hash,
        public_key=said.public_key,
        user_data=said.user_data,
        nonce=said.nonce,
        certificates=genuine.chain.certificates,
        match=match,
        seal=VERIFIER_ONLY,
    )


def verify_attestation(  # noqa: PLR0913 -- verify_document's, and the manifest
    document: bytes,
    manifest_bytes: bytes,
    *,
    policy: AppraisalPolicy,
    at: datetime,
    nonce: bytes | None = None,
    cache: ChainCache | None = None,
) -> VerifiedAttestation:
    """Verify a document and the manifest that it commits to (steps 1 to 13).

    Args:
        document: As for ``verify_document``.
        manifest_bytes: Exactly as they were served with the document.
        policy: As for ``verify_document``.
        at: As for ``verify_document``.
        nonce: As for ``verify_document``.
        cache: As for ``verify_document``.

    Raises:
        ConfigurationError: As ``verify_document``.
        VerificationError: One of ``errors.VERDICTS``, with its step.
    """
    verified = verify_document(document, policy=policy, at=at, nonce=nonce, cache=cache)
    # Steps 12 and 13: user_data commits to these bytes, and the keys come from nowhere else.
    binding = verify_manifest_binding(verified, manifest_bytes)
    _check_release(verified.match.release, binding.manifest)
    return VerifiedAttestation(document=verified, binding=binding, seal=VERIFIER_ONLY)


def inspect_document(
    document: bytes,
    *,
    at: datetime,
    unsafe_accept_simulated_root_sha256: str | None = None,
) -> UnappraisedDocument:
    """Authenticate a document without judging its image (steps 1 to 9): for looking only.

    Raises:
        ConfigurationError: ``at`` without time zone, or an unfit simulated root.
        VerificationError: As ``verify_document``.
    """
    anchor = select_anchor(unsafe_accept_simulated_root_sha256)
    genuine = _authenticate(document, anchor=anchor, at=at, cache=None)
    return UnappraisedDocument(
        document=genuine.said,
        root="aws" if anchor.status == "verified" else "simulated",
        region=genuine.region,
        certificates=genuine.chain.certificates,
        seal=VERIFIER_ONLY,
    )


@dataclass(frozen=True, slots=True)
class _Genuine:
    """A document after step 9."""

    said: UntrustedDocument
    chain: CheckedChain
    region: str


def _authenticate(
    document: bytes, *, anchor: TrustAnchor, at: datetime, cache: ChainCache | None
) -> _Genuine:
    second = _whole_second(at)
    # Steps 1 to 3: structure, headers, fields.
    said = parse_untrusted_document(document)
    # Steps 4 to 6: root, path, profile, module.
    chain = check_chain(said, anchor=anchor, at=second, cache=cache)
    region = check_module(chain.leaf, said)
    # Step 7: signature.
    _check_signature(said, chain.leaf_key)
    # Step 8: the document's own time.
    _check_time(said, chain, second)
    # Step 9: debug mode, before any comparison, so that zeros can never match.
    if said.debug:
        raise DebugModeRefused(
            "PCR0, PCR1 and PCR2 are all zero: the enclave runs in debug mode,"
            " in which its operator can read its console; it proves no image"
        )
    return _Genuine(said, chain, region)


def _check_signature(said: UntrustedDocument, key: ec.EllipticCurvePublicKey) -> None:
    half = SIGNATURE_BYTES // 2
    r, s = (int.from_bytes(part, "big") for part in (said.signature[:half], said.signature[half:]))
    try:
        key.verify(
            utils.encode_dss_signature(r, s),
            said.signed_digest,
            ec.ECDSA(utils.Prehashed(SHA384())),
        )
    except _BadSignature:
        raise InvalidSignature(
            "signature: not the leaf's over this document; it was changed or forged"
        ) from None


def _check_time(said: UntrustedDocument, chain: CheckedChain, at: datetime) -> None:
    made = _whole_second(said.timestamp)
    leaf = chain.certificates[-1]
    if not leaf.not_before <= made <= leaf.not_after:
        raise DocumentTimeInvalid(
            f"timestamp: {made.isoformat()} lies outside the leaf's window,"
            f" {leaf.not_before.isoformat()} to {leaf.not_after.isoformat()}"
        )
    if made - at > timedelta(seconds=limits.ATTESTATION_DOCUMENT_SKEW_S):
        raise DocumentTimeInvalid(
            f"timestamp: {made.isoformat()} is more than {limits.ATTESTATION_DOCUMENT_SKEW_S} s"
            f" after the evaluation time {at.isoformat()}"
        )


def _whole_second(time: datetime) -> datetime:
    """Drop the fraction: X.509 knows whole seconds, and the last one still counts."""
    return in_utc(time).replace(microsecond=0)


def _check_release(release: Release | None, manifest: Manifest) -> None:
    """Demand that list and manifest speak of one deployment: both describe the measured image."""
    if release is not None and release.deployment_digest != manifest.deployment_digest:
        raise ManifestInvalid(
            f"manifest: deployment_digest is not that of release {release.version}"
        )


def _check_nonce_argument(nonce: bytes | None) -> None:
    if nonce is not None and len(nonce) != limits.NONCE_BYTES:
        raise ConfigurationError(f"nonce: {limits.NONCE_BYTES} bytes expected, {len(nonce)} given")
