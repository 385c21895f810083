"""HPKE, X-Wing, framing and padding, written from the specifications for the vectors alone.

Sources: RFC 9180 (HPKE), RFC 5869 (HKDF), draft-connolly-cfrg-xwing-kem (X-Wing), RFC 9000
section 16 (variable-length integers), docs/spec/wire.md.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias, cast

import rfc8785
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Callable

    from vectors.case import Json

KDF_ID = 0x0001
AEAD_ID = 0x0002
XWING_ID = 0x647A
X25519_ID = 0x0020


_TwoSeeds: TypeAlias = "Callable[[bytes, bytes], tuple[bytes, bytes]]"
_ML_KEM_768 = import_module("kyber_py.ml_kem").ML_KEM_768
# The deterministic functions of FIPS 203 (algorithms 16 and 17) have no public name there.
_keygen = cast("_TwoSeeds", attrgetter("_keygen_internal")(_ML_KEM_768))
_encapsulate = cast("_TwoSeeds", attrgetter("_encaps_internal")(_ML_KEM_768))


def jcs(value: Json) -> bytes:
    """RFC 8785, by a library that the project does not use."""
    return rfc8785.dumps(cast("dict[str, str]", value))


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """RFC 5869, section 2.2, with SHA-256."""
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, with SHA-256."""
    block, out = b"", b""
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2) + b"HPKE-v1" + suite + label + info
    return hkdf_expand(prk, labeled, length)


def x25519_public(private: bytes) -> bytes:
    """RFC 7748."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x25519_shared(private: bytes, public: bytes) -> bytes:
    """RFC 7748; the library refuses an all-zero result."""
    return X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(public)
    )


def _xwing_expand(seed: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the ML-KEM public key, the X25519 private key and the X25519 public key."""
    stretched = hashlib.shake_256(seed).digest(96)
    public_m, _ = _keygen(stretched[:32], stretched[32:64])
    return public_m, stretched[64:], x25519_public(stretched[64:])


def xwing_encapsulate(public: bytes, eseed: bytes) -> tuple[bytes, bytes]:
    """Return (shared secret, ciphertext) for 64 bytes of "randomness"."""
    public_m, public_x = public[:1184], public[1184:]
    shared_m, ct_m = _encapsulate(public_m, eseed[:32])
    ct_x = x25519_public(eseed[32:])
    shared_x = x25519_shared(eseed[32:], public_x)
    label = bytes.fromhex("5c2e2f2f5e5c")  # the drawing of an X-wing in ASCII
    shared = hashlib.sha3_256(shared_m + shared_x + ct_x + public_x + label).digest()
    return shared, ct_m + ct_x


def _dhkem_encapsulate(public: bytes, ephemeral: bytes) -> tuple[bytes, bytes]:
    suite = b"KEM" + X25519_ID.to_bytes(2)
    enc = x25519_public(ephemeral)
    prk = _labeled_extract(suite, b"", b"eae_prk", x25519_shared(ephemeral, public))
    return _labeled_expand(suite, prk, b"shared_secret", enc + public, 32), enc


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A recipient: ``private`` is the 32-byte seed (X-Wing) or scalar (X25519)."""

    kem_id: int
    private: bytes

    @property
    def public(self) -> bytes:
        """Serialised public key, 1,216 or 32 bytes."""
        if self.kem_id == X25519_ID:
            return x25519_public(self.private)
        public_m, _, public_x = _xwing_expand(self.private)
        return public_m + public_x

    @property
    def suite(self) -> bytes:
        """Kem ‖ kdf ‖ aead."""
        return self.kem_id.to_bytes(2) + KDF_ID.to_bytes(2) + AEAD_ID.to_bytes(2)

    @property
    def key_id(self) -> bytes:
        """wire.md section 4."""
        return hashlib.sha256(b"\x01" + self.suite + self.public).digest()[:8]

    @property
    def header(self) -> bytes:
        """wire.md section 4: 15 bytes."""
        return b"\x01" + self.key_id + self.suite


@dataclass(frozen=True, slots=True)
class Sender:
    """An HPKE sender context with the sequence number in the caller's hand."""

    suite: bytes
    key: bytes
    base_nonce: bytes
    exporter: bytes

    def seal(self, sequence: int, aad: bytes, plaintext: bytes) -> bytes:
        """RFC 9180, section 5.2."""
        return AESGCM(self.key).encrypt(xor_nonce(self.base_nonce, sequence), plaintext, aad)

    def export(self, context: bytes, length: int) -> bytes:
        """RFC 9180, section 5.3."""
        return _labeled_expand(self.suite, self.exporter, b"sec", context, length)


def xor_nonce(base: bytes, sequence: int) -> bytes:
    """Return 96-bit nonce number ``sequence``."""
    return (int.from_bytes(base) ^ sequence).to_bytes(12)


def setup_base(key: KeyPair, info: bytes, randomness: bytes) -> tuple[bytes, Sender]:
    """RFC 9180, section 5.1.1, with the randomness given: 64 bytes (X-Wing) or 32 (X25519)."""
    encapsulate = _dhkem_encapsulate if key.kem_id == X25519_ID else xwing_encapsulate
    shared, enc = encapsulate(key.public, randomness)
    suite = b"HPKE" + key.suite
    context = (
        b"\x00"
        + _labeled_extract(suite, b"", b"psk_id_hash", b"")
        + _labeled_extract(suite, b"", b"info_hash", info)
    )
    secret = _labeled_extract(suite, shared, b"secret", b"")
    return enc, Sender(
        suite,
        _labeled_expand(suite, secret, b"key", context, 32),
        _labeled_expand(suite, secret, b"base_nonce", context, 12),
        _labeled_expand(suite, secret, b"exp", context, 32),
    )


def varint(value: int) -> bytes:
    """RFC 9000 section 16, shortest form."""
    for prefix, length in ((0, 1), (1, 2), (2, 4), (3, 8)):
        if value < 1 << (8 * length - 2):
            return long_varint(value, prefix, length)
    raise AssertionError(f"{value} does not fit")


def long_varint(value: int, prefix: int, length: int) -> bytes:
    """RFC 9000 section 16 in a chosen length, shortest or not."""
    return (value | prefix << (8 * length - 2)).to_bytes(length)


def padme(length: int) -> int:
    """wire.md section 8, by its words."""
    if length <= 1:
        return length
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step
