"""What the parts of HPKE share: its errors, and HKDF-SHA256 (RFC 5869) on HMAC (RFC 2104)."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NoReturn

from latensgate_shared.errors import ErrorCode, LatensgateError

Pads = tuple[bytes, bytes]
"""A key of HMAC-SHA256, padded for the inner and for the outer hash: 64 bytes each."""
HASH_BYTES: Final = 32
_BLOCK_BYTES: Final = 64
_OUTPUT_MAX_BYTES: Final = 255 * HASH_BYTES
_IPAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OPAD: Final = bytes(byte ^ 0x5C for byte in range(256))


class HPKEError(LatensgateError):
    """Base of what HPKE raises."""

    code = ErrorCode.ERR_OPEN_FAILED


class HPKEKeyError(HPKEError):
    """A key or an encapsulated key that is none: wrong length, wrong KEM, no valid point."""

    code = ErrorCode.ERR_MALFORMED


class HPKEOpenError(HPKEError):
    """A ciphertext that this context does not open."""


class HPKELimitError(HPKEError):
    """More messages or more exported bytes than RFC 9180 allows: a fault of the caller."""

    code = ErrorCode.ERR_INTERNAL


class Concealed:
    """Base of objects that hold a secret: they print as their name only and refuse pickling."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is never written out")


def hmac_pads(key: bytes) -> Pads:
    """Return the inner and the outer padded key of HMAC-SHA256.

    Apart from ``hmac_with`` because the key schedule uses one key three times: twice as fast as
    three calls of ``hmac.digest``, whose cost showed in every request (ADR 0005).
    """
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    block = key.ljust(_BLOCK_BYTES, b"\x00")
    return block.translate(_IPAD), block.translate(_OPAD)


def hmac_with(pads: Pads, message: bytes) -> bytes:
    """Return the HMAC-SHA256 of ``message``: 32 bytes."""
    return sha256(pads[1] + sha256(pads[0] + message).digest()).digest()


NO_SALT: Final = hmac_pads(b"")


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """Return the 32-byte pseudorandom key of HKDF-SHA256 (RFC 5869, section 2.2)."""
    return hmac_with(hmac_pads(salt), ikm)


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """Return ``length`` bytes of HKDF-SHA256 output (RFC 5869, section 2.3).

    Raises:
        HPKELimitError: ``length`` is not in 1 to 8,160 bytes.
    """
    check_output_length(length)
    pads = hmac_pads(prk)
    block = output = b""
    for counter in range(1, -(-length // HASH_BYTES) + 1):
        block = hmac_with(pads, block + info + bytes((counter,)))
        output += block
    return output[:length]


def check_output_length(length: int) -> None:
    """Refuse what HKDF-SHA256 cannot give.

    Raises:
        HPKELimitError: ``length`` is not in 1 to 8,160 bytes.
    """
    if not 0 < length <= _OUTPUT_MAX_BYTES:
        raise HPKELimitError(f"HKDF output: expected 1 to {_OUTPUT_MAX_BYTES} bytes, not {length}")
