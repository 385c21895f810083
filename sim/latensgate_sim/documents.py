"""Attestation documents byte for byte as the Nitro device writes them today (facts A2).

An untagged COSE_Sign1; the payload map has indefinite length and this field order; absent fields
are null; the timestamp takes nine bytes. The writer is our own and small because the layout is the
point: a library would choose another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from latensgate_shared import cbor, cose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROTECTED: Final = bytes.fromhex("a1013822")
"""{1: -35}: ES384."""
_COORDINATE_BYTES: Final = 48


@dataclass(frozen=True, slots=True)
class Payload:
    """The nine fields, in the order of the bytes.

    Attributes:
        timestamp_ms: Milliseconds since 1970.
        pcrs: Locked PCRs by index.
        certificate: Leaf, DER.
        cabundle: root, regional, zonal, instance, DER.
    """

    module_id: str
    timestamp_ms: int
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: Sequence[bytes]
    public_key: bytes | None = None
    user_data: bytes | None = None
    nonce: bytes | None = None

    def encode(self) -> bytes:
        """The payload map, indefinite outside and definite inside."""
        fields: dict[str, cbor.CBOREncodable] = {
            "module_id": self.module_id,
            "digest": "SHA384",
            "timestamp": self.timestamp_ms,
            "pcrs": self.pcrs,
            "certificate": self.certificate,
            "cabundle": list(self.cabundle),
            "public_key": self.public_key,
            "user_data": self.user_data,
            "nonce": self.nonce,
        }
        body = b"".join(cbor.encode(key) + cbor.encode(value) for key, value in fields.items())
        return b"\xbf" + body + b"\xff"


def sign(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Wrap an encoded payload in an untagged COSE_Sign1 under ES384; returns the document."""
    der = key.sign(cose.sig_structure(PROTECTED, payload), ec.ECDSA(hashes.SHA384()))
    r, s = decode_dss_signature(der)
    signature = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
    parts = (cbor.encode(PROTECTED), b"\xa0", cbor.encode(payload), cbor.encode(signature))
    return b"\x84" + b"".join(parts)
