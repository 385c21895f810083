"""HPKE, base mode, as RFC 9180 defines it, with exporter: one context, one direction.

Own code stands here only where ``cryptography`` has none: its HPKE seals a single message and has
no exporter (ADR 0005). Two KEMs (``hpke_kem``), one KDF (HKDF-SHA256), three AEADs. Import from
here what you need of the other two modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from latensgate_shared.hpke_kem import KEM, X25519, XWING, PrivateKey, PublicKey
from latensgate_shared.hpke_primitives import (
    HASH_BYTES,
    NO_SALT,
    Concealed,
    HPKEError,
    HPKEKeyError,
    HPKELimitError,
    HPKEOpenError,
    check_output_length,
    hkdf_expand,
    hkdf_extract,
    hmac_pads,
    hmac_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.hpke_primitives import Pads

__all__ = [
    "AEAD",
    "AES_128_GCM",
    "AES_256_GCM",
    "CHACHA20_POLY1305",
    "KDF_HKDF_SHA256",
    "KEM",
    "NONCE_BYTES",
    "TAG_BYTES",
    "X25519",
    "XWING",
    "Concealed",
    "CounterAEAD",
    "HPKEError",
    "HPKEKeyError",
    "HPKELimitError",
    "HPKEOpenError",
    "PrivateKey",
    "PublicKey",
    "RecipientContext",
    "SenderContext",
    "Suite",
    "hkdf_expand",
    "hkdf_extract",
    "hmac_pads",
    "hmac_with",
    "setup_recipient",
    "setup_sender",
]

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KDF_HKDF_SHA256: Final = 0x0001
_VERSION: Final = b"HPKE-v1"
_MODE_BASE: Final = b"\x00"
_SEQUENCE_END: Final = (1 << (8 * NONCE_BYTES)) - 1


# --- AEADs (RFC 9180, section 7.3) ---


@dataclass(frozen=True, slots=True)
class AEAD:
    """One row of the AEAD table; all have nonces of 12 and tags of 16 bytes.

    Attributes:
        id: IANA number.
        key_bytes: Length of the key.
        cipher: Makes the cipher object of a key.
    """

    id: int
    key_bytes: int
    cipher: Callable[[bytes], AESGCM | ChaCha20Poly1305]


AES_128_GCM: Final = AEAD(0x0001, 16, AESGCM)
AES_256_GCM: Final = AEAD(0x0002, 32, AESGCM)
CHACHA20_POLY1305: Final = AEAD(0x0003, 32, ChaCha20Poly1305)


class CounterAEAD(Concealed):
    """An AEAD key whose nonce is ``base_nonce XOR counter``, as HPKE and chunked OHTTP have it.

    For one direction: use either ``seal`` or ``open`` on one object.
    """

    __slots__ = ("_base_nonce", "_cipher", "_sequence")

    def __init__(self, aead: AEAD, key: bytes, base_nonce: bytes) -> None:
        self._cipher = aead.cipher(key)
        self._base_nonce = int.from_bytes(base_nonce, "big")
        self._sequence = 0

    def _nonce(self) -> bytes:
        if self._sequence >= _SEQUENCE_END:
            raise HPKELimitError("AEAD: the message counter is used up")
        return (self._base_nonce ^ self._sequence).to_bytes(NONCE_BYTES, "big")

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """Return the ciphertext of the next message, 16 bytes longer than ``plaintext``.

        Raises:
            HPKELimitError: The counter is used up.
        """
        ciphertext = self._cipher.encrypt(self._nonce(), plaintext, aad)
        self._sequence += 1
        return ciphertext

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext of the next message; the counter moves on success only.

        Raises:
            HPKEOpenError: Not the next message under this key with this ``aad``.
            HPKELimitError: The counter is used up.
        """
        try:
            plaintext = self._cipher.decrypt(self._nonce(), ciphertext, aad)
        except (InvalidTag, OverflowError):
            raise HPKEOpenError("AEAD: the message does not open") from None
        self._sequence += 1
        return plaintext


# --- suites, key schedule and contexts (RFC 9180, section 5) ---


Exporter: TypeAlias = "tuple[Pads, bytes]"
"""Key and message of the HMAC that gives the exporter secret."""


class Suite:
    """A KEM and an AEAD with HKDF-SHA256, and what the key schedule needs of them.

    Attributes:
        kem: Row of the KEM table.
        aead: Row of the AEAD table.
        id: kem u16 ‖ kdf u16 ‖ aead u16, big-endian: 6 bytes.
    """

    __slots__ = ("_labels", "_prefix", "aead", "id", "kem")

    def __init__(self, kem: KEM, aead: AEAD) -> None:
        self.kem = kem
        self.aead = aead
        self.id = b"".join(n.to_bytes(2, "big") for n in (kem.id, KDF_HKDF_SHA256, aead.id))
        self._prefix = _VERSION + b"HPKE" + self.id
        self._labels = (
            _MODE_BASE + hmac_with(NO_SALT, self._prefix + b"psk_id_hash"),
            self._prefix + b"info_hash",
            self._prefix + b"secret",
            aead.key_bytes.to_bytes(2, "big") + self._prefix + b"key",
            NONCE_BYTES.to_bytes(2, "big") + self._prefix + b"base_nonce",
            HASH_BYTES.to_bytes(2, "big") + self._prefix + b"exp",
        )

    def __repr__(self) -> str:
        return f"<Suite {self.id.hex()}>"

    def key_schedule(self, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes, Exporter]:
        """Return key, base nonce (12 bytes) and what the exporter secret is made of when needed.

        No output is longer than one HMAC block, so each expansion is one call.
        """
        no_psk, info_label, secret_label, key_label, nonce_label, exp_label = self._labels
        context = no_psk + hmac_with(NO_SALT, info_label + info) + b"\x01"
        secret = hmac_pads(hmac_with(hmac_pads(shared_secret), secret_label))
        key = hmac_with(secret, key_label + context)[: self.aead.key_bytes]
        base_nonce = hmac_with(secret, nonce_label + context)[:NONCE_BYTES]
        return key, base_nonce, (secret, exp_label + context)

    def export(self, exporter: Exporter, context: bytes, length: int) -> bytes:
        """``Context.Export`` of RFC 9180, section 5.3.

        Raises:
            HPKELimitError: ``length`` is not in 1 to 8,160 bytes.
        """
        check_output_length(length)
        label = length.to_bytes(2, "big") + self._prefix + b"sec"
        return hkdf_expand(exporter_secret(exporter), label + context, length)


def exporter_secret(exporter: Exporter) -> bytes:
    """Return the exporter secret (32 bytes): one HMAC, spent only by who exports."""
    return hmac_with(*exporter)


class _Context(Concealed):
    __slots__ = ("_exporter", "_messages", "suite")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        key, base_nonce, self._exporter = suite.key_schedule(shared_secret, info)
        self._messages = CounterAEAD(suite.aead, key, base_nonce)
        self.suite = suite

    def export(self, context: bytes, length: int) -> bytes:
        """Return ``length`` secret bytes that belong to ``context`` (RFC 9180, section 5.3).

        Raises:
            HPKELimitError: ``length`` is not in 1 to 8,160 bytes.
        """
        return self.suite.export(self._exporter, context, length)


class SenderContext(_Context):
    """Seals messages to one recipient, in order."""

    __slots__ = ()

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """Seal the next message; see ``CounterAEAD.seal``."""
        return self._messages.seal(aad, plaintext)


class RecipientContext(_Context):
    """Opens messages of one sender, in order."""

    __slots__ = ()

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Open the next message; see ``CounterAEAD.open``."""
        return self._messages.open(aad, ciphertext)


def _check_kem(suite: Suite, key: PublicKey | PrivateKey) -> None:
    if key.kem_id != suite.kem.id:
        raise HPKEKeyError(f"key: expected KEM {suite.kem.id:#06x}, found {key.kem_id:#06x}")


def setup_sender(suite: Suite, public_key: PublicKey, info: bytes) -> tuple[bytes, SenderContext]:
    """``SetupBaseS`` of RFC 9180: return ``enc`` and the context.

    Raises:
        HPKEKeyError: The key is of another KEM or gives an all-zero X25519 result.
    """
    _check_kem(suite, public_key)
    shared_secret, enc = public_key.encapsulate()
    return enc, SenderContext(suite, shared_secret, info)


def setup_recipient(
    suite: Suite, private_key: PrivateKey, enc: bytes, info: bytes
) -> RecipientContext:
    """``SetupBaseR`` of RFC 9180.

    Raises:
        HPKEKeyError: The key is of another KEM, or ``enc`` has a wrong length or gives an
            all-zero X25519 result.
    """
    _check_kem(suite, private_key)
    return RecipientContext(suite, private_key.decapsulate(enc), info)
