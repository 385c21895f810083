"""Ed25519 verification, strict: one key and one signature have one encoding each.

OpenSSL, which does the work, refuses S at or above the group order and an R that is not its
canonical encoding, but takes public keys of small order and coordinates that are not reduced
(shown in tests/conformance/test_wycheproof_ed25519.py). Under a key of small order one signature
fits many messages, so a signature would prove nothing.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from latensgate_shared.errors import MalformedError

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_PRIME: Final = 2**255 - 19
_SIGN_BIT: Final = 1 << 255
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""y of all eight points whose order divides 8; the test computes them again from the curve."""


class SignatureError(MalformedError):
    """A key, a signature or their relation to a message that is not good."""


def verify_ed25519(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature (RFC 8032, section 5.1.7) under the strict rules above.

    Args:
        public_key: 32 bytes.
        message: What was signed.
        signature: 64 bytes.

    Raises:
        SignatureError: The key is not acceptable or the signature is not its own.
    """
    check_public_key(public_key)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        raise SignatureError("Ed25519: the signature is not this key's over these bytes") from None


def check_public_key(public_key: bytes) -> None:
    """Refuse a key of another length, of small order, or in a second encoding.

    Raises:
        SignatureError: One of the above.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise SignatureError(
            f"Ed25519: a key of {PUBLIC_KEY_BYTES} bytes expected, found {len(public_key)}"
        )
    y = int.from_bytes(public_key, "little") % _SIGN_BIT
    if y >= _PRIME:
        raise SignatureError("Ed25519: the canonical encoding of the key expected")
    if y in _SMALL_ORDER_Y:
        raise SignatureError("Ed25519: a key that is not of small order expected")
