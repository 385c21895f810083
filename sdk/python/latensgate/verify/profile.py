"""Step 6: what every chain of Nitro Enclaves is like, and X.509 alone does not demand.

Path builders accept weaker keys and hashes, leaves that are CAs and leaves that may not sign.
Measured on 128 real documents (facts) and checked against 125 made ones; ADR 0003 lists each rule
that goes beyond the written specification.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from latensgate.verify.errors import ProfileViolation
from latensgate.verify.policy import PCR_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate.verify.document import UntrustedDocument

_KNOWN_CRITICAL: Final = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
_LEAF_SUFFIX: Final = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2})\.aws")
_PCR_INSTANCE: Final = 4

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def check_profile(chain: Sequence[x509.Certificate]) -> ec.EllipticCurvePublicKey:
    """Hold a built chain to the Nitro profile.

    Args:
        chain: Root first, leaf last.

    Returns:
        The leaf's key, on P-384.

    Raises:
        ProfileViolation: The text names the certificate and the rule.
    """
    *authorities, leaf = chain
    names = ["root", *(f"CA {number}" for number in range(1, len(authorities)))]
    for certificate, name in zip(chain, [*names, "leaf"], strict=True):
        _check_common(certificate, name)
    for below, (certificate, name) in enumerate(
        zip(reversed(authorities), reversed(names), strict=True)
    ):
        _check_authority(certificate, name, below)
    for issuer, certificate, name in zip(chain, chain[1:], [*names[1:], "leaf"], strict=False):
        _check_key_identifiers(issuer, certificate, name)
    _check_leaf(leaf)
    return _key(leaf, "leaf")


def check_module(leaf: x509.Certificate, document: UntrustedDocument) -> str:
    """Demand that leaf, module id and PCR4 speak of one enclave.

    PCR4, where it is locked, is SHA-384(48 zero bytes || instance id).

    Returns:
        The Region in the leaf's name.

    Raises:
        ProfileViolation: They do not.
    """
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if len(names) == 1 else ""
    match = _LEAF_SUFFIX.fullmatch(name.removeprefix(document.module_id))
    if match is None or not name.startswith(document.module_id):
        raise ProfileViolation("leaf: the common name is not module_id, Region and 'aws'")
    measured = document.pcrs.get(_PCR_INSTANCE)
    expected = hashlib.sha384(bytes(PCR_BYTES) + document.instance_id.encode()).digest()
    if measured is not None and measured != expected:
        raise ProfileViolation("PCR4: not the measurement of the instance id in module_id")
    return match[1]


def _check_common(certificate: x509.Certificate, name: str) -> None:
    if certificate.version is not x509.Version.v3:
        raise ProfileViolation(f"{name}: X.509 version 3 expected")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        raise ProfileViolation(f"{name}: not signed with ecdsa-with-SHA384")
    _key(certificate, name)
    unknown = [
        entry.oid.dotted_string
        for entry in certificate.extensions
        if entry.critical and entry.oid not in _KNOWN_CRITICAL
    ]
    if unknown:
        raise ProfileViolation(f"{name}: critical extension {unknown[0]} is not known here")


def _check_authority(certificate: x509.Certificate, name: str, below: int) -> None:
    constraints = _constraints(certificate, name)
    if not constraints.ca:
        raise ProfileViolation(f"{name}: basicConstraints say that it is no CA")
    if constraints.path_length is not None and constraints.path_length < below:
        raise ProfileViolation(
            f"{name}: path length {constraints.path_length}, but {below} CAs below it"
        )
    if not _usage(certificate, name).key_cert_sign:
        raise ProfileViolation(f"{name}: keyUsage without keyCertSign")


def _check_leaf(leaf: x509.Certificate) -> None:
    if _constraints(leaf, "leaf").ca:
        raise ProfileViolation("leaf: basicConstraints say that it is a CA")
    usage = _usage(leaf, "leaf")
    if not usage.digital_signature or usage.key_cert_sign:
        raise ProfileViolation("leaf: keyUsage must have digitalSignature and not keyCertSign")


def _check_key_identifiers(
    issuer: x509.Certificate, certificate: x509.Certificate, name: str
) -> None:
    """Where both are there, they agree. The path builder here compares names only."""
    theirs = _find(issuer, x509.SubjectKeyIdentifier)
    ours = _find(certificate, x509.AuthorityKeyIdentifier)
    if theirs is None or ours is None or ours.key_identifier is None:
        return
    if ours.key_identifier != theirs.digest:
        raise ProfileViolation(f"{name}: authorityKeyIdentifier names another key")


def _constraints(certificate: x509.Certificate, name: str) -> x509.BasicConstraints:
    found = _find(certificate, x509.BasicConstraints)
    if found is None:
        raise ProfileViolation(f"{name}: no basicConstraints")
    return found


def _usage(certificate: x509.Certificate, name: str) -> x509.KeyUsage:
    found = _find(certificate, x509.KeyUsage)
    if found is None:
        raise ProfileViolation(f"{name}: no keyUsage")
    return found


def _find(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _key(certificate: x509.Certificate, name: str) -> ec.EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ProfileViolation(f"{name}: a public key that cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ProfileViolation(f"{name}: a key on P-384 expected")
    return key
