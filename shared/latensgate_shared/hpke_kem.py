"""The two KEMs of HPKE here, with keys as objects that are loaded once.

DHKEM(X25519, HKDF-SHA256) is RFC 9180, section 4.1; X-Wing (MLKEM768-X25519) is
draft-connolly-cfrg-xwing-kem-10, section 5. The primitives are those of ``cryptography``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha3_256, shake_256
from typing import TYPE_CHECKING, ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from latensgate_shared.hpke_primitives import (
    NO_SALT,
    Concealed,
    HPKEKeyError,
    hmac_pads,
    hmac_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_X25519_BYTES: Final = 32
_XWING_LABEL: Final = rb"\.//^" + b"\\"
_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1_184
_MLKEM_CIPHERTEXT_BYTES: Final = 1_088


class PublicKey(ABC):
    """A recipient's public key, loaded once and checked.

    Attributes:
        raw: As it travels; 32 bytes (X25519) or 1,216 bytes (X-Wing).
    """

    __slots__ = ("raw",)
    kem_id: ClassVar[int]
    raw: bytes

    @abstractmethod
    def encapsulate(self) -> tuple[bytes, bytes]:
        """Return a fresh 32-byte shared secret and ``enc``.

        Raises:
            HPKEKeyError: The public key gives an all-zero X25519 result.
        """


class PrivateKey(Concealed, ABC):
    """A recipient's private key, loaded once: loading X-Wing costs more than using it.

    Attributes:
        public_key: The other half.
    """

    __slots__ = ("public_key",)
    kem_id: ClassVar[int]
    public_key: PublicKey

    @abstractmethod
    def decapsulate(self, enc: bytes) -> bytes:
        """Return the 32-byte shared secret.

        Raises:
            HPKEKeyError: ``enc`` has a wrong length or gives an all-zero X25519 result.
        """


def _check_length(what: str, data: bytes, expected: int) -> None:
    if len(data) != expected:
        raise HPKEKeyError(f"{what}: expected {expected} bytes, found {len(data)}")


def _exchange(private: X25519PrivateKey, public: X25519PublicKey) -> bytes:
    try:
        return private.exchange(public)  # the library refuses the all-zero result; a test holds it
    except ValueError:
        raise HPKEKeyError("X25519: the peer's point has small order") from None


_DH_PREFIX: Final = b"HPKE-v1KEM\x00\x20"
_EAE_PRK: Final = _DH_PREFIX + b"eae_prk"
_SHARED_SECRET: Final = b"\x00\x20" + _DH_PREFIX + b"shared_secret"


def _extract_and_expand(dh: bytes, kem_context: bytes) -> bytes:
    """RFC 9180, section 4.1; one HMAC block is the whole expansion."""
    prk = hmac_with(NO_SALT, _EAE_PRK + dh)
    return hmac_with(hmac_pads(prk), _SHARED_SECRET + kem_context + b"\x01")


class X25519KEMPublicKey(PublicKey):
    """DHKEM(X25519, HKDF-SHA256): 32 bytes."""

    __slots__ = ("_key",)
    kem_id = 0x0020

    def __init__(self, raw: bytes) -> None:
        """Load ``raw``.

        Raises:
            HPKEKeyError: Not 32 bytes.
        """
        _check_length("X25519 public key", raw, _X25519_BYTES)
        self.raw = raw
        self._key = X25519PublicKey.from_public_bytes(raw)

    def encapsulate(self) -> tuple[bytes, bytes]:
        """Return shared secret and ``enc`` (32 bytes each)."""
        return self._encapsulate_from(X25519PrivateKey.generate())

    def _encapsulate_from(self, ephemeral: X25519PrivateKey) -> tuple[bytes, bytes]:
        """Take the ephemeral key as an argument, so that published vectors can be checked."""
        enc = ephemeral.public_key().public_bytes_raw()
        return _extract_and_expand(_exchange(ephemeral, self._key), enc + self.raw), enc


class X25519KEMPrivateKey(PrivateKey):
    """DHKEM(X25519, HKDF-SHA256): 32 bytes."""

    __slots__ = ("_key",)
    kem_id = X25519KEMPublicKey.kem_id

    def __init__(self, raw: bytes) -> None:
        """Load ``raw``.

        Raises:
            HPKEKeyError: Not 32 bytes.
        """
        _check_length("X25519 private key", raw, _X25519_BYTES)
        self._key = X25519PrivateKey.from_private_bytes(raw)
        self.public_key = X25519KEMPublicKey(self._key.public_key().public_bytes_raw())

    def decapsulate(self, enc: bytes) -> bytes:
        """Return the shared secret of ``enc`` (32 bytes)."""
        _check_length("X25519 enc", enc, _X25519_BYTES)
        dh = _exchange(self._key, X25519PublicKey.from_public_bytes(enc))
        return _extract_and_expand(dh, enc + self.public_key.raw)


class XWingPublicKey(PublicKey):
    """X-Wing: ML-KEM-768 encapsulation key (1,184 bytes) and X25519 key (32 bytes)."""

    __slots__ = ("_mlkem", "_x25519", "x25519_raw")
    kem_id = 0x647A

    def __init__(self, raw: bytes) -> None:
        """Load ``raw``.

        Raises:
            HPKEKeyError: Not 1,216 bytes, or not an ML-KEM-768 key (FIPS 203, section 7.2).
        """
        _check_length("X-Wing public key", raw, XWING.public_key_bytes)
        self.raw = raw
        self.x25519_raw = raw[_MLKEM_PUBLIC_BYTES:]
        self._x25519 = X25519PublicKey.from_public_bytes(self.x25519_raw)
        try:
            self._mlkem = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES])
        except ValueError:
            raise HPKEKeyError("X-Wing public key: its first part is no ML-KEM-768 key") from None

    def encapsulate(self) -> tuple[bytes, bytes]:
        """Return shared secret (32 bytes) and ``enc`` (1,120 bytes)."""
        ss_m, ct_m = self._mlkem.encapsulate()
        ephemeral = X25519PrivateKey.generate()
        ct_x = ephemeral.public_key().public_bytes_raw()
        ss_x = _exchange(ephemeral, self._x25519)
        return _xwing_combine(ss_m, ss_x, ct_x, self.x25519_raw), ct_m + ct_x


class XWingPrivateKey(PrivateKey):
    """X-Wing: a seed of 32 bytes, expanded by SHAKE256 (draft, section 5.2)."""

    __slots__ = ("_mlkem", "_x25519", "_x25519_public")
    kem_id = XWingPublicKey.kem_id

    def __init__(self, raw: bytes) -> None:
        """Load the seed ``raw``.

        Raises:
            HPKEKeyError: Not 32 bytes.
        """
        _check_length("X-Wing private key", raw, XWING.private_key_bytes)
        expanded = shake_256(raw).digest(_MLKEM_SEED_BYTES + _X25519_BYTES)
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        self._x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])
        self._x25519_public = self._x25519.public_key().public_bytes_raw()
        mlkem_public = self._mlkem.public_key().public_bytes_raw()
        self.public_key = XWingPublicKey(mlkem_public + self._x25519_public)

    def decapsulate(self, enc: bytes) -> bytes:
        """Return the shared secret of ``enc`` (1,120 bytes).

        ML-KEM rejects implicitly: a changed ``enc`` gives another secret, which opens nothing.
        """
        _check_length("X-Wing enc", enc, XWING.enc_bytes)
        ct_x = enc[_MLKEM_CIPHERTEXT_BYTES:]
        ss_x = _exchange(self._x25519, X25519PublicKey.from_public_bytes(ct_x))
        ss_m = self._mlkem.decapsulate(enc[:_MLKEM_CIPHERTEXT_BYTES])
        return _xwing_combine(ss_m, ss_x, ct_x, self._x25519_public)


def _xwing_combine(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    return sha3_256(ss_m + ss_x + ct_x + pk_x + _XWING_LABEL).digest()


@dataclass(frozen=True, slots=True)
class KEM:
    """One row of the KEM table.

    Attributes:
        id: IANA number.
        public_key_bytes: Length of a public key.
        private_key_bytes: Length of a private key.
        enc_bytes: Length of an encapsulated key.
        load_public_key: Makes the object of the raw public key; raises HPKEKeyError.
        load_private_key: Makes the object of the raw private key; raises HPKEKeyError.
    """

    id: int
    public_key_bytes: int
    private_key_bytes: int
    enc_bytes: int
    load_public_key: Callable[[bytes], PublicKey]
    load_private_key: Callable[[bytes], PrivateKey]


X25519: Final = KEM(0x0020, 32, 32, 32, X25519KEMPublicKey, X25519KEMPrivateKey)
XWING: Final = KEM(0x647A, 1_216, 32, 1_120, XWingPublicKey, XWingPrivateKey)
