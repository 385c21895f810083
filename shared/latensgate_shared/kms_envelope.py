"""The body under a data key of the tenant's own KMS key (docs/spec/wire.md section 5, DESIGN 3.6).

The client makes the data key with its own credentials and seals the body under it; the enclave gets
the data key back from KMS, which releases it to the measured image only.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from latensgate_shared.errors import ErrorCode, LatensgateError

PURPOSE: Final = "latensgate/1 request body"
DATA_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class EnvelopeError(LatensgateError):
    """The data key is none, or the body is not under it."""

    code = ErrorCode.ERR_KMS_ENVELOPE


def encryption_context(tenant_id: str) -> dict[str, str]:
    """Return the KMS encryption context of a tenant's data keys."""
    return {"purpose": PURPOSE, "tenant": tenant_id}


def seal_body(data_key: bytes, request_id: str, body: bytes) -> bytes:
    """Return nonce (12 bytes) ‖ AES-256-GCM(data key, body, AAD = request_id).

    Raises:
        EnvelopeError: The data key is not 32 bytes.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(data_key).encrypt(nonce, body, request_id.encode("ascii"))


def open_body(data_key: bytes | bytearray, request_id: str, sealed_body: bytes) -> bytes:
    """Return what `seal_body` was given.

    Raises:
        EnvelopeError: It does not open, or the data key is not 32 bytes.
    """
    nonce, ciphertext = sealed_body[:_NONCE_BYTES], sealed_body[_NONCE_BYTES:]
    try:
        return _cipher(data_key).decrypt(nonce, ciphertext, request_id.encode("ascii"))
    except (InvalidTag, ValueError):
        raise EnvelopeError("KMS envelope: the body does not open under the data key") from None


def _cipher(data_key: bytes | bytearray) -> AESGCM:
    if len(data_key) != DATA_KEY_BYTES:
        raise EnvelopeError(
            f"KMS envelope: a data key of {DATA_KEY_BYTES} bytes expected, found {len(data_key)}"
        )
    return AESGCM(data_key)
