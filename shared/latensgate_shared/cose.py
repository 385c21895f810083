"""COSE_Sign1 (RFC 9052, section 4.2): reading it, and the bytes that its signature covers.

Nothing here judges a signature; algorithms, keys and sizes are the caller's profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from latensgate_shared import cbor
from latensgate_shared.errors import MalformedError, TooLargeError

if TYPE_CHECKING:
    from latensgate_shared.cbor import CBORValue

_TAG_SIGN1: Final = b"\xd2"
_EMPTY_MAP: Final = b"\xa0"
_ELEMENTS: Final = 4


class COSEError(MalformedError):
    """CBOR that is not the COSE_Sign1 structure."""


@dataclass(frozen=True, slots=True)
class UntrustedSign1:
    """A COSE_Sign1 whose signature nobody has checked yet.

    Attributes:
        protected: Protected header as it was sent, byte for byte; a map, or empty.
        unprotected: Unprotected header. Not signed: never take an algorithm or a key from it.
        payload: What is signed.
        signature: As long as the sender made it.
    """

    protected: bytes
    unprotected: dict[int | str, CBORValue]
    payload: bytes
    signature: bytes


def parse_sign1(data: bytes, *, max_bytes: int) -> UntrustedSign1:
    """Read a COSE_Sign1, tagged (18) or not, with an attached payload.

    Args:
        data: The whole encoding.
        max_bytes: Largest ``data`` admitted, in bytes.

    Raises:
        TooLargeError: ``data`` is longer than ``max_bytes``.
        MalformedError: Not strict CBOR, or not this structure.
    """
    if len(data) > max_bytes:
        raise TooLargeError(f"COSE_Sign1: {len(data)} bytes, at most {max_bytes} expected")
    value = cbor.decode(data.removeprefix(_TAG_SIGN1), max_bytes=max_bytes)
    if not isinstance(value, list) or len(value) != _ELEMENTS:
        raise COSEError(f"COSE_Sign1: {_describe(value)}, an array of four expected")
    protected, unprotected, payload, signature = value
    if not isinstance(protected, bytes):
        raise COSEError(f"COSE_Sign1: protected header is {_describe(protected)}, not bytes")
    if not isinstance(unprotected, dict):
        raise COSEError(f"COSE_Sign1: unprotected header is {_describe(unprotected)}, not a map")
    if not isinstance(payload, bytes):
        raise COSEError(f"COSE_Sign1: payload is {_describe(payload)}, not bytes")
    if not isinstance(signature, bytes):
        raise COSEError(f"COSE_Sign1: signature is {_describe(signature)}, not bytes")
    _check_headers(protected, unprotected)
    return UntrustedSign1(protected, unprotected, payload, signature)


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """Return the bytes that a COSE_Sign1 signature covers (RFC 9052, section 4.4).

    ``external_aad`` is empty: no document of ours or of AWS has one. An empty protected map counts
    as the empty string. ``protected`` is used as it was sent and never encoded again, so a header
    in another form cannot borrow a signature.
    """
    signed = b"" if protected == _EMPTY_MAP else protected
    return cbor.encode(["Signature1", signed, b"", payload])


def signed_digest(message: UntrustedSign1) -> bytes:
    """Return SHA-384 of what the signature covers (48 bytes): what ES384 signs."""
    return sha384(sig_structure(message.protected, message.payload)).digest()


def attestation_hash(digest: bytes) -> str:
    """Return the name of a document: ``sha384:`` and the hex of its ``signed_digest``.

    Over what is signed and not over the document's bytes, which have several valid forms
    (docs/spec/attestation-binding.md section 1).
    """
    return f"sha384:{digest.hex()}"


def _check_headers(protected: bytes, unprotected: dict[int | str, CBORValue]) -> None:
    """Demand a map in the protected header, and no label in both (RFC 9052, section 3)."""
    if not protected:
        return
    header = cbor.decode(protected, max_bytes=len(protected))
    if not isinstance(header, dict):
        raise COSEError(f"COSE_Sign1: protected header holds {_describe(header)}, not a map")
    if not header.keys().isdisjoint(unprotected):
        raise COSEError("COSE_Sign1: a label stands in both headers")


def _describe(value: CBORValue) -> str:
    """Say what kind of value was found, never what it holds."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    return f"a value of type {type(value).__name__}"
