"""HPKE, base mode, as RFC 9180 defines it, with exporter: one context, one direction.

Own code stands here only where ``cryptography`` has none: its HPKE seals a single message and has
no exporter (ADR 0005). Every primitive comes from there or from the standard library. Two KEMs
(DHKEM(X25519, HKDF-SHA256) of RFC 9180 and X-Wing of draft-connolly-cfrg-xwing-kem-10), one KDF
(HKDF-SHA256), three AEADs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha3_256, sha256, shake_256
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable

    _Pads = tuple[bytes, bytes]

HASH_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KDF_HKDF_SHA256: Final = 0x0001
_VERSION: Final = b"HPKE-v1"
_MODE_BASE: Final = b"\x00"
_X25519_BYTES: Final = 32
_XWING_LABEL: Final = rb"\.//^" + b"\\"
_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1_184
_MLKEM_CIPHERTEXT_BYTES: Final = 1_088
_SEQUENCE_END: Final = (1 << (8 * NONCE_BYTES)) - 1


class HPKEError(LatensgateError):
    """Base of what this module raises."""

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


# --- HKDF-SHA256 (RFC 5869) on HMAC (RFC 2104) ---

_BLOCK_BYTES: Final = 64
_OUTPUT_MAX_BYTES: Final = 255 * HASH_BYTES
_IPAD: Final = int.from_bytes(b"\x36" * _BLOCK_BYTES, "big")
_OPAD: Final = int.from_bytes(b"\x5c" * _BLOCK_BYTES, "big")


def _pads(key: bytes) -> _Pads:
    """Return the inner and the outer padded key of HMAC-SHA256.

    Kept apart from ``_mac`` because the key schedule uses one key three times: twice as fast as
    three calls of ``hmac.digest``, which alone made the context slower than ADR 0005 demands.
    """
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    number = int.from_bytes(key.ljust(_BLOCK_BYTES, b"\x00"), "big")
    return (
        (number ^ _IPAD).to_bytes(_BLOCK_BYTES, "big"),
        (number ^ _OPAD).to_bytes(_BLOCK_BYTES, "big"),
    )


def _mac(pads: _Pads, message: bytes) -> bytes:
    return sha256(pads[1] + sha256(pads[0] + message).digest()).digest()


_NO_SALT: Final = _pads(b"")


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """Return the 32-byte pseudorandom key of HKDF-SHA256 (RFC 5869, section 2.2)."""
    return _mac(_pads(salt), ikm)


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """Return ``length`` bytes of HKDF-SHA256 output (RFC 5869, section 2.3).

    Raises:
        HPKELimitError: ``length`` is not in 1 to 8,160 bytes.
    """
    _check_output(length)
    pads = _pads(prk)
    block = output = b""
    for counter in range(1, -(-length // HASH_BYTES) + 1):
        block = _mac(pads, block + info + bytes((counter,)))
        output += block
    return output[:length]


def _check_output(length: int) -> None:
    if not 0 < length <= _OUTPUT_MAX_BYTES:
        raise HPKELimitError(f"HKDF output: expected 1 to {_OUTPUT_MAX_BYTES} bytes, not {length}")


# --- KEMs (RFC 9180, section 4; X-Wing draft, section 5) ---


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


_DH_PREFIX: Final = _VERSION + b"KEM\x00\x20"
_EAE_PRK: Final = _DH_PREFIX + b"eae_prk"
_SHARED_SECRET: Final = b"\x00\x20" + _DH_PREFIX + b"shared_secret"


def _extract_and_expand(dh: bytes, kem_context: bytes) -> bytes:
    """RFC 9180, section 4.1; one HMAC block is the whole expansion."""
    prk = _mac(_NO_SALT, _EAE_PRK + dh)
    return _mac(_pads(prk), _SHARED_SECRET + kem_context + b"\x01")


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
            _MODE_BASE + _mac(_NO_SALT, self._prefix + b"psk_id_hash"),
            self._prefix + b"info_hash",
            self._prefix + b"secret",
            aead.key_bytes.to_bytes(2, "big") + self._prefix + b"key",
            NONCE_BYTES.to_bytes(2, "big") + self._prefix + b"base_nonce",
            HASH_BYTES.to_bytes(2, "big") + self._prefix + b"exp",
        )

    def __repr__(self) -> str:
        return f"<Suite {self.id.hex()}>"

    def key_schedule(self, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes, bytes]:
        """Return key, base nonce (12 bytes) and exporter secret (32 bytes).

        No output is longer than one HMAC block, so each expansion is one call.
        """
        no_psk, info_label, secret_label, key_label, nonce_label, exp_label = self._labels
        context = no_psk + _mac(_NO_SALT, info_label + info) + b"\x01"
        secret = _pads(_mac(_pads(shared_secret), secret_label))
        key = _mac(secret, key_label + context)[: self.aead.key_bytes]
        base_nonce = _mac(secret, nonce_label + context)[:NONCE_BYTES]
        return key, base_nonce, _mac(secret, exp_label + context)

    def export(self, exporter_secret: bytes, context: bytes, length: int) -> bytes:
        """``Context.Export`` of RFC 9180, section 5.3, on a bare exporter secret.

        Raises:
            HPKELimitError: ``length`` is not in 1 to 8,160 bytes.
        """
        _check_output(length)
        label = length.to_bytes(2, "big") + self._prefix + b"sec"
        return hkdf_expand(exporter_secret, label + context, length)


class _Context(Concealed):
    __slots__ = ("_exporter_secret", "_messages", "suite")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        key, base_nonce, self._exporter_secret = suite.key_schedule(shared_secret, info)
        self._messages = CounterAEAD(suite.aead, key, base_nonce)
        self.suite = suite

    def export(self, context: bytes, length: int) -> bytes:
        """Return ``length`` secret bytes that belong to ``context`` (RFC 9180, section 5.3).

        Raises:
            HPKELimitError: ``length`` is not in 1 to 8,160 bytes.
        """
        return self.suite.export(self._exporter_secret, context, length)


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
