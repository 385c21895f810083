"""Steps 4 and 5: from the pinned root to the leaf, at a time that the caller states.

The path itself is built by ``cryptography.x509.verification`` (ADR 0002). What is checked before
it, pins the root and bounds its work: one name per certificate leaves it one candidate per step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import verification

from latensgate.verify.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    InvalidChain,
    UntrustedRoot,
)
from latensgate.verify.profile import check_profile
from latensgate_shared import limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from latensgate.verify.anchors import TrustAnchor
    from latensgate.verify.document import UntrustedDocument

_CA_POLICY: Final = verification.ExtensionPolicy.webpki_defaults_ca()
_LEAF_POLICY: Final = verification.ExtensionPolicy.permit_all()
"""Nitro leaves have no subjectAltName and no authorityKeyIdentifier, which the Web PKI demands;
their rules are in ``profile``."""
_NOT_X509: Final = (
    ValueError,
    TypeError,  # a name with a BIT STRING in it
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,  # raised where a process turns warnings into errors
)
"""What the library raises for certificates that it cannot read, at loading or at first use."""


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """One certificate of a verified chain, for people. Texts are made only when asked for.

    Attributes:
        certificate: The certificate itself.
        not_before: First second of validity, UTC.
        not_after: Last second of validity, UTC.
    """

    certificate: x509.Certificate
    not_before: datetime
    not_after: datetime

    @property
    def subject(self) -> str:
        """Distinguished name (RFC 4514)."""
        return self.certificate.subject.rfc4514_string()

    @property
    def serial(self) -> str:
        """Serial number in hexadecimal."""
        return f"{self.certificate.serial_number:x}"

    @property
    def sha256(self) -> str:
        """Fingerprint, 64 hex digits."""
        return self.certificate.fingerprint(SHA256()).hex()


@dataclass(frozen=True, slots=True)
class CheckedChain:
    """A chain that holds at every time inside all its windows.

    Attributes:
        leaf: The parsed leaf.
        leaf_key: Its P-384 key.
        certificates: Root first, leaf last.
    """

    leaf: x509.Certificate
    leaf_key: ec.EllipticCurvePublicKey
    certificates: tuple[CertificateSummary, ...]


class ChainCache:
    """Chains found good before, so that a known enclave costs one signature and not five.

    Keyed by anchor and the exact bytes of every certificate; the validity windows are not part of
    what is remembered: they are compared with the evaluation time on every use. Bounded by
    ``limits.ATTESTATION_CHAIN_CACHE_COUNT``, oldest out first. Every step
    is one operation of a dict, so threads may share it.
    """

    __slots__ = ("_chains",)

    def __init__(self) -> None:
        self._chains: dict[bytes, CheckedChain] = {}

    def get(self, key: bytes) -> CheckedChain | None:
        """Return the chain remembered under a key of ``_cache_key``."""
        return self._chains.get(key)

    def put(self, key: bytes, chain: CheckedChain) -> None:
        """Remember a chain, and forget the oldest one if there are too many."""
        self._chains[key] = chain
        for oldest in list(self._chains)[: -limits.ATTESTATION_CHAIN_CACHE_COUNT]:
            self._chains.pop(oldest, None)


def check_chain(
    document: UntrustedDocument, *, anchor: TrustAnchor, at: datetime, cache: ChainCache | None
) -> CheckedChain:
    """Build and judge the chain of a document (steps 4, 5 and the chain part of 6).

    Args:
        document: Its certificates are used and nothing else of it.
        anchor: The pinned root.
        at: Evaluation time, aware, whole seconds.
        cache: Where chains found good are remembered, if anywhere.

    Raises:
        UntrustedRoot: Step 4.
        InvalidChain: Step 5: no path, or a certificate that is not X.509.
        CertificateExpired: Step 5.
        CertificateNotYetValid: Step 5.
        ProfileViolation: Step 6.
    """
    key = _cache_key(document, anchor)
    known = cache.get(key) if cache is not None else None
    if known is not None:
        _check_windows(known.certificates, at)
        return known
    # Step 4: the pinned root stands first.
    if hashlib.sha256(document.cabundle[0]).digest() != anchor.sha256:
        raise _untrusted(document, anchor)
    try:
        checked = _check_unknown(document, at)
    except _NOT_X509 as error:
        raise InvalidChain("certificates: one of them is not well-formed X.509") from error
    if cache is not None:
        cache.put(key, checked)
    return checked


def _check_unknown(document: UntrustedDocument, at: datetime) -> CheckedChain:
    # Step 5: the path at the evaluation time.
    chain = [x509.load_der_x509_certificate(der) for der in document.cabundle]
    chain.append(x509.load_der_x509_certificate(document.certificate))
    summaries = tuple(_summary(certificate) for certificate in chain)
    _check_windows(summaries, at)
    _check_order(chain)
    path = build_path(chain, at)
    # Step 6, first half: the profile of the path.
    return CheckedChain(path[-1], check_profile(path), summaries)


def _cache_key(document: UntrustedDocument, anchor: TrustAnchor) -> bytes:
    """Hash anchor and certificates, each to a fixed length, so that no two bundles collide."""
    digest = hashlib.sha256(anchor.sha256)
    for der in (*document.cabundle, document.certificate):
        digest.update(hashlib.sha256(der).digest())
    return digest.digest()


def _untrusted(document: UntrustedDocument, anchor: TrustAnchor) -> UntrustedRoot:
    found = hashlib.sha256(document.cabundle[0]).hexdigest()
    expected = anchor.sha256.hex()
    if anchor.sha256 in (hashlib.sha256(der).digest() for der in document.cabundle):
        return UntrustedRoot(f"cabundle: the pinned root {expected[:16]}… is not its first entry")
    return UntrustedRoot(
        f"cabundle: begins with root {found[:16]}…, but {expected[:16]}… is pinned;"
        " this document is of another authority"
    )


def _summary(certificate: x509.Certificate) -> CertificateSummary:
    return CertificateSummary(
        certificate, certificate.not_valid_before_utc, certificate.not_valid_after_utc
    )


def _check_windows(certificates: Sequence[CertificateSummary], at: datetime) -> None:
    """Compare every window, the root's too, whether or not the chain is remembered.

    Errors name the place and not the subject: nobody has vouched for that text yet.
    """
    last = len(certificates) - 1
    for number in range(last, -1, -1):
        certificate = certificates[number]
        place = "leaf" if number == last else f"CA {number}" if number else "root"
        if at < certificate.not_before:
            raise CertificateNotYetValid(
                f"{place} certificate: begins {certificate.not_before.isoformat()},"
                f" after the evaluation time {at.isoformat()}"
            )
        if at > certificate.not_after:
            raise CertificateExpired(
                f"{place} certificate: ended {certificate.not_after.isoformat()},"
                f" before the evaluation time {at.isoformat()}"
            )


def _check_order(chain: Sequence[x509.Certificate]) -> None:
    """Demand that the bundle is the chain: each issued in the name of the one before, none twice.

    Two certificates of one name would let a document choose how many paths are tried.
    """
    for number, (issuer, certificate) in enumerate(pairwise(chain), start=1):
        if certificate.issuer != issuer.subject:
            raise InvalidChain(
                f"chain: certificate {number} is not issued in the name of the one before it"
            )
    if len({certificate.subject for certificate in chain}) != len(chain):
        raise InvalidChain("chain: two certificates have the same name")


def build_path(chain: Sequence[x509.Certificate], at: datetime) -> list[x509.Certificate]:
    """Return the path that the library builds, root first."""
    root, *intermediates, leaf = chain
    builder = verification.PolicyBuilder().store(verification.Store([root])).time(at)
    builder = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
    try:
        path = builder.build_client_verifier().verify(leaf, intermediates).chain
    except verification.VerificationError as error:
        raise InvalidChain(
            "chain: the certificates do not lead to the pinned root"
            " (a signature, a CA flag, a key usage or a path length is wrong)"
        ) from error
    return path[::-1]
