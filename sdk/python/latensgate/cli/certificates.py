"""Certificates as a document shows them: read for people, judged by the verifier alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from latensgate.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from latensgate.verify.document import UntrustedDocument


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """One certificate, or bytes that should have been one.

    Attributes:
        role: Its place in the chain.
        subject: Common name, safe to print.
        sha256: Fingerprint of the bytes.
        key: Algorithm, as in ``P-384``; None if the bytes are not X.509.
        not_before: First second; None likewise.
        not_after: Last second; None likewise.
    """

    role: str
    subject: str
    sha256: str
    key: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None


def shown_chain(said: UntrustedDocument) -> tuple[ShownCertificate, ...]:
    """Return every certificate of a document in its own order: bundle first, leaf last."""
    ders = (*said.cabundle, said.certificate)
    return tuple(show(der, _role(place, len(ders))) for place, der in enumerate(ders))


def _role(place: int, count: int) -> str:
    if place == count - 1:
        return "leaf"
    return "root" if place == 0 else f"authority {place}"


def show(der: bytes, role: str) -> ShownCertificate:
    """Read one certificate for people; what cannot be read is said to be so."""
    fingerprint = sha256(der).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the verifier judges; here one only looks
            certificate = x509.load_der_x509_certificate(der)
            subject, key = _common_name(certificate.subject), _key(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ShownCertificate(role, "not a certificate that can be read", fingerprint)
    return ShownCertificate(
        role,
        printable(subject),
        fingerprint,
        key,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _common_name(name: x509.Name) -> str:
    common: Sequence[x509.NameAttribute[str | bytes]]
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name.replace("secp384r1", "P-384")
    return type(key).__name__.removesuffix("PublicKey").strip("_")
