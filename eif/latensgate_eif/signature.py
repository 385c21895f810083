"""The signature section: one certificate and a COSE_Sign1 over PCR0.

Source: aws-nitro-enclaves-image-format, `src/utils/eif_signer.rs`. Both are written as arrays of
integers. The signature is deterministic (RFC 6979), so that a signed image is reproducible, too.
PCR8 names the certificate; what the signature is worth, the reader of PCR8 decides.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.utils import CryptographyDeprecationWarning

from latensgate_eif import limits
from latensgate_eif.image import ImageError
from latensgate_shared import cbor, cose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_shared.cbor import CBOREncodable, CBORValue

_PROTECTED_ES384: Final = b"\xa1\x01\x38\x22"
_HALF_BYTES: Final = 48
_BYTE_MAX: Final = 255
_NAMES: Final = frozenset({"signing_certificate", "signature"})


@dataclass(frozen=True, slots=True)
class UntrustedSignature:
    """A signature section, parsed; ``verify_signature`` judges it.

    Attributes:
        certificate_pem: As it stands in the section.
        certificate_der: What PCR8 is made of.
        message: COSE_Sign1, encoded.
    """

    certificate_pem: bytes = field(repr=False)
    certificate_der: bytes = field(repr=False)
    message: bytes = field(repr=False)


def parse_signature(section: bytes) -> UntrustedSignature:
    """Read a signature section.

    Raises:
        MalformedError: Not one signature of the form that nitro-cli writes.
    """
    value = cbor.decode(section, max_bytes=limits.SIGNATURE_MAX_BYTES)
    if not isinstance(value, list) or len(value) != limits.SIGNATURES_MAX_COUNT:
        raise ImageError("signature: an array of one signature expected")
    (entry,) = value
    if not isinstance(entry, dict) or entry.keys() != _NAMES:
        raise ImageError("signature: signing_certificate and signature expected")
    pem = _bytes_of(entry["signing_certificate"], "signing_certificate")
    message = _bytes_of(entry["signature"], "signature")
    return UntrustedSignature(pem, _certificate(pem).public_bytes(_DER), message)


_DER: Final = serialization.Encoding.DER


def _bytes_of(value: CBORValue, what: str) -> bytes:
    if not isinstance(value, list):
        raise ImageError(f"signature: {what}: an array of integers expected")
    taken = [item for item in value if type(item) is int and 0 <= item <= _BYTE_MAX]
    if len(taken) != len(value):
        raise ImageError(f"signature: {what}: integers from 0 to 255 expected")
    return bytes(taken)


def _certificate(pem: bytes) -> x509.Certificate:
    if len(pem) > limits.CERTIFICATE_MAX_BYTES:
        raise ImageError(f"certificate: at most {limits.CERTIFICATE_MAX_BYTES} bytes expected")
    try:
        with warnings.catch_warnings():
            # What the library only warns of is against RFC 5280, and refused.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            return x509.load_pem_x509_certificate(pem)
    except (ValueError, CryptographyDeprecationWarning) as error:
        raise ImageError("certificate: one X.509 certificate in PEM expected") from error


def verify_signature(signature: UntrustedSignature, pcr0: bytes) -> x509.Certificate:
    """Return the certificate if its key has signed this PCR0 (48 bytes).

    Raises:
        MalformedError: The COSE_Sign1 is of another form.
        ImageError: Another register, another value, another algorithm, or a wrong signature.
    """
    certificate = _certificate(signature.certificate_pem)
    signed = cose.parse_sign1(signature.message, max_bytes=limits.SIGNATURE_MAX_BYTES)
    if signed.protected != _PROTECTED_ES384 or signed.unprotected:
        raise ImageError("signature: ES384 alone expected in the protected header")
    if signed.payload != _payload(pcr0):
        raise ImageError("signature: it is over another register or value than PCR0 of this image")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ImageError("certificate: a P-384 key expected")
    if len(signed.signature) != 2 * _HALF_BYTES:
        raise ImageError(f"signature: {2 * _HALF_BYTES} bytes expected")
    halves = (signed.signature[:_HALF_BYTES], signed.signature[_HALF_BYTES:])
    der = encode_dss_signature(*(int.from_bytes(half, "big") for half in halves))
    try:
        key.verify(der, cose.sig_structure(signed.protected, signed.payload), _ES384)
    except InvalidSignature as error:
        raise ImageError("signature: wrong for this certificate") from error
    return certificate


_ES384: Final = ec.ECDSA(hashes.SHA384())


def sign_pcr0(pcr0: bytes, certificate_pem: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signature section for an image of this PCR0 (48 bytes).

    Raises:
        ImageError: The key is not P-384, or not the certificate's.
    """
    certificate = _certificate(certificate_pem)
    if not isinstance(key.curve, ec.SECP384R1) or certificate.public_key() != key.public_key():
        raise ImageError("signing key: the P-384 key of the certificate expected")
    payload = _payload(pcr0)
    deterministic = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
    der = key.sign(cose.sig_structure(_PROTECTED_ES384, payload), deterministic)
    halves = (half.to_bytes(_HALF_BYTES, "big") for half in decode_dss_signature(der))
    message: CBOREncodable = [_PROTECTED_ES384, _EMPTY, payload, b"".join(halves)]
    entry = {
        "signing_certificate": list(certificate_pem),
        "signature": list(cbor.encode(message)),
    }
    return _ARRAY_OF_ONE + _in_written_order(entry)


_EMPTY: Final[dict[str, CBOREncodable]] = {}
_ARRAY_OF_ONE: Final = b"\x81"
_MAP: Final = 0xA0
"""Head of a map of fewer than 24 members, to be joined with their number."""


def _payload(pcr0: bytes) -> bytes:
    return _in_written_order({"register_index": 0, "register_value": list(pcr0)})


def _in_written_order(members: Mapping[str, CBOREncodable]) -> bytes:
    """Encode a map in the order given, as the Rust library does, not in deterministic order."""
    pieces = [cbor.encode(name) + cbor.encode(value) for name, value in members.items()]
    return bytes([_MAP | len(members)]) + b"".join(pieces)
